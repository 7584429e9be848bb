"""To a model's size and back, and into files."""

import io
import zipfile

import numpy as np
import pytest
from clips import UNEVEN, colours, write
from PIL import Image

from data_gen.frames import clips_of, find
from nem_tf.errors import UserError
from nem_tf.media import NO_LABEL, Converter, Fit, LabelsFile, overlay_name, overlay_writer


def the_clip(path):
    ((source,), _) = find([str(path)])
    (clip,) = clips_of(source)
    return clip


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
        ([128], 1, True, [1], ["threshold at 0.5 since the model is of binary frames: what is darker is black"]),
        ([127], 1, True, [0], ["threshold at 0.5 since the model is of binary frames: what is darker is black"]),
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
    assert converter.notes == notes


def test_channels_that_nobody_can_make():
    with pytest.raises(UserError, match="clip has 3 channels: expected 2"):
        Converter(Fit("fit", (2, 2), (2, 2)), 2, False)(np.zeros((2, 2, 3), np.uint8), "clip")


# ---- Files.


def test_the_last_frame_of_a_gif_is_shown_as_long_in_its_overlay(tmp_path):
    pictures = [Image.fromarray(frame) for frame in colours()[:3]]
    pictures[0].save(tmp_path / "a.gif", save_all=True, append_images=pictures[1:], duration=[100, 1000, 20])
    clip = the_clip(tmp_path / "a.gif")
    with overlay_writer(tmp_path / "b.gif", clip) as writer:
        for frame in clip:
            writer.add(frame.pixels[..., :3], frame.start, frame.duration)
    with Image.open(tmp_path / "b.gif") as overlay:
        durations = []
        for number in range(overlay.n_frames):
            overlay.seek(number)
            durations.append(overlay.info["duration"])
    assert durations == [100, 1000, 20]


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


def test_a_gif_is_written_frame_by_frame_and_endless(tmp_path):
    with Image.open(write(tmp_path / "a.gif", colours(), UNEVEN)) as image:
        assert (image.n_frames, image.info["loop"]) == (5, 0)
        image.seek(2)
        np.testing.assert_array_equal(np.asarray(image.convert("RGB")), colours()[2])


def test_the_overlay_of_a_folder_is_a_folder(tmp_path):
    (tmp_path / "walk").mkdir()
    for number in (1, 2, 10):
        Image.fromarray(np.full((4, 6), number, np.uint8)).save(tmp_path / f"walk/f{number}.png")
    clip = the_clip(tmp_path / "walk")
    assert overlay_name(clip) == "walk.overlay"
    with overlay_writer(tmp_path / "out", clip) as writer:
        for frame in clip:
            writer.add(frame.pixels.repeat(3, axis=-1), frame.start)
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["f1.png", "f10.png", "f2.png"]
    written = [frame.pixels for frame in the_clip(tmp_path / "out")]
    np.testing.assert_array_equal(written[2], np.full((4, 6, 3), 10))


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
