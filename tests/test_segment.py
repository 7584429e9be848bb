"""Masks of a file: they are the model's, at the file's size; what is written is whole or not there."""

import errno
import io
import json
import os
import re
import shutil
import signal
import sys
from fractions import Fraction

import h5py
import numpy as np
import pytest
from conftest import binary_frames, small_cell, tiny
from PIL import Image

from data_gen.frames import NO_PYAV, Clip, Frame, clips_of, composed, find
from nem_tf import segmentation
from nem_tf.alignment import ALIGNMENTS
from nem_tf.drawing import component_colours
from nem_tf.errors import Interrupted
from nem_tf.layers import RNNEM, GaussianMixture
from nem_tf.media import NO_LABEL, Fit, videos, writing
from nem_tf.pretrained import from_preset, save_to_preset
from nem_tf.segmentation import Spread, Watcher, components, tinted
from nem_tf.serving import Served
from nem_tf.settings import resolve, to_flagfile

SEGMENT = "nem_tf.segment"
K, SIZE = 3, 8


def model_of(mixture=None, channels=1, scale=3.0, lag=1):
    model = RNNEM(small_cell(k=K, image_shape=(SIZE, SIZE, channels), mixture=mixture), lag=lag)
    model.build((None, None, SIZE, SIZE, channels))
    for weight in model.trainable_variables:  # so that components differ
        weight.assign(scale * weight)
    return model


@pytest.fixture(scope="module")
def presets(tmp_path_factory):
    """Directories of small models, by what they are of."""
    directory = tmp_path_factory.mktemp("presets")
    base = {**tiny(directory, directory / "run"), "k": K, "dataset": str(directory / "mine.h5")}
    chosen = {
        "binary": ({}, None, 1),
        "colour": ({"mixture": "gaussian", "noise": "masked_uniform"}, GaussianMixture(), 3),
        "still": ({"dataset": "static_shapes"}, None, 1),
        "denoiser": ({"target": "same_frame"}, None, 1),
    }
    for name, (changes, mixture, channels) in chosen.items():
        settings = resolve({**base, **changes})
        model = model_of(mixture, channels, lag=ALIGNMENTS[settings.model.target].lag)
        save_to_preset(directory / name, model, settings)
    return directory


@pytest.fixture
def segmented(program, presets, tmp_path):
    """Runs the program: (*arguments) -> (exit status, stdout, stderr); outputs go to `out`."""

    def run(*arguments, preset="binary"):
        return program(SEGMENT, *arguments, f"--preset={presets / preset}", f"--output={tmp_path / 'out'}")

    return run


def pictures(frames):
    """binary [T, H, W] -> uint8 [T, 3H, 3W, 3], larger."""
    large = frames.repeat(3, axis=1).repeat(3, axis=2)
    return (255 * large).astype(np.uint8)[..., None].repeat(3, axis=-1)


def write(path, frames):
    with videos.VideoWriter(path, path.suffix, frames.shape[1:3], Fraction(10)) as writer:
        for t, frame in enumerate(frames):
            writer.add(frame, Fraction(t, 10))
    return path


def frames_of(path):
    ((source,), _) = find([str(path)])
    (clip,) = clips_of(source)
    return np.stack([composed(frame.pixels) for frame in clip])


# ---- The model.


@pytest.mark.parametrize("alignment", ALIGNMENTS.values(), ids=ALIGNMENTS)
def test_frames_a_few_at_a_time_are_the_whole_sequence(rng, alignment):
    model = model_of()
    served = Served(model, alignment)
    frames = binary_frames(rng, 7, SIZE, SIZE, 1)
    whole = served.sequence(frames[None], 4, 5)
    watcher = Watcher(served, k=4, seed=5)
    for _ in range(2):
        parts = [watcher(frames[start:stop]) for start, stop in ((0, 1), (1, 4), (4, 7))]
        gamma, psi, labels = (
            np.concatenate([getattr(each, name) for each in parts]) for name in ("gamma", "psi", "labels")
        )
        np.testing.assert_allclose(gamma, whole["masks"][0], atol=1e-5)
        np.testing.assert_allclose(psi, whole["predictions"][0], atol=1e-5)
        np.testing.assert_array_equal(labels, np.argmax(gamma, axis=1))
        watcher.restart()

    found = model.segment(frames, k=4, seed=5, lag=alignment.lag)
    np.testing.assert_allclose(found.responsibilities, gamma, atol=1e-5)
    np.testing.assert_array_equal(found.labels, labels)
    assert found.labels.dtype == np.uint8


def test_a_denoiser_knows_that_it_is_one(presets, rng):
    """Without being told: its first frame is reconstructed, not left to random responsibilities."""
    frames = binary_frames(rng, 3, SIZE, SIZE)
    for preset, lag in (("denoiser", 0), ("binary", 1)):
        model, _ = from_preset(presets / preset)
        found, told = model.segment(frames), model.segment(frames, lag=lag)
        np.testing.assert_array_equal(found.responsibilities, told.responsibilities)
        assert np.abs(found.responsibilities - model.segment(frames, lag=1 - lag).responsibilities).max() > 0.01


def test_segment_takes_frames_as_people_have_them(rng):
    model = model_of()
    frames = binary_frames(rng, 2, 4, SIZE, SIZE, 1)
    expected = model.segment(frames)
    assert expected.labels.shape == (2, 4, SIZE, SIZE)
    assert expected.responsibilities.shape == (2, 4, K, SIZE, SIZE)
    np.testing.assert_allclose(expected.responsibilities.sum(2), 1, rtol=1e-5)
    for same in (frames.astype(np.uint8), (255 * frames).astype(np.uint8), frames.astype(bool), 0.6 * frames):
        np.testing.assert_array_equal(model.segment(same).labels, expected.labels)
    alone, grey = model.segment(frames[0]), model.segment(frames[0, ..., 0])
    assert alone.labels.shape == (4, SIZE, SIZE)
    np.testing.assert_array_equal(alone.labels, grey.labels)
    assert model.segment(frames[0, :1]).labels.shape == (1, SIZE, SIZE)
    assert (model.segment(frames, seed=1).labels[:, 0] != expected.labels[:, 0]).any()
    assert model.segment(frames, k=2).labels.max() == 1


def test_segment_does_not_round_the_frames_of_a_gaussian_model(rng):
    model = model_of(GaussianMixture(), channels=3)
    frames = rng.random((4, SIZE, SIZE, 3)).astype(np.float32)
    rounded = (frames >= 0.5).astype(np.float32)
    assert np.abs(model.segment(frames).responsibilities - model.segment(rounded).responsibilities).max() > 1e-3


@pytest.mark.parametrize(
    ("frames", "options", "words"),
    [
        (np.zeros((4, SIZE, 9)), {}, r"H, W, C = 8, 8, 1; received float64 \(4, 8, 9\)"),
        (np.zeros((SIZE, SIZE)), {}, r"received float64 \(8, 8\)"),
        (np.zeros((0, SIZE, SIZE)), {}, r"received float64 \(0, 8, 8\)"),
        (np.zeros((4, SIZE, SIZE), complex), {}, "received complex128"),
        (np.full((4, SIZE, SIZE), 7.0), {}, r"expected floats in \[0, 1\].* received 7.0 to 7.0: divide"),
        (np.full((4, SIZE, SIZE), -1), {}, "received -1 to -1"),
        (np.full((4, SIZE, SIZE), 300), {}, "received 300 to 300"),
        (np.full((4, SIZE, SIZE), np.nan), {}, "received nan"),
        (np.zeros((4, SIZE, SIZE)), {"k": 256}, "1 to 255; received k=256"),
        (np.zeros((4, SIZE, SIZE)), {"k": 0}, "1 to 255; received k=0"),
        (np.zeros((4, SIZE, SIZE)), {"k": "4"}, "1 to 255; received k='4'"),
        (np.zeros((4, SIZE, SIZE)), {"lag": 2}, "0 of any other; received lag=2"),
        (np.zeros((4, SIZE, SIZE)), {"seed": 2.5}, "whole number from 0 to 2147483647; received seed=2.5"),
        (np.zeros((4, SIZE, SIZE)), {"seed": 2**70}, "whole number from 0 to 2147483647; received seed=1180591620717"),
    ],
)
def test_segment_says_what_it_expected(frames, options, words):
    with pytest.raises(ValueError, match=words):
        model_of().segment(frames, **options)


# ---- What is drawn.


def test_a_pixel_has_the_colour_of_its_component_the_surer_the_stronger():
    gamma = np.zeros((1, 4, 2, 2), np.float32)
    gamma[0, 1, 0, 0] = 1
    gamma[0, :, 0, 1] = 0.25  # undecided
    gamma[0, [2, 3], 1, 0] = 0.6, 0.4
    gamma[0, 0, 1, 1] = 1
    frame = np.full((4, 8, 1), 100, np.uint8)
    (picture,) = tinted([frame], gamma, Fit("crop", (4, 8), (2, 2)))
    assert (picture.shape, picture.dtype) == ((4, 8, 3), np.uint8)
    assert (picture[:, :2] == 100).all()  # outside
    assert (picture[:, 6:] == 100).all()
    assert (picture[:2, 4:6] == 100).all()
    colours = 255 * component_colours(4)
    np.testing.assert_allclose(picture[0, 2], 0.3 * 100 + 0.7 * colours[1], atol=2)
    np.testing.assert_allclose(picture[3, 5], 0.3 * 100 + 0.7 * colours[0], atol=2)
    share = 0.7 * (4 * 0.6 - 1) / 3
    np.testing.assert_allclose(picture[3, 2], (1 - share) * 100 + share * colours[2], atol=2)


def test_one_component_has_all():
    (picture,) = tinted([np.zeros((2, 2, 4), np.float32)], np.ones((1, 1, 2, 2)), Fit("fit", (2, 2), (2, 2)))
    np.testing.assert_allclose(picture[0, 0], 0.7 * 255 * component_colours(1)[0], atol=2)


@pytest.mark.parametrize(
    ("count", "expected"),
    [
        (1, [0]),
        (3, [0, 1, 2]),
        (8, [0, 1, 2, 3, 4, 5, 6, 7]),
        (9, [0, 2, 4, 6, 8]),
        (16, [0, 2, 4, 6, 8, 10, 12, 14, 15]),
        (1000, [*range(0, 1000, 128), 999]),
    ],
)
def test_some_of_a_long_stream_are_kept(count, expected):
    spread = Spread(8)
    for number in range(count):
        spread.add(-number)
        assert len(spread.kept()) <= 9
    assert spread.kept() == {number: -number for number in expected}


def test_the_components_have_a_row_each(rng):
    kept = {
        t: [rng.random((SIZE, SIZE, 1)), np.full((K, SIZE, SIZE), 1 / K), rng.random((K, SIZE, SIZE, 1))]
        for t in (0, 9)
    }
    two = components(kept)
    one = components({0: kept[0]})
    assert two.shape[0] == one.shape[0] > (2 + K) * 112
    assert two.shape[1] - one.shape[1] > 112
    for colour in component_colours(K):
        assert (two == (255 * colour).round()).all(-1).any()


# ---- The program.


def test_a_video_is_segmented_at_its_own_size_and_rate(segmented, presets, rng, tmp_path):
    """The labels are those of the model; the overlay has the frames' times; nothing else is left."""
    frames = binary_frames(rng, 40, SIZE, SIZE)  # more than a chunk
    path = write(tmp_path / "clip.gif", pictures(frames))
    status, out, err = segmented(path, "--responsibilities")
    assert (status, err) == (0, "")
    assert f"{path}: 0..255 to 0..1, resized 24x24 to 8x8\n" in out
    assert out.count("0..255") == 1
    assert f"{path}: 40 frames of 24x24, " in out
    names = ["clip.components.png", "clip.masks.npz", "clip.overlay.gif"]
    assert sorted(each.name for each in (tmp_path / "out").iterdir()) == names
    assert all(str(tmp_path / "out" / name) in out for name in names)

    model, _ = from_preset(presets / "binary")
    expected = model.segment(frames)
    with np.load(tmp_path / "out/clip.masks.npz") as found:
        assert found["labels"].dtype == np.uint8
        # At a tie within rounding, any is right.
        certain = np.sort(expected.responsibilities, axis=1)
        certain = (certain[:, -1] - certain[:, -2] > 1e-4).repeat(3, 1).repeat(3, 2)
        labels = expected.labels.repeat(3, axis=1).repeat(3, axis=2)
        assert certain.mean() > 0.1
        np.testing.assert_array_equal(found["labels"][certain], labels[certain])
        assert found["foreground"].dtype == bool
        np.testing.assert_array_equal(found["foreground"], (frames > 0).repeat(3, axis=1).repeat(3, axis=2))
        assert found["responsibilities"].dtype == np.float16
        np.testing.assert_allclose(found["responsibilities"], expected.responsibilities, atol=2e-3)
    with Image.open(tmp_path / "out/clip.overlay.gif") as overlay:
        assert (overlay.n_frames, overlay.size, overlay.info["duration"]) == (40, (24, 24), 100)
    shown = frames_of(tmp_path / "out/clip.overlay.gif")
    assert (np.ptp(shown[0], axis=-1) > 30).mean() > 0.2  # tinted where the components differ, as at the start


def test_files_do_not_know_of_each_other(segmented, rng, tmp_path):
    for name in ("a", "b"):
        np.save(tmp_path / f"{name}.npy", binary_frames(rng, 3, SIZE, SIZE))
    assert segmented(tmp_path / "b.npy", "--responsibilities")[0] == 0
    alone = (tmp_path / "out/b.masks.npz").read_bytes()
    assert segmented(tmp_path / "a.npy", tmp_path / "b.npy", "--responsibilities")[0] == 0
    with np.load(tmp_path / "out/b.masks.npz") as after, np.load(io.BytesIO(alone)) as before:
        for name in ("labels", "foreground", "responsibilities"):
            np.testing.assert_array_equal(after[name], before[name])


@pytest.mark.parametrize("suffix", [".mp4", ".webm", ".webp", ".avi"])
def test_an_overlay_is_of_the_kind_it_lies_over(segmented, rng, tmp_path, suffix):
    write(tmp_path / f"clip{suffix}", pictures(binary_frames(rng, 5, SIZE, SIZE)))
    assert segmented(tmp_path / f"clip{suffix}")[0] == 0
    assert frames_of(tmp_path / f"out/clip.overlay{suffix}").shape == (5, 24, 24, 3)


def test_crop_labels_what_it_saw_only(segmented, rng, tmp_path):
    np.save(tmp_path / "wide.npy", rng.random((3, SIZE, 2 * SIZE)))
    status, out, _ = segmented(tmp_path / "wide.npy", "--size=crop")
    assert status == 0
    assert "wide.npy: the central 8x8 of 16x8, threshold at 0.5" in out
    masks = np.load(tmp_path / "out/wide.masks.npz")
    labels, foreground = masks["labels"], masks["foreground"]
    assert (labels[:, :, 4:12] < K).all()
    assert 0.2 < foreground[:, :, 4:12].mean() < 0.8
    assert not foreground[labels == NO_LABEL].any()
    assert (labels[:, :, :4] == NO_LABEL).all()
    assert (labels[:, :, 12:] == NO_LABEL).all()


def test_a_folder_becomes_a_folder_and_is_replaced_whole(segmented, rng, tmp_path):
    folder = tmp_path / "walk"
    folder.mkdir()
    for t, frame in enumerate(pictures(binary_frames(rng, 3, SIZE, SIZE))):
        Image.fromarray(frame).save(folder / f"f{t}.png")
    assert segmented(folder)[0] == 0
    overlay = tmp_path / "out/walk.overlay"
    assert sorted(path.name for path in overlay.iterdir()) == ["f0.png", "f1.png", "f2.png"]
    (folder / "f2.png").unlink()
    assert segmented(*folder.glob("*.png"))[0] == 0
    assert sorted(path.name for path in overlay.iterdir()) == ["f0.png", "f1.png"]
    assert len(list((tmp_path / "out").iterdir())) == 3

    (overlay / "mine.txt").touch()
    status, _, err = segmented(folder)
    assert status == 1
    assert "holds more than pictures" in err
    assert (overlay / "mine.txt").exists()


def test_masks_stand_beside_the_overlay_of_the_same_file(segmented, rng, tmp_path):
    """And not beside that of another one of its name."""
    frames = pictures(binary_frames(rng, 3, SIZE, SIZE))
    (tmp_path / "clip").mkdir()
    for t, frame in enumerate(frames):
        Image.fromarray(frame).save(tmp_path / f"clip/{t}.png")
    kinds = [write(tmp_path / "clip.gif", frames), write(tmp_path / "clip.mp4", frames), tmp_path / "clip"]
    out = tmp_path / "out"
    for kind in kinds:
        assert segmented(kind)[0] == 0
        before = {path: path.stat().st_mtime_ns for path in out.rglob("*")}
        for other in kinds:
            if other != kind:
                status, _, err = segmented(other)
                assert status == 1
                assert re.search(
                    r"out/clip\.overlay\S* is the overlay of another clip, whose masks \S+ would replace", err
                )
        assert {path: path.stat().st_mtime_ns for path in out.rglob("*")} == before
        shutil.rmtree(out)
    assert segmented(write(tmp_path / "clip.overlay.gif", frames))[0] == 0
    (out / "clip.overlay.txt").write_text("the user's")
    assert segmented(kinds[1])[0] == 0  # neither is an overlay of a file called clip


def test_nothing_of_the_user_s_is_replaced(segmented, rng, tmp_path):
    """Neither what is read nor what lies where an output would: then none of the three is written."""
    frames = pictures(binary_frames(rng, 3, SIZE, SIZE))
    folder, out = tmp_path / "walk", tmp_path / "out"
    folder.mkdir()
    (out / "walk.overlay").mkdir(parents=True)
    for t, frame in enumerate(frames):
        Image.fromarray(frame).save(folder / f"f{t}.png")
    own = out / "walk.overlay/holiday.png"
    Image.fromarray(frames[0]).save(own)
    status, _, err = segmented(folder)
    assert status == 1
    assert "walk.overlay holds more than pictures of an earlier overlay" in err
    assert own.exists()
    assert [path.name for path in out.iterdir()] == ["walk.overlay"]

    clip, read = write(out / "clip.gif", frames), write(out / "clip.overlay.gif", frames[::-1])
    before = read.read_bytes()
    status, _, err = segmented(clip, read)
    assert status == 1
    assert "clip.gif would be written to" in err
    assert "clip.overlay.gif, which is read: choose another --output" in err
    assert read.read_bytes() == before

    (out / "other.masks.npz").mkdir()
    status, _, err = segmented(write(tmp_path / "other.gif", frames))
    assert status == 1
    assert "other.masks.npz is a folder" in err
    assert not (out / "other.components.png").exists()


def test_a_sentence_is_one_line_whatever_a_file_is_called(segmented, tmp_path):
    np.save(tmp_path / "a\nb.npy", np.array([None]))
    status, _, err = segmented(tmp_path / "a\nb.npy")
    assert status == 1
    (line,) = err.splitlines()
    assert line.startswith("nem_tf.segment: ")


@pytest.mark.parametrize(("place", "words"), [("", "a FILE is empty"), ("{out}", "is a folder that is read")])
def test_neither_nothing_nor_its_own_output_is_read(segmented, tmp_path, place, words):
    (tmp_path / "out").mkdir()
    status, _, err = segmented(place.format(out=tmp_path / "out"))
    assert status == 1
    assert words in err


def test_sequences_of_a_data_set_and_k(segmented, rng, tmp_path):
    with h5py.File(tmp_path / "mine.h5", "w") as file:
        file["validation/features"] = binary_frames(rng, 4, 3, SIZE, SIZE, 1)
    status, out, _ = segmented(tmp_path / "mine.h5", "--split=validation", "--sequences=2", "--k=5")
    assert status == 0
    assert "K 5, frames of 8x8x1" in out
    assert "to 0..1" not in out
    assert out.count("the first 2 of 3 by --sequences") == 1
    labels = [np.load(tmp_path / f"out/mine_validation_{n}.masks.npz")["labels"] for n in range(2)]
    assert [each.shape for each in labels] == [(4, SIZE, SIZE)] * 2
    assert labels[0].max() == 4
    assert not (tmp_path / "out/mine_validation_2.masks.npz").exists()


@pytest.mark.parametrize("preset", ["binary", "colour"])
def test_the_components_see_noise_unless_told_otherwise(segmented, rng, tmp_path, preset):
    np.save(tmp_path / "clip.npy", (255 * binary_frames(rng, 5, SIZE, SIZE)).astype(np.uint8))
    kept = []
    for options in ((), ("--noise_prob=0.2",), ("--noise_prob=0",), ("--noise_prob=1",)):
        assert segmented(tmp_path / "clip.npy", "--responsibilities", *options, preset=preset)[0] == 0
        with np.load(tmp_path / "out/clip.masks.npz") as masks:
            kept.append(masks["responsibilities"])
    np.testing.assert_array_equal(kept[0], kept[1])  # that of the training
    assert all(np.abs(np.float32(kept[0]) - kept[n]).max() > 1e-3 for n in (2, 3))


def test_a_colour_model_gets_colours_without_a_threshold(segmented, rng, tmp_path):
    grey = pictures(binary_frames(rng, 4, SIZE, SIZE))[..., 0]
    np.save(tmp_path / "clip.npy", grey // 2)
    status, out, _ = segmented(tmp_path / "clip.npy", preset="colour")
    assert status == 0
    assert "0..255 to 0..1, resized 24x24 to 8x8, grey to colour\n" in out


@pytest.mark.parametrize(("kind", "trained"), [("median", "none"), ("first", "none"), ("auto", "median")])
def test_a_background_becomes_black_as_in_the_data_of_the_training(program, presets, rng, tmp_path, kind, trained):
    frames = rng.random((9, SIZE, SIZE, 3)).astype(np.float32)
    still = frames[0] if kind == "first" else np.median(frames, axis=0)
    np.save(tmp_path / "raw.npy", frames)
    np.save(tmp_path / "black.npy", np.abs(frames - still))
    preset = shutil.copytree(presets / "colour", tmp_path / "preset")
    config = json.loads((preset / "config.json").read_text())
    (preset / "config.json").write_text(json.dumps({**config, "data": {"settings": {"background": trained}}}))
    with h5py.File(tmp_path / "same.h5", "w") as file:  # the array, and no data set, whose background would be gone
        file["frames"] = frames
    with h5py.File(tmp_path / "ready.h5", "w") as file:
        file["test/features"] = np.abs(frames - still)[:, None]
    labels = []
    for name, flag in (("raw.npy", kind), ("same.h5", kind), ("black.npy", "none"), ("ready.h5", "auto")):
        run = (f"--preset={preset}", f"--output={tmp_path}/out", f"--background={flag}")
        status, out, err = program(SEGMENT, tmp_path / name, *run)
        assert (status, err) == (0, "")
        assert ("its background to black" in out) == (name in ("raw.npy", "same.h5"))
        (masks,) = (tmp_path / "out").glob(f"{name.partition('.')[0]}*.masks.npz")
        labels.append(np.load(masks)["labels"])
    for other in labels[1:]:
        np.testing.assert_array_equal(labels[0], other)


def test_a_background_is_gone_before_a_frame_becomes_binary(segmented, tmp_path):
    """A pixel that is lit in one of two frames is half lit in their median, and black where that is subtracted."""
    frames = np.full((2, SIZE, SIZE), 0.2, np.float32)
    frames[0, 2] = 1.0  # 0.4 above the median
    frames[1, 5] = 1.0
    frames[:, 7] = 0.9
    np.save(tmp_path / "clip.npy", frames)
    status, out, _ = segmented(tmp_path / "clip.npy", "--background=median")
    assert status == 0
    assert "its background to black, threshold at 0.5" in out
    assert not np.load(tmp_path / "out/clip.masks.npz")["foreground"].any()


def test_components_that_look_at_each_other_are_two_at_least(program, tmp_path):
    np.save(tmp_path / "clip.npy", np.zeros((2, 64, 64), np.float32))
    status, _, err = program(SEGMENT, tmp_path / "clip.npy", "--preset=balls_r_nem", "--k=1")
    assert status == 1
    assert "takes at least 2 components" in err
    assert "Traceback" not in err


def test_one_frame_is_enough_for_a_still_model_and_a_denoiser(segmented, rng, tmp_path):
    Image.fromarray(pictures(binary_frames(rng, 1, SIZE, SIZE))[0]).save(tmp_path / "a.png")
    path = tmp_path / "a.png"
    status, _, err = segmented(path)
    assert status == 1
    assert f"{path} has one frame: expected at least 2" in err
    assert not list((tmp_path / "out").iterdir())
    status, out, _ = segmented(path, preset="still")
    assert status == 0
    assert "shown 4 times" in out  # 3 steps
    labels = np.load(tmp_path / "out/a.masks.npz")["labels"]  # of the picture's own name, which the next has not
    assert labels.shape == (1, 24, 24)
    status, out, _ = segmented(path, preset="denoiser")
    assert status == 0
    assert "shown" not in out


def test_one_frame_is_enough_for_a_model_of_still_images_of_one_s_own(program, rng, tmp_path):
    """Whether its images are still is not said by the name of its data."""
    chosen = {"dataset": str(tmp_path / "mine.h5"), "network": "convolutional", "widths": "4", "max_steps": 1}
    settings = resolve({**tiny(tmp_path, tmp_path / "run"), **chosen})
    with h5py.File(tmp_path / "mine.h5", "w") as file:
        for split in ("training", "validation"):
            file[f"{split}/features"] = binary_frames(rng, 32, SIZE, SIZE)[None, ..., None].astype(np.float32)
    (tmp_path / "flags").write_text(to_flagfile(settings))
    assert program("nem_tf.train", f"--flagfile={tmp_path / 'flags'}")[0] == 0
    run = f"--run_dir={settings.paths.run_dir}"
    assert program("nem_tf.export", run, "--format=preset", f"--export_dir={tmp_path / 'preset'}")[0] == 0
    Image.fromarray(pictures(binary_frames(rng, 1, SIZE, SIZE))[0]).save(tmp_path / "a.png")
    for which in (run, f"--preset={tmp_path / 'preset'}"):
        status, out, err = program(SEGMENT, tmp_path / "a.png", which, f"--output={tmp_path / 'out'}")
        assert status == 0, err
        assert "shown 4 times" in out  # 3 steps


def test_a_bad_file_is_reported_and_the_others_are_done(segmented, rng, tmp_path):
    good = write(tmp_path / "good.gif", pictures(binary_frames(rng, 3, SIZE, SIZE)))
    (tmp_path / "bad.mp4").write_text("no video")
    (loop := tmp_path / "loop.gif").symlink_to(loop.name)
    nan = rng.random((20, SIZE, SIZE))
    nan[19, 0, 0] = np.nan
    np.save(tmp_path / "nan.npy", nan)
    other = tmp_path / "other"
    other.mkdir()
    again = write(other / "good.gif", pictures(binary_frames(rng, 3, SIZE, SIZE)))
    sizes = tmp_path / "sizes"
    sizes.mkdir()
    for t in range(20):  # the last one, after a chunk was written
        Image.new("L", (8, 8 + t // 19)).save(sizes / f"{t}.png")
    status, _, err = segmented(tmp_path / "bad.mp4", tmp_path / "nan.npy", sizes, good, again, loop)
    assert status == 1
    lines = err.strip().splitlines()
    assert len(lines) == 5
    assert all(line.startswith(f"{SEGMENT}: {tmp_path}") for line in lines)
    assert "bad.mp4 is no video that can be read" in lines[0]
    assert "nan.npy: frame 19 holds NaN or infinity" in lines[1]
    assert f"{again} and {good} would both be written to good.masks.npz in --output={tmp_path / 'out'}" in lines[2]
    assert "loop.gif is no gif that can be read: Too many levels of symbolic links" in lines[3]
    assert (
        "sizes: 19 is 8x9, after 8x8: expected frames of one size, since the pictures of a folder are one clip"
        in lines[4]
    )
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "good.components.png", "good.masks.npz", "good.overlay.gif"
    ]  # fmt: skip


def test_a_video_that_ends_too_early_is_told(segmented, rng, tmp_path):
    """One that need not be whole to be read."""
    path = write(tmp_path / "clip.webm", pictures(binary_frames(rng, 60, SIZE, SIZE)))
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    status, out, _ = segmented(path)
    assert status == 0
    assert re.search(r"clip.webm: \d\d frames of 24x24, of 60 announced: it may be cut short, ", out)


@pytest.mark.parametrize(
    ("args", "words"),
    [
        ((), "FILE is missing: expected mp4"),
        (("a.gif", "--k=0"), "--k=0"),
        (("a.gif", "--k=256"), "--k=256"),
        (("a.gif", "--size=stretch"), "--size=stretch"),
        (("a.gif", "--sequences=0"), "--sequences=0"),
        (("a.gif", "--seed=-1"), "--seed=-1"),
        (("a.gif", "--output="), "--output is empty: expected a directory"),
        (("a.gif", "--output=taken"), "--output=taken is a file: expected a directory"),
        (("a.gif", "--output=taken/below"), "cannot write to --output=taken/below: Not a directory"),
        (("a.gif", "--preset=nothing"), "nothing is no preset"),
        (("a.gif", "--run_dir=nothing"), "leave out --run_dir"),
        (("a.gif", "--split=training"), "--split is for npy, npz and h5, and no FILE is one of them"),
        (("a.gif", "--layout=THW"), "--layout is for npy"),
    ],
)
def test_bad_flags_are_one_sentence(program, presets, tmp_path, monkeypatch, args, words):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "taken").touch()
    write(tmp_path / "a.gif", np.zeros((2, 8, 8, 3), np.uint8))
    status, _, err = program(SEGMENT, f"--preset={presets / 'binary'}", *args)
    assert status == 1
    (line,) = err.strip().splitlines()
    assert line.startswith(f"{SEGMENT}: ")
    assert words in line


def test_a_read_only_directory(segmented, tmp_path, monkeypatch):
    monkeypatch.setattr(os, "access", lambda path, mode: False)  # whoever runs this may write everywhere
    status, _, err = segmented(tmp_path / "a.gif")
    assert status == 1
    assert f"cannot write to --output={tmp_path / 'out'}: it is read-only" in err


ENDS = {
    "full disk": (OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)), 1, "the disk is full"),
    "read-only": (OSError(errno.EROFS, os.strerror(errno.EROFS)), 1, "cannot write to --output="),
    "SIGTERM": (Interrupted("ended by a signal", signal.SIGTERM), 128 + signal.SIGTERM, "ended by a signal"),
    "Ctrl-C": (KeyboardInterrupt(), 128 + signal.SIGINT, "interrupted"),
}


@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize("writer", [videos.VideoWriter, writing.LabelsFile])
def test_nothing_is_half_written(segmented, rng, tmp_path, monkeypatch, end, writer):
    """And what an earlier call wrote stays as it was."""
    path = write(tmp_path / "clip.gif", pictures(binary_frames(rng, 3, SIZE, SIZE)))
    assert segmented(path)[0] == 0
    before = {each.name: each.read_bytes() for each in (tmp_path / "out").iterdir()}
    error, expected, words = ENDS[end]
    whole = writer.add

    def ends(self, *args):
        whole(self, *args)
        raise error

    monkeypatch.setattr(writer, "add", ends)
    status, _, err = segmented(path, "--k=2")
    assert status == expected
    (line,) = err.strip().splitlines()
    assert words in line
    assert {each.name: each.read_bytes() for each in (tmp_path / "out").iterdir()} == before


@pytest.mark.parametrize("suffix", [".mp4", ".gif"])
def test_without_pyav_it_says_what_to_install(segmented, rng, tmp_path, monkeypatch, suffix):
    """Which is an extra: pictures and arrays need none."""
    path = write(tmp_path / f"clip{suffix}", pictures(binary_frames(rng, 3, SIZE, SIZE)))
    for module in ("data_gen.frames.videos", "nem_tf.media.videos"):
        monkeypatch.delitem(sys.modules, module, raising=False)
    monkeypatch.setitem(sys.modules, "av", None)
    status, _, err = segmented(path)
    assert status == 1
    (line,) = err.strip().splitlines()
    assert line.endswith(f"clip{suffix}: {NO_PYAV}")
    assert not (tmp_path / "out").exists() or not list((tmp_path / "out").iterdir())


def test_it_says_when_the_masks_tell_nothing_apart(segmented, rng, tmp_path, monkeypatch):
    """What the model makes of the frames is made up here."""
    path = write(tmp_path / "clip.gif", pictures(np.ones((40, SIZE, SIZE))))
    call = Watcher.__call__

    def seen(gamma):
        def watch(self, frames):
            shown = call(self, frames)
            made_up = np.broadcast_to(np.array(gamma, np.float32)[:, None, None], shown.gamma.shape)
            return shown._replace(gamma=made_up, labels=made_up.argmax(1).astype(np.uint8))

        monkeypatch.setattr(Watcher, "__call__", watch)
        status, out, err = segmented(path)
        assert (status, err) == (0, "")
        return out

    assert "  uniform responsibilities: " in seen([0.34, 0.33, 0.33])
    assert "  one component for everything: " in seen([0.1, 0.8, 0.1])


def test_frames_are_not_held(presets, tmp_path, monkeypatch):
    """However long it is, a few chunks of frames are alive."""
    alive, most = set(), 0

    class Counted(np.ndarray):
        def __del__(self):
            alive.discard(getattr(self, "number", None))

    def frames():
        nonlocal most
        for t in range(300):
            pixels = np.zeros((SIZE, SIZE, 1), np.uint8).view(Counted)
            pixels.number = t
            alive.add(t)
            most = max(most, len(alive))
            yield Frame(pixels, Fraction(t, 10))

    (tmp_path / "out").mkdir()
    clip = Clip("clip", "clip", ".gif", frames(), 300)
    watcher = Watcher(Served(model_of(), ALIGNMENTS["next_frame"]), K)
    written = segmentation.segment(clip, watcher, tmp_path / "out", say=lambda line: None)
    assert clip.count == 300
    assert len(written.paths) == 3
    assert most <= 2 * segmentation.CHUNK + 2
