"""Frames out of files of every kind and into them, and to a model's size and back."""

import io
import zipfile
from fractions import Fraction

import av
import h5py
import numpy as np
import pytest
from PIL import Image

from nem_tf.errors import UserError
from nem_tf.media import (
    NO_LABEL,
    Clip,
    Converter,
    Fit,
    Frame,
    LabelsFile,
    clips_of,
    overlay_name,
    overlay_writer,
    sources_of,
)
from nem_tf.media.writing import VideoWriter

UNEVEN = [Fraction(each, 100) for each in (0, 10, 30, 40, 100)]  # seconds


def colours(n=5, height=24, width=32):
    """Flat patches that move, which no codec harms much; uint8 [n, H, W, 3]."""
    frames = np.zeros((n, height, width, 3), np.uint8)
    for t in range(n):
        frames[t, 8:16, 4 + 2 * t : 16 + 2 * t] = (220, 60, 40)
    return frames


def write(path, frames, starts=None, rate=10, suffix=None):
    with VideoWriter(path, suffix or path.suffix, frames.shape[1:3], Fraction(rate)) as writer:
        for t, frame in enumerate(frames):
            writer.add(frame, starts[t] if starts else Fraction(t, rate))
    return path


def encode(path, codec, pixel_format, frames, source_format="rgb24", **options):
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=10, options=options)
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = pixel_format
        container.start_encoding()
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format=source_format)))
        container.mux(stream.encode(None))
    return path


def the_clip(*arguments, **options):
    (source,) = sources_of([str(each) for each in arguments])
    (clip,) = clips_of(source, **options)
    return clip


def pixels_of(clip):
    return np.stack([frame.pixels for frame in clip])


# ---- Videos and animations.


@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".m4v", ".mkv", ".webm", ".gif", ".webp"])
def test_pictures_and_their_times_survive_a_file_and_its_overlay(tmp_path, suffix):
    """Uneven times too. The overlay is written from what was read of the file."""
    frames = colours()
    clip = the_clip(write(tmp_path / f"a{suffix}", frames, UNEVEN))
    assert (clip.stem, clip.suffix, clip.size) == ("a", suffix, (24, 32))
    assert overlay_name(clip) == f"a.overlay{suffix}"
    read = list(clip)
    with overlay_writer(tmp_path / f"b{suffix}", clip) as writer:
        for frame in read:
            writer.add(frame.pixels[..., :3], frame.start)
    for found in (read, list(the_clip(tmp_path / f"b{suffix}"))):
        assert [float(frame.start) for frame in found] == pytest.approx([float(start) for start in UNEVEN], abs=2e-3)
        shown = np.stack([frame.pixels[..., :3] for frame in found]).astype(int)
        # 4:2:0 smears colours at edges
        assert np.abs(shown - frames).mean() < 8
        assert np.abs(shown[:, 10:14, 14] - frames[:, 10:14, 14]).max() < 40


def test_avi_has_frames_at_a_rate(tmp_path):
    frames = colours()
    clip = the_clip(write(tmp_path / "a.avi", frames))
    read = list(clip)
    assert (clip.rate, len(read)) == (10, 5)
    assert [frame.start for frame in read] == [Fraction(t, 10) for t in range(5)]
    assert np.abs(pixels_of(the_clip(tmp_path / "a.avi")).astype(int) - frames).mean() < 5


@pytest.mark.parametrize("suffix", [".mp4", ".webm", ".gif", ".webp"])
def test_odd_sizes_stay_what_they_are(tmp_path, suffix):
    frames = colours(height=25, width=33)
    assert the_clip(write(tmp_path / f"a{suffix}", frames)).size == (25, 33)


def test_a_gif_is_written_frame_by_frame_and_endless(tmp_path):
    with Image.open(write(tmp_path / "a.gif", colours(), UNEVEN)) as image:
        assert (image.n_frames, image.info["loop"]) == (5, 0)
        image.seek(2)
        np.testing.assert_array_equal(np.asarray(image.convert("RGB")), colours()[2])


def test_ten_bits_grey_transparency_and_sound_are_told(tmp_path):
    frames = colours()
    deep = the_clip(encode(tmp_path / "deep.mkv", "ffv1", "yuv420p10le", frames))
    assert deep.notes == ["10 bit to 8 bit"]
    assert pixels_of(deep).dtype == np.uint8
    grey = the_clip(encode(tmp_path / "grey.mkv", "ffv1", "gray", frames[..., 0], "gray"))
    np.testing.assert_array_equal(pixels_of(grey), frames[..., :1])
    clear = np.concatenate([frames, np.full((*frames.shape[:3], 1), 128, np.uint8)], axis=-1)
    clip = the_clip(encode(tmp_path / "clear.mov", "png", "rgba", clear, "rgba"))
    np.testing.assert_array_equal(pixels_of(clip), clear)

    with av.open(str(tmp_path / "loud.mkv"), "w") as container:
        stream, sound = container.add_stream("ffv1", rate=10), container.add_stream("pcm_s16le", rate=8000)
        stream.height, stream.width, stream.pix_fmt = 24, 32, "yuv420p"
        sound.layout = "mono"
        heard = av.AudioFrame.from_ndarray(np.zeros((1, 800), np.int16), format="s16", layout="mono")
        heard.sample_rate = 8000
        container.mux(sound.encode(heard))
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode(None))
    assert the_clip(tmp_path / "loud.mkv").notes == ["sound left out"]


def test_a_video_is_turned_as_its_telephone_was(tmp_path, monkeypatch):
    """What a display matrix says, stood in for: no encoder here writes one."""
    path = write(tmp_path / "a.mp4", colours())
    upright = pixels_of(the_clip(path))

    class Turned:
        def __init__(self, frame):
            self._frame = frame

        rotation = -90

        def __getattr__(self, name):
            return getattr(self._frame, name)

    opened = av.open

    class Container:
        def __init__(self, *args):
            self._container = opened(*args)
            self.streams, self.duration = self._container.streams, self._container.duration

        def decode(self, stream):
            return map(Turned, self._container.decode(stream))

        def __enter__(self):
            return self

        def __exit__(self, *error):
            self._container.close()

    monkeypatch.setattr(av, "open", Container)
    np.testing.assert_array_equal(pixels_of(the_clip(path)), np.rot90(upright, -1, axes=(1, 2)))


def test_a_transparent_gif(tmp_path):
    clear = np.zeros((2, 4, 6, 4), np.uint8)
    clear[:, 1:3, 2:4] = (200, 0, 0, 255)
    clear[1, 1, 2] = (0, 0, 200, 255)
    first, second = (Image.fromarray(frame) for frame in clear)
    first.save(tmp_path / "a.gif", save_all=True, append_images=[second], duration=[50, 0], disposal=2, loop=0)
    clip = the_clip(tmp_path / "a.gif")
    frames = list(clip)
    np.testing.assert_array_equal([frame.pixels[..., 3] for frame in frames], clear[..., 3])
    np.testing.assert_array_equal(frames[1].pixels[1, 2], clear[1, 1, 2])
    assert [frame.start for frame in frames] == [0, Fraction(1, 20)]


# ---- Pictures.


def test_pictures_of_a_folder_are_one_clip_in_the_order_of_their_numbers(tmp_path):
    folder = tmp_path / "walk"
    folder.mkdir()
    for number in (10, 2, 1):
        Image.fromarray(np.full((4, 6), number, np.uint8)).save(folder / f"f{number}.png")
    (folder / "notes.txt").touch()
    named = sorted(str(path) for path in folder.glob("*.png"))  # as a shell does: 1, 10, 2
    for arguments in ([str(folder)], [str(folder / "f*.png")], named, [str(tmp_path / "w*")]):
        clip = the_clip(*arguments)
        assert (clip.stem, clip.suffix, clip.length, clip.names) == ("walk", "", 3, ["f1", "f2", "f10"])
        frames = list(clip)
        assert [int(frame.pixels[0, 0, 0]) for frame in frames] == [1, 2, 10]
        assert frames[0].pixels.shape == (4, 6, 1)
    with overlay_writer(tmp_path / "out", clip) as writer:
        for frame in frames:
            writer.add(frame.pixels.repeat(3, axis=-1), frame.start)
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["f1.png", "f10.png", "f2.png"]
    np.testing.assert_array_equal(pixels_of(the_clip(tmp_path / "out"))[2], np.full((4, 6, 3), 10))


@pytest.mark.parametrize(
    ("mode", "expected", "notes"),
    [
        ("1", [[255]], []),
        ("L", [[9]], []),
        ("LA", [[9, 9, 9, 100]], []),
        ("P", [[250, 0, 9]], []),
        ("RGB", [[250, 0, 9]], []),
        ("RGBA", [[250, 0, 9, 100]], []),
        ("I;16", [[128]], ["16 bit to 8 bit"]),
    ],
)
def test_every_kind_of_png(tmp_path, mode, expected, notes):
    values = {"L": 9, "LA": (9, 100), "RGB": (250, 0, 9), "RGBA": (250, 0, 9, 100), "1": 1, "I;16": 0x8012}
    if mode == "P":
        image = Image.new("RGB", (3, 2), values["RGB"]).quantize(4)
    else:
        image = Image.new(mode, (3, 2), values[mode])
    image.save(tmp_path / "a.png")
    clip = the_clip(tmp_path / "a.png")
    np.testing.assert_array_equal(pixels_of(clip)[0, 0, :1], expected)
    assert clip.notes == notes


def test_a_photograph_is_turned_as_it_says(tmp_path):
    image = Image.fromarray(colours(1)[0])
    exif = image.getexif()
    exif[0x0112] = 6  # its top is at the right
    image.save(tmp_path / "a.jpg", exif=exif)
    assert the_clip(tmp_path / "a.jpg").size == (32, 24)


# ---- Arrays.


@pytest.mark.parametrize("suffix", [".npy", ".npz", ".h5"])
@pytest.mark.parametrize(
    ("values", "white"),
    [
        (np.array([0, 1], bool), 1),
        (np.array([0, 1], np.uint8), 1),
        (np.array([0, 200], np.uint8), 255),
        (np.array([0, 1000], np.uint16), 1023),
        (np.array([0, 60000], np.uint16), 65535),
        (np.array([0, 0.75], np.float16), 1),
        (np.array([0, 200.5], np.float64), 255),
    ],
)
def test_arrays_of_any_numbers(tmp_path, suffix, values, white):
    frames = values[np.arange(7 * 4 * 5).reshape(7, 4, 5) % 2]
    path = save(tmp_path / f"a{suffix}", frames)
    clip = the_clip(path)
    assert (clip.suffix, clip.length, clip.size) == (".gif", 7, (4, 5))
    found = pixels_of(clip)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found[..., 0], frames.astype(float) / white, rtol=1e-6)
    assert clip.notes == ([f"0..{white} to 0..1"] if white > 1 else [])


def save(path, frames, **others):
    if path.suffix == ".npy":
        np.save(path, frames)
    elif path.suffix == ".npz":
        np.savez_compressed(path, **{"frames": frames, **others})
    else:
        with h5py.File(path, "w") as file:
            file.create_dataset("some/clip", data=frames, chunks=(3, *frames.shape[1:]))
    return path


def test_colour_and_the_array_named_frames(tmp_path, rng):
    frames = rng.random((3, 4, 5, 3))
    found = pixels_of(the_clip(save(tmp_path / "a.npz", frames, other=np.zeros(2))))
    np.testing.assert_allclose(found, frames, rtol=1e-6)


def test_the_sequences_of_a_data_set(tmp_path):
    features = np.arange(3 * 5 * 2 * 2).reshape(3, 5, 2, 2, 1) % 8
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["test/features"] = features.astype(np.uint8)
        file["test/features"].attrs["white"] = 10
        file["training/features"] = features.astype(np.uint8)
    (source,) = sources_of([str(tmp_path / "a.h5")])
    clips = list(clips_of(source, "test", 2))
    assert [clip.stem for clip in clips] == ["a_test_0", "a_test_1"]
    np.testing.assert_allclose(pixels_of(clips[1]), features[:, 1] / 10, rtol=1e-6)
    assert len(list(clips_of(source, "training", 9))) == 5


BAD_ARRAYS = {
    "nan": (np.array([[[0.0]], [[np.nan]]]), "frame 1 holds NaN or infinity"),
    "negative": (np.array([[[-0.5]], [[1.0]]]), r"values from -0.5 to 1: expected numbers in \[0, 1\] or \[0, 255\]"),
    "large": (np.array([[[0.0]], [[300.0]]]), "values from 0 to 300"),
    "empty": (np.zeros((0, 4, 4)), r"has no frames: it holds float64 \(0, 4, 4\)"),
    "flat": (np.zeros((4, 4)), r"holds float64 \(4, 4\): expected numbers \[T, H, W\] or \[T, H, W, C\]"),
    "moving_mnist": (np.zeros((2, 9, 8, 8)), "with 1 to 4 channels"),
    "text": (np.full((2, 2, 2), "a"), "holds <U1"),
    "turned": (np.asfortranarray(np.zeros((2, 3, 4))), "Fortran"),
}


@pytest.mark.parametrize("kind", BAD_ARRAYS)
def test_a_bad_array_is_one_sentence(tmp_path, kind):
    values, words = BAD_ARRAYS[kind]
    np.save(tmp_path / "a.npy", values)
    with pytest.raises(UserError, match=words) as raised:
        the_clip(tmp_path / "a.npy")
    assert str(tmp_path / "a.npy") in str(raised.value)


def test_files_that_are_cut_or_hold_something_else(tmp_path):
    np.save(tmp_path / "cut.npy", np.zeros((9, 8, 8)))
    whole = (tmp_path / "cut.npy").read_bytes()
    (tmp_path / "cut.npy").write_bytes(whole[:-100])
    np.savez(tmp_path / "two.npz", a=np.zeros((2, 2, 2)), b=np.zeros((2, 2, 2)))
    for name in ("no.npy", "no.npz", "no.h5", "no.mp4", "no.gif", "no.png", "no.txt"):
        (tmp_path / name).write_bytes(b"no such thing, but long enough to be looked at")
    (tmp_path / "empty").mkdir()
    expected = {
        "cut.npy": "is not an npy file that can be read, or a truncated one: it ends before frame 8",
        "two.npz": "holds a, b: expected one array, or one named frames",
        "no.npy": "is not an npy file",
        "no.npz": "is not an npz file",
        "no.h5": "is not an HDF5 file",
        "no.mp4": "is no video that can be read: Invalid data found",
        "no.gif": "is no gif that can be read",
        "no.png": "is no picture that can be read",
        "no.txt": "is of no known kind: expected mp4",
        "gone.mp4": "is missing: expected mp4",
        "gone*.mp4": "is missing: expected mp4",
        "empty": "holds no pictures: expected a folder of png or jpg",
    }
    for name, words in expected.items():
        with pytest.raises(UserError) as raised:
            the_clip(tmp_path / name)
        assert f"{tmp_path / name} {words}" in str(raised.value)


def test_a_video_without_pictures_or_frames(tmp_path):
    with av.open(str(tmp_path / "sound.mkv"), "w") as container:
        sound = container.add_stream("pcm_s16le", rate=8000)
        sound.layout = "mono"
        heard = av.AudioFrame.from_ndarray(np.zeros((1, 800), np.int16), format="s16", layout="mono")
        heard.sample_rate = 8000
        container.mux(sound.encode(heard))
    with pytest.raises(UserError, match="holds no pictures: expected a video"):
        the_clip(tmp_path / "sound.mkv")
    encode(tmp_path / "none.avi", "mjpeg", "yuvj420p", np.zeros((0, 24, 32, 3), np.uint8))
    with pytest.raises(UserError, match=r"none.avi (has no frames|is no video that can be read)"):
        the_clip(tmp_path / "none.avi")


def test_a_video_that_is_cut_says_where(tmp_path):
    path = write(tmp_path / "a.gif", colours(20))
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(UserError, match=r"a\.gif is (damaged at frame \d+|no gif that can be read)"):
        list(the_clip(path))


def test_frames_of_changing_sizes(tmp_path):
    folder = tmp_path / "walk"
    folder.mkdir()
    for name, size in {"a": (6, 4), "b": (6, 5)}.items():
        Image.new("L", size).save(folder / f"{name}.png")
    with pytest.raises(UserError, match=r"walk: b is 6x5, after 6x4: expected frames of one size"):
        list(the_clip(folder))


# ---- To the model's size and back.


def test_fit_takes_all_of_it():
    fit = Fit("fit", (4, 6), (2, 2))
    pixels = np.arange(24, dtype=np.float32).reshape(4, 6, 1)
    np.testing.assert_allclose(fit.shrunk(pixels)[..., 0], pixels.reshape(2, 2, 2, 3).mean((1, 3)))
    labels = np.array([[0, 1], [2, 3]], np.uint8)
    np.testing.assert_array_equal(fit.enlarged(labels, NO_LABEL), labels.repeat(2, 0).repeat(3, 1))
    assert fit.note() == "resized 6x4 to 2x2"


def test_crop_takes_the_central_part():
    fit = Fit("crop", (4, 10), (2, 2))
    pixels = np.zeros((4, 10, 1), np.float32)
    pixels[:, 3:7] = 1
    np.testing.assert_array_equal(fit.shrunk(pixels), np.ones((2, 2, 1)))
    labels = fit.enlarged(np.array([[0, 1], [2, 3]], np.uint8), NO_LABEL)
    assert labels.dtype == np.uint8
    np.testing.assert_array_equal(labels[0], [255] * 3 + [0, 0, 1, 1] + [255] * 3)
    assert fit.note() == "the central 4x4 of 10x4 resized to 2x2"


def test_pad_puts_bars_around_it():
    fit = Fit("pad", (4, 8), (4, 4))
    shrunk = fit.shrunk(np.full((4, 8, 3), 200, np.uint8))
    assert shrunk.dtype == np.uint8
    np.testing.assert_array_equal(shrunk[:, 0, 0], [0, 200, 200, 0])
    labels = np.arange(16, dtype=np.uint8).reshape(4, 4)
    np.testing.assert_array_equal(fit.enlarged(labels, NO_LABEL), labels[1:3].repeat(2, 0).repeat(2, 1))
    assert fit.note() == "resized 8x4 to 4x2 with black bars to 4x4"


@pytest.mark.parametrize("how", ["fit", "crop", "pad"])
@pytest.mark.parametrize("size", [(1, 1), (7, 300), (300, 7), (28, 28), (29, 27), (480, 641)])
def test_any_size_comes_back(how, size):
    fit = Fit(how, size, (28, 28))
    assert fit.shrunk(np.zeros((*size, 3), np.uint8)).shape == (28, 28, 3)
    labels = fit.enlarged(np.zeros((28, 28), np.uint8), NO_LABEL)
    assert labels.shape == size
    assert (labels == 0).mean() > (0.02 if how == "crop" else 0.999)


def test_nothing_is_said_where_nothing_is_done():
    assert Fit("pad", (28, 28), (28, 28)).note() == ""
    converter = Converter(Fit("fit", (2, 2), (2, 2)), 1, binary=True)
    frame = np.array([[[0], [1]], [[1], [0]]], np.float32)
    np.testing.assert_array_equal(converter(frame), frame)
    assert converter.notes == []


@pytest.mark.parametrize(
    ("pixel", "channels", "binary", "expected", "notes"),
    [
        ([255, 0, 0], 1, False, [0.299], ["colour to grey"]),
        ([90, 90, 91], 1, False, [90 / 255], []),  # grey but for the codec's rounding
        ([51], 3, False, [0.2] * 3, ["grey to colour"]),
        ([51, 102, 255], 3, False, [0.2, 0.4, 1], []),
        ([255, 255, 255, 51], 3, False, [0.2] * 3, ["transparency over black"]),
        ([255, 255, 255, 255], 3, False, [1] * 3, []),
        ([255, 102], 1, False, [0.4], ["transparency over black"]),
        ([128], 1, True, [1], ["threshold at 0.5 since the model is of binary frames"]),
        ([127], 1, True, [0], ["threshold at 0.5 since the model is of binary frames"]),
        ([254], 1, True, [1], []),  # white but for the codec's rounding
    ],
)
def test_channels_and_values(pixel, channels, binary, expected, notes):
    converter = Converter(Fit("fit", (2, 3), (2, 3)), channels, binary)
    pixels = np.tile(np.array(pixel, np.uint8), (2, 3, 1))
    for _ in range(2):
        frame = converter(pixels)
    assert frame.dtype == np.float32
    np.testing.assert_allclose(frame[1, 2], expected, atol=2e-3)
    assert frame.shape == (2, 3, channels)
    said = [note for note in converter.notes if note != "0..255 to 0..1"]
    assert said == notes


def test_channels_that_nobody_can_make():
    with pytest.raises(UserError, match="clip has 3 channels: expected 2"):
        Converter(Fit("fit", (2, 2), (2, 2)), 2, False)(np.zeros((2, 2, 3), np.uint8), "clip")


# ---- Clips and labels.


def test_a_clip_without_frames():
    with pytest.raises(UserError, match="a has no frames"):
        Clip("a", "a", ".gif", iter(()))


def test_a_clip_reads_only_what_it_is_asked_for():
    read = []

    def frames():
        for t in range(9):
            read.append(t)
            yield Frame(np.zeros((2, 2, 1), np.uint8), Fraction(t))

    clip = Clip("a", "a", ".gif", frames())
    next(iter(clip))
    assert read == [0]


def test_labels_are_a_numpy_file(tmp_path, rng):
    values = {"labels": rng.integers(0, 5, (6, 4, 3)).astype(np.uint8), "gamma": rng.random((6, 2)).astype(np.float16)}
    with LabelsFile(tmp_path / "a.npz") as file:
        for name, each in values.items():
            file.add(name, each.shape, each.dtype, iter(each))
    with np.load(tmp_path / "a.npz") as read:
        assert {*read} == {*values}
        for name, each in values.items():
            assert read[name].dtype == each.dtype
            np.testing.assert_array_equal(read[name], each)
    assert zipfile.is_zipfile(io.BytesIO((tmp_path / "a.npz").read_bytes()))
