"""Frames out of files of every kind, one by one, and a sentence for what cannot be read."""

import os
import tracemalloc
import zipfile
from fractions import Fraction

import av
import h5py
import numpy as np
import pytest
from clips import colours, write
from PIL import Image

from data_gen import DataGenError, claims
from data_gen.frames import Clip, Frame, arrays, clips_of, find, length_of
from data_gen.frames import clip as clip_module
from nem_tf.media.videos import VideoWriter


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
    """One that is still open: whoever closes what yields it closes its file."""
    clips = the_clips(*arguments, **options)
    clip = next(clips)
    clip.clips = clips
    return clip


def the_clips(*arguments, **options):
    (source,) = the_sources(*arguments)
    return clips_of(source, **options)


def the_sources(*arguments):
    sources, faults = find([str(each) for each in arguments])
    if faults:
        raise DataGenError(faults[0])
    return sources


def pixels_of(clip):
    return np.stack([frame.pixels for frame in clip])


def write_pictures(path, values, suffix="png"):
    path.mkdir(parents=True)
    for number, frame in enumerate(values):
        Image.fromarray(frame).save(path / f"{number}.{suffix}")


def write_animation(path, values, **options):
    first, *others = [Image.fromarray(frame) for frame in values]
    first.save(path, save_all=True, append_images=others, **options)


# ---- What is found.


def test_everything_in_folders_is_found_once_and_2_comes_before_10(tmp_path):
    for number in (10, 2):
        np.save(tmp_path / f"{number}.npy", np.full((3, 4, 4), number))
    write_pictures(tmp_path / "inner/frames", colours(11), "jpg")
    for name in ("notes.txt", ".hidden.npy", "empty/.keep", ".git/a.npy"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    places = [str(tmp_path), str(tmp_path / "*.npy"), str(tmp_path / "**/*.jpg"), str(tmp_path / "empty"), "gone"]
    found, (empty, gone) = find(places)
    assert [source.own_name for source in found] == ["2.npy", "10.npy", "frames"]
    assert [path.stem for path in found[-1].paths] == [str(number) for number in range(11)]
    (tmp_path / "inner/loop").symlink_to(tmp_path)
    assert find([str(tmp_path)])[0] == [source._replace(name=str(source.name)) for source in found]
    assert empty.startswith(f"{tmp_path}/empty holds no video: expected mp4")
    assert gone.startswith("gone is missing: expected mp4")


EXACT = {
    "a.npy": np.save,
    "a.npz": np.savez_compressed,
    "a.gif": write_animation,
    "a.webp": lambda path, values: write_animation(path, values, lossless=True),
    "a": write_pictures,
}


@pytest.mark.parametrize("name", EXACT)
def test_what_is_read_is_what_was_written(tmp_path, name):
    frames = colours(12)
    EXACT[name](tmp_path / name, frames)
    clip = the_clip(tmp_path / name)
    assert (clip.length, clip.stem, clip.name) == (12, "a", str(tmp_path / name))
    read = pixels_of(clip)
    assert read.dtype == np.uint8
    np.testing.assert_array_equal(read[..., :3], frames)
    assert (clip.notes, clip.white, clip.count, clip.cut_short) == ([], 255, 12, "")


# ---- Videos and animations.


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
    assert clip.white == white
    if frames.dtype != np.uint8 or white == 1:
        assert found.dtype == np.float32
        np.testing.assert_allclose(found[..., 0], frames.astype(float) / white, rtol=1e-6)
    else:
        np.testing.assert_array_equal(found[..., 0], frames)


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


def test_an_archive_of_many_arrays_is_not_opened_anew_for_each(tmp_path, monkeypatch):
    """Opening it reads the names of all its members: of 3,000 that is a minute instead of a second."""
    np.savez(tmp_path / "many.npz", **{f"a{n}": np.full((2, 3, 4), n, np.uint8) for n in range(20)})
    opened = []

    class Counted(zipfile.ZipFile):
        def __init__(self, *args, **options):
            opened.append(args)
            super().__init__(*args, **options)

    monkeypatch.setattr(arrays.zipfile, "ZipFile", Counted)
    levels = [next(iter(clip)).pixels.max() for clip in the_clips(tmp_path / "many.npz")]
    assert levels == list(range(20))
    assert len(opened) <= 2  # for the headers, and for the values


def test_several_arrays_are_several_clips(tmp_path):
    np.savez(tmp_path / "two.npz", a=np.zeros((2, 3, 4)), b=np.ones((5, 3, 4)), c=np.zeros((4, 4)))
    clips = list(the_clips(tmp_path / "two.npz"))
    assert [(clip.name, clip.stem, clip.length) for clip in clips] == [
        (f"{tmp_path}/two.npz:a", "two_a", 2), (f"{tmp_path}/two.npz:b", "two_b", 5)
    ]  # fmt: skip


@pytest.mark.parametrize("suffix", [".npy", ".npz", ".h5"])
@pytest.mark.parametrize(
    ("layout", "axes"),
    [("TNHW", (0, 1, 2, 3)), ("NTHW", (1, 0, 2, 3)), ("TNHWC", (0, 1, 2, 3, 4)), ("NTHWC", (1, 0, 2, 3, 4))],
)
def test_an_array_of_many_clips_has_a_layout(tmp_path, rng, suffix, layout, axes):
    videos = rng.integers(0, 256, (5, 7, 4, 6, 3)).astype(np.uint8)  # T N H W C
    videos = videos if "C" in layout else videos[..., 0]
    path = save(tmp_path / f"a{suffix}", videos.transpose(axes))
    given = None if layout.startswith("T") else layout
    (source,) = the_sources(path)
    assert length_of(source, given) == 5
    for number, clip in enumerate(clips_of(source, given)):
        assert (clip.name, clip.stem) == (f"{path}[{number}]", f"a_{number}")
        np.testing.assert_array_equal(pixels_of(clip).squeeze(), videos[:, number].squeeze())
    assert number == 6
    assert len(list(clips_of(source, given, sequences=2))) == 2


def test_the_sequences_of_a_data_set(tmp_path):
    features = np.arange(3 * 5 * 2 * 2).reshape(3, 5, 2, 2, 1) % 8
    with h5py.File(tmp_path / "a.h5", "w") as file:
        for split in ("test", "training"):
            file[f"{split}/features"] = features.astype(np.uint8)
            file[f"{split}/groups"] = features.astype(np.uint8)
            file[f"{split}/features"].attrs["white"] = 10
    stems = []
    for number, clip in enumerate(the_clips(tmp_path / "a.h5", split="test", sequences=2)):
        np.testing.assert_allclose(pixels_of(clip), features[:, number] / 10, rtol=1e-6)
        stems.append(clip.stem)
    assert stems == ["a_test_0", "a_test_1"]
    assert len(list(the_clips(tmp_path / "a.h5", split="training"))) == 5
    assert len(list(the_clips(tmp_path / "a.h5"))) == 10
    with pytest.raises(
        DataGenError, match=r"a.h5 has no validation split: expected one of training/features, test/features"
    ):
        the_clip(tmp_path / "a.h5", split="validation")
    with h5py.File(tmp_path / "a.h5", "a") as file:
        file["test/features"].attrs["white"] = 6
    with pytest.raises(DataGenError, match=r"a.h5:test\[0\]: frame 1 holds values from \d to 7: .* in \[0, 6\]"):
        pixels_of(the_clip(tmp_path / "a.h5", split="test"))


BAD_ARRAYS = {
    "nan": (np.array([[[0.0]], [[np.nan]]]), "frame 1 holds NaN or infinity"),
    "negative": (np.array([[[-0.5]], [[1.0]]]), r"values from -0.5 to 1: expected numbers in \[0, 1\] or \[0, 255\]"),
    "large": (np.array([[[0.0]], [[300.0]]]), "values from 0 to 300"),
    "empty": (np.zeros((0, 4, 4)), r"has no frames: it holds float64 \(0, 4, 4\)"),
    "flat": (np.zeros((4, 4)), r"holds float64 \(4, 4\): expected numbers THW or THWC or"),
    "many channels": (np.zeros((2, 2, 9, 8, 8)), r"\(2, 2, 9, 8, 8\): expected numbers .*, C 1 to 4"),
    "text": (np.full((2, 2, 2), "a"), "holds <U1"),
    "turned": (np.asfortranarray(np.zeros((2, 3, 4))), "Fortran"),
}


@pytest.mark.parametrize("kind", BAD_ARRAYS)
def test_a_bad_array_is_one_sentence(tmp_path, kind):
    values, words = BAD_ARRAYS[kind]
    np.save(tmp_path / "a.npy", values)
    with pytest.raises(DataGenError, match=words) as raised:
        the_clip(tmp_path / "a.npy")
    assert str(tmp_path / "a.npy") in str(raised.value)


def test_files_that_are_cut_or_hold_something_else(tmp_path):
    np.save(tmp_path / "cut.npy", np.zeros((9, 8, 8)))
    whole = (tmp_path / "cut.npy").read_bytes()
    (tmp_path / "cut.npy").write_bytes(whole[:-100])
    for name in ("no.npy", "no.npz", "no.h5", "no.mp4", "no.gif", "no.png", "no.txt"):
        (tmp_path / name).write_bytes(b"no such thing, but long enough to be looked at")
    (tmp_path / "cut.npz").write_bytes(b"PK" + bytes(99))
    (tmp_path / "empty").mkdir()
    expected = {
        "cut.npy": "cannot be read as npy; it may be damaged or truncated: it ends 100 bytes before",
        "cut.npz": "cannot be read as npz; it may be damaged or truncated: ",
        "no.npy": "cannot be read as npy; it may be damaged or truncated: ",
        "no.npz": "cannot be read as npz; it may be damaged or truncated: ",
        "no.h5": "cannot be read as HDF5; it may be damaged or truncated: ",
        "no.mp4": "is no video that can be read: Invalid data found",
        "no.gif": "is no gif that can be read",
        "no.png": "is no picture that can be read",
        "no.txt": "is of no known kind: expected mp4",
        "gone.mp4": "is missing: expected mp4",
        "gone*.mp4": "is missing: expected mp4",
        "empty": "holds no video: expected mp4",
    }
    for name, words in expected.items():
        with pytest.raises(DataGenError) as raised:
            the_clip(tmp_path / name)
        assert f"{tmp_path / name} {words}" in str(raised.value)


@pytest.mark.parametrize("suffix", ["gif", "webp"])
def test_an_animation_that_is_cut_anywhere_is_read_or_refused(rng, tmp_path, suffix):
    """Whatever the decoder raises for it, struct.error and IndexError among others."""
    first, *more = (Image.fromarray(frame) for frame in rng.integers(0, 256, (3, 5, 6, 3), dtype=np.uint8))
    path = tmp_path / f"whole.{suffix}"
    first.save(path, save_all=True, append_images=more, duration=40)
    whole, refused = path.read_bytes(), 0
    for size in range(len(whole)):
        path.write_bytes(whole[:size])
        try:
            assert 1 <= len(list(the_clip(path))) <= 3
        except DataGenError:
            refused += 1
    assert refused > 20


def test_a_video_of_an_unknown_codec_is_refused(rng, tmp_path):
    path = tmp_path / "clip.mp4"
    with VideoWriter(path, ".mp4", (16, 16), Fraction(10)) as writer:
        writer.add(np.zeros((16, 16, 3), np.uint8), Fraction(0))
    path.write_bytes(path.read_bytes().replace(b"avc1", b"zzzz"))
    with pytest.raises(DataGenError, match="of a codec that nobody knows"):
        the_clip(path)


def test_a_number_is_no_video(tmp_path):
    np.save(tmp_path / "number.npy", np.float32(3))
    with pytest.raises(DataGenError, match=r"number.npy holds float32 \(\): expected numbers THW"):
        the_clip(tmp_path / "number.npy")


def test_what_is_no_file_and_what_has_no_name(tmp_path):
    os.mkfifo(tmp_path / "pipe.gif")
    (tmp_path / "endless.npy").symlink_to("/dev/zero")
    (tmp_path / "\udcff.npy").write_bytes(b"")
    for name, words in {
        "pipe.gif": "is no regular file", "endless.npy": "is no regular file", "\udcff.npy": "is no name in UTF-8"
    }.items():  # fmt: skip
        (fault,) = find([str(tmp_path / name)])[1]
        assert words in fault


@pytest.mark.parametrize("white", ["text", np.zeros(3), np.nan, 0, h5py.Empty("f4")])
def test_a_white_that_is_none(tmp_path, white):
    with h5py.File(tmp_path / "mine.h5", "w") as file:
        file["test/features"] = np.zeros((3, 2, 8, 8, 1), np.uint8)
        file["test/features"].attrs["white"] = white
    with pytest.raises(DataGenError, match="features has the attribute white="):
        the_clip(tmp_path / "mine.h5")


@pytest.mark.parametrize("shape", ["__import__('os').abort()", "(-1, 8, 8)", 5000 * "(", "('a', 8, 8)", "(8.0, 8, 8)"])
def test_a_header_that_is_no_header(tmp_path, shape):
    text = f"{{'descr': '|u1', 'fortran_order': False, 'shape': {shape}, }}\n".encode()
    (tmp_path / "mine.npy").write_bytes(b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text + bytes(999))
    with pytest.raises(DataGenError, match=r"mine.npy (cannot be read as npy|has no frames)"):
        the_clip(tmp_path / "mine.npy")


def test_a_video_without_pictures_or_frames(tmp_path):
    with av.open(str(tmp_path / "sound.mkv"), "w") as container:
        sound = container.add_stream("pcm_s16le", rate=8000)
        sound.layout = "mono"
        heard = av.AudioFrame.from_ndarray(np.zeros((1, 800), np.int16), format="s16", layout="mono")
        heard.sample_rate = 8000
        container.mux(sound.encode(heard))
    with pytest.raises(DataGenError, match="holds no pictures: expected a video"):
        the_clip(tmp_path / "sound.mkv")
    encode(tmp_path / "none.avi", "mjpeg", "yuvj420p", np.zeros((0, 24, 32, 3), np.uint8))
    with pytest.raises(DataGenError, match=r"none.avi (has no frames|is no video that can be read)"):
        the_clip(tmp_path / "none.avi")


def test_a_video_that_is_cut_says_where(tmp_path):
    path = write(tmp_path / "a.gif", colours(20))
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(DataGenError, match=r"a\.gif is (damaged at frame \d+|no gif that can be read)"):
        list(the_clip(path))


@pytest.mark.parametrize("suffix", [".webm", ".mkv", ".avi"])
@pytest.mark.parametrize("starts", ["even", "uneven"])
def test_a_video_that_ends_too_early_is_told(tmp_path, rng, suffix, starts):
    """One that need not be whole to be read. A long rest between two frames is no end."""
    frames = rng.integers(0, 256, (60, 24, 32, 3)).astype(np.uint8)
    times = [Fraction(t, 10) + (3 if t > 30 else 0) for t in range(60)]
    path = write(tmp_path / f"a{suffix}", frames, None if starts == "even" else times)
    whole, cut = the_clip(path), path.with_stem("cut")
    cut.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    assert len(list(whole)) == 60
    assert whole.cut_short == ""
    assert whole.is_uneven == (starts == "uneven")
    short = the_clip(cut)
    assert 15 < len(list(short)) < 45
    assert short.cut_short.endswith("announced: it may be cut short")


def test_a_video_is_not_cut_short_since_its_sound_goes_on(tmp_path):
    with av.open(str(tmp_path / "loud.mkv"), "w") as container:
        stream, sound = container.add_stream("ffv1", rate=10), container.add_stream("pcm_s16le", rate=8000)
        stream.height, stream.width, stream.pix_fmt = 24, 32, "yuv420p"
        sound.layout = "mono"
        heard = av.AudioFrame.from_ndarray(np.zeros((1, 40_000), np.int16), format="s16", layout="mono")
        heard.sample_rate = 8000
        container.mux(sound.encode(heard))
        for frame in colours():
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode(None))
    clip = the_clip(tmp_path / "loud.mkv")
    assert (len(list(clip)), clip.length, clip.cut_short) == (5, 5, "")


def test_frames_of_changing_sizes(tmp_path):
    folder = tmp_path / "walk"
    folder.mkdir()
    for name, size in {"a": (6, 4), "b": (6, 5)}.items():
        Image.new("L", size).save(folder / f"{name}.png")
    with pytest.raises(DataGenError, match=r"walk: b is 6x5, after 6x4: expected frames of one size"):
        list(the_clip(folder))


# ---- What claims more than it holds.


def claiming_npy(path, shape, dtype="u1", values=b""):
    with path.open("wb") as file:
        header = {"descr": np.lib.format.dtype_to_descr(np.dtype(dtype)), "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(file, header)
        file.write(values)


def claiming_h5(path, shape, **options):
    with h5py.File(path, "w") as file:
        file.create_dataset("frames", shape, "u1", **options)


def bomb(path):
    np.savez_compressed(path, frames=np.zeros((2**11, 256, 256), np.uint8))


def huge_gif(path):
    """The screen of a GIF, its only frame as large."""
    size = (60_000).to_bytes(2, "little") * 2
    path.write_bytes(b"GIF89a" + size + b"\x80\0\0" + bytes(6) + b",\0\0\0\0" + size + b"\0\x02\x02\x4c\x01\0;")


def huge_avi(path):
    """The header of a small video that claims to be large."""
    encode(path, "rawvideo", "yuv420p", colours())
    small = (32).to_bytes(4, "little") + (24).to_bytes(4, "little")
    large = (60_000).to_bytes(4, "little") * 2
    path.write_bytes(path.read_bytes().replace(small, large))


HOSTILE = {
    "a terabyte.h5": (
        lambda path: claiming_h5(path, (10**6, 1000, 1000)),
        r"claims uint8 .* 1000.0 GB, and takes 0.0 MB",
    ),
    "packed.h5": (
        lambda path: claiming_h5(path, (10**6, 1000, 1000), chunks=(1, 1000, 1000), compression="gzip"),
        "claims uint8 .* 1000.0 GB, and takes 0.0 MB",
    ),
    "chunk.h5": (
        lambda path: claiming_h5(path, (9, 9, 9), chunks=(1000, 1000, 1000), maxshape=(1000,) * 3),
        r"in chunks \(1000, 1000, 1000\) of 1000 MB: expected 537 at most",
    ),
    "a terabyte.npy": (lambda path: claiming_npy(path, (10**6, 1000, 1000)), "1000000000000 bytes before"),
    "overflow.npy": (lambda path: claiming_npy(path, (2**40, 2**40, 2**40)), "bytes before"),
    "negative.npy": (lambda path: claiming_npy(path, (-4, 8, 8)), r"has no frames: it holds uint8 \(-4, 8, 8\)"),
    "frame.npy": (lambda path: claiming_npy(path, (1, 2**13, 2**13), values=bytes(2**26)), "frames of 8192x8192"),
    "bomb.npz": (bomb, r"claims uint8 .*, 0.1 GB, and takes 0.1 MB"),
    "huge.gif": (huge_gif, "60000x60000|3600000000 pixels"),
    "huge.avi": (huge_avi, r"huge.avi is no video that can be read"),
    "huge.png": (lambda path: Image.new("1", (9000, 9000)).save(path), "frames of 9000x9000; expected"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_what_claims_too_much_is_refused_before_it_is_read(tmp_path, monkeypatch, name):
    monkeypatch.setattr(claims, "SUSPICIOUS", 2**26)
    write, words = HOSTILE[name]
    write(tmp_path / name)
    tracemalloc.start()
    try:
        with pytest.raises(DataGenError, match=words):
            the_clip(tmp_path / name)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 2**28


@pytest.mark.parametrize("name", [*EXACT, "a.mp4"])
def test_frames_of_any_kind_have_a_largest_size(tmp_path, monkeypatch, name):
    {**EXACT, "a.mp4": write}[name](tmp_path / name, colours())
    monkeypatch.setattr(clip_module, "LARGEST", 24 * 32 - 1)
    with pytest.raises(DataGenError, match="it has frames of 32x24; expected 767 pixels at most"):
        the_clip(tmp_path / name)


# ---- Clips.


def test_a_clip_without_frames():
    with pytest.raises(DataGenError, match="a has no frames"):
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
