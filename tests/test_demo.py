"""The demo: what it shows is what the model does, on sequences that nobody trained on."""

import errno
import io
import re
import shutil
from pathlib import Path

import h5py
import numpy as np
import pytest
from conftest import small_cell, tiny
from PIL import Image
from small_sets import write_npz

from nem_tf import build, demonstration, drawing, evaluation
from nem_tf.demonstration import STILL_STEPS, Shown, animation, show, still
from nem_tf.drawing import FONT_SIZE, component_colours, gif
from nem_tf.errors import UserError
from nem_tf.layers import RNNEM, GaussianMixture, RelationalCore, RNNEMCell
from nem_tf.pretrained import save_to_preset
from nem_tf.settings import resolve
from nem_tf.trained import read_preset
from nem_tf.unrolling import Rollout

DEMO = "nem_tf.demo"
PRESET = "static_shapes_rnn_em"


def chosen(trained, **changes):
    return trained.settings.replace(**{"curriculum": "", "test_size": 2, "batch_size": 2, "nr_steps": 3, **changes})


def shown_of(rng, steps=6, sequences=2, pictures=4):
    tiles = rng.random((sequences, steps, pictures, 30, 40, 3))
    return Shown(tiles, [f"picture\n{i}" for i in range(pictures)], rng.random((sequences, steps)))


# ---- What is shown.


def test_new_sequences_of_another_seed_are_shown_and_scored(tmp_path, monkeypatch):
    """Noisy and clean frame, responsibilities in the components' colours, faint where there is nothing, predictions."""
    monkeypatch.chdir(tmp_path)
    seeds, generated = [], evaluation.build.provide
    monkeypatch.setattr(build, "provide", lambda *args: (seeds.append(args[3]), generated(*args)))
    trained = read_preset(PRESET)
    shown = show(trained, chosen(trained, nr_steps=15, seed=4))
    assert seeds == [5]  # the training's is 0
    assert not list(tmp_path.iterdir())
    assert shown.tiles.shape == (2, 15, 3 + 4, 28 * 4 + 6, 28 * 4 + 6, 3)
    assert shown.titles[-1] == "component 4\npredicts"
    assert (shown.ami[:, -1] > shown.ami[:, 0]).all()

    noisy, clean, explained, *predictions = np.moveaxis(shown.tiles[:, :, :, 3:-3:4, 3:-3:4], 2, 0)
    assert set(np.unique(clean)) == {0, 1}
    assert 0.05 < (noisy != clean).mean() < 0.15  # the preset's noise flips a tenth
    assert (explained.max(-1)[clean[..., 0] == 0] <= drawing.FAINT).all()
    assert (explained.max(-1)[clean[..., 0] == 1] > drawing.FAINT).all()
    objects = clean[:, -1, ..., 0] == 1
    near = np.abs(explained[:, -1][..., None, :] - component_colours(4)).sum(-1).argmin(-1)
    agree = near == np.argmax([tiles[:, -1, ..., 0] for tiles in predictions], axis=0)
    assert agree[objects].mean() > 0.7
    np.testing.assert_allclose(shown.tiles[0, 0, 3, 0, 0], component_colours(4)[0])  # its frame


def test_a_file_of_ones_own_of_grey_frames_without_labels(tmp_path, rng, capsys):
    """What is predicted outside of [0, 1] is clipped; there is no AMI."""
    with h5py.File(tmp_path / "grey.h5", "w") as file:
        for split in ("training", "test"):
            file[f"{split}/features"] = rng.random((4, 3, 24, 24, 1))
    settings = resolve(
        {
            **tiny(tmp_path, tmp_path / "run"),
            "dataset": str(tmp_path / "grey.h5"),
            "k": 2,
            "mixture": "gaussian",
            "noise": "masked_uniform",
            "prior": "black",
        }
    )
    mixture = GaussianMixture(e_sigma=settings.model.e_sigma)
    model = RNNEM(small_cell(k=2, image_shape=(24, 24, 1), mixture=mixture))
    model.build((None, None, 24, 24, 1))
    for weight in model.trainable_variables:
        weight.assign(20 * weight)
    save_to_preset(tmp_path / "grey", model, settings)
    trained = read_preset(tmp_path / "grey")
    shown = show(trained, chosen(trained))
    assert shown.ami is None
    assert shown.tiles.shape[:3] == (2, 3, 3 + 2)
    assert (shown.tiles.min(), shown.tiles.max()) == (0, 1)
    inside = shown.tiles[:, :, 3:, 3:-3, 3:-3]
    assert (inside == 0).any()
    assert (inside == 1).any()
    assert Image.open(io.BytesIO(animation(shown))).n_frames == 3


@pytest.fixture(scope="module")
def relational(tmp_path_factory):
    """A preset of a small R-NEM, not trained, whose components are not all alike."""
    directory = tmp_path_factory.mktemp("relational") / "balls"
    settings = resolve({"dataset": "balls4mass64", "k": 3, "nr_steps": 4, "network": "test_demo:relational_network"})
    model = build.build_model(settings, (64, 64, 1))
    for weight in model.trainable_variables:
        weight.assign(3 * weight)
    save_to_preset(directory, model, settings)
    return read_preset(directory)


def relational_network(image_shape, mixture, dtype="float32", **cell):
    """A network of one's own."""
    small = small_cell(image_shape=image_shape, mixture=mixture)
    return RNNEMCell(small.encoder, RelationalCore(7, attention_units=5), small.decoder, mixture, **cell)


def test_of_a_relational_model_it_is_shown_who_looks_at_whom(relational, monkeypatch):
    def first_by_second(gamma, psi, attention, scale):
        return np.broadcast_to(attention[:, 0, 1, None, None, None], (len(gamma), 128, 128, 3))

    monkeypatch.setattr(demonstration, "attention_tiles", first_by_second)
    shown = show(relational, chosen(relational, nr_steps=4))
    assert shown.titles[3:6] == ["what all\npredict", "who then\naffects whom", "component 1\npredicts"]
    assert shown.tiles.shape == (2, 4, 5 + 3, 128 + 6, 128 + 6, 3)
    drawn = shown.tiles[:, :, 4, 64, 64, 0]
    assert ((drawn > 0) & (drawn < 1)).all()
    assert len(np.unique(drawn.round(5))) > 4


def test_in_a_roll_out_what_is_imagined_has_a_frame_of_its_colour_and_says_so(relational):
    shown = show(relational, chosen(relational, nr_steps=6), rollout=Rollout(2, "soft", noise=False))
    corners = shown.tiles[:, :, :, 0, 0]
    seen, imagined = corners[:, :3], corners[:, 3:]
    assert (seen[:, :, :5] == 1).all()
    for column in (0, 2, 3, 4):
        np.testing.assert_allclose(imagined[:, :, column], np.broadcast_to(demonstration.IMAGINED, (2, 3, 3)))
    assert (imagined[:, :, 1] == 1).all()  # the true frame is no imagination
    inputs = shown.tiles[:, :, 0, 3:-3:2, 3:-3:2, 0]
    assert set(np.unique(inputs[:, :3])) == {0, 1}
    assert ((inputs[:, 3:] > 0.01) & (inputs[:, 3:] < 0.99)).mean() > 0.5  # soft
    labels = [demonstration._label(shown, 0, t) for t in (2, 3)]
    assert labels[0].startswith("step 3\nAMI")
    assert labels[1].startswith("step 4,\nimagined\nAMI")
    assert Image.open(io.BytesIO(animation(shown))).n_frames == 6
    assert Image.open(io.BytesIO(still(shown))).size[0] > 5 * 134
    with pytest.raises(UserError, match="--rollout_from=5 leaves nothing to imagine: expected at most 4"):
        show(relational, chosen(relational, nr_steps=6), rollout=Rollout(5, "soft"))


# ---- How it is drawn.


def test_the_animation_has_a_frame_a_step_and_rests_at_the_end(rng):
    shown = shown_of(rng)
    picture = Image.open(io.BytesIO(animation(shown)))
    assert (picture.format, picture.n_frames, picture.info["loop"]) == ("GIF", 6, 0)
    assert picture.size[0] > 4 * 40
    durations = []
    for t in range(6):
        picture.seek(t)
        durations.append(picture.info["duration"])
    assert durations == [demonstration.MILLISECONDS] * 5 + [demonstration.MILLISECONDS + demonstration.PAUSE]


def test_every_tile_is_in_its_place_and_sharp(rng):
    shown = shown_of(rng, steps=20)
    picture = np.asarray(Image.open(io.BytesIO(still(shown, sequence=1))))
    steps = [*STILL_STEPS, 20]
    tiles = (255 * shown.tiles[1]).round().astype(np.uint8)
    found = []
    for step in steps:
        for number in range(4):
            tile = tiles[step - 1, number]
            (place,) = (
                (y, x)
                for y, x in np.argwhere((picture == tile[0, 0]).all(-1))
                if picture[y : y + 30, x : x + 40].shape == tile.shape
                and (picture[y : y + 30, x : x + 40] == tile).all()
            )
            found.append(place)
    rows, columns = (np.array(found).reshape(len(steps), 4, 2)[..., axis] for axis in (0, 1))
    assert (np.diff(rows, axis=1) > 30).all()  # what is shown goes down
    assert (np.diff(columns, axis=0) > 40).all()  # time goes to the right
    assert (rows == rows[:1]).all()
    assert (columns == columns[:, :1]).all()
    assert rows[0, 0] > 2 * FONT_SIZE  # below labels of two lines
    assert (picture[: rows[0, 0]] < 128).any()


def test_a_short_still_shows_every_step_once(rng):
    """One, two and three columns; without a footnote, which may be wider than they are."""
    widths = [
        Image.open(io.BytesIO(still(shown_of(rng, steps=steps)._replace(ami=None)))).size[0] for steps in (1, 2, 3)
    ]
    assert widths[1] - widths[0] == widths[2] - widths[1] > 40


def test_black_and_white_stay_what_they_are_in_a_gif(rng):
    pictures = rng.integers(0, 256, (2, 40, 40, 1), dtype=np.uint8).repeat(3, axis=-1)
    pictures[:, :, 20:, 0] //= 2
    pictures[:, :10], pictures[:, 10:20] = 255, 0
    pictures[:, 20:22], pictures[:, 22:24] = (250, 0, 0), (0, 0, 250)
    read = np.asarray(Image.open(io.BytesIO(gif(pictures, 100))).convert("RGB"))
    assert (read[:10] == 255).all()
    assert (read[10:20] == 0).all()
    assert np.abs(read[20:22].astype(int) - (250, 0, 0)).max() < 8
    assert np.abs(read[22:24].astype(int) - (0, 0, 250)).max() < 8
    assert len(np.unique(read)) > 100


# ---- The program.


def test_the_program_writes_both_and_says_so(program, tmp_path):
    where = tmp_path / "some/where"
    status, out, err = program(DEMO, f"--preset={PRESET}", "--nr_steps=3", "--sequences=2", "--k=3",
                               f"--output_dir={where}")  # fmt: skip
    assert (status, err) == (0, "")
    assert len(re.search(r"AMI after step 3: (.*)", out)[1].split()) == 2
    moving, picture = (Image.open(where / f"{PRESET}.{suffix}") for suffix in ("gif", "png"))
    for path in where.iterdir():
        assert f"written to {path}" in out
        assert 2000 < path.stat().st_size < 1_500_000
    assert moving.n_frames == 3
    assert moving.convert("RGB").getpixel((1, 1)) == picture.getpixel((1, 1)) == (255, 255, 255)
    assert moving.size[0] > 6 * 112  # three pictures and three components
    assert picture.size[1] > 6 * 112


def test_the_program_rolls_out(program, relational, tmp_path):
    where = ("--sequences=1", "--nr_steps=4", f"--output_dir={tmp_path}")
    status, out, err = program(DEMO, f"--preset={relational.directory}", "--rollout_from=1", *where)
    assert (status, err) == (0, "")
    assert re.findall(r"AMI after (.*): \S+\n", out) == ["step 2, the last that saw a frame", "step 4, imagined"]
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "balls_rollout_from1.gif", "balls_rollout_from1.png"
    ]  # fmt: skip
    status, _, err = program(DEMO, f"--preset={relational.directory}", "--rollout_from=1", "--rollout=draw", *where)
    assert (status, err) == (0, "")
    assert (tmp_path / "balls_rollout_from1_draw.png").exists()  # beside the other one, to be compared with it


def test_data_of_ones_own_directory_and_a_run(program, tiny_run, tiny_data, tmp_path):
    where = f"--output_dir={tmp_path}"
    before = (tiny_data / "flying_shapes.h5").read_bytes()
    status, out, _ = program(DEMO, f"--preset={tiny_run}", where, "--sequences=1", f"--data_dir={tiny_data}")
    assert status == 0
    assert "generating" not in out
    assert (tiny_data / "flying_shapes.h5").read_bytes() == before
    assert Image.open(tmp_path / f"{tiny_run.name}.gif").n_frames == 3


def test_a_picture_of_before_stays_whole_where_the_disk_is_full(program, tiny_run, tmp_path, monkeypatch):
    where = f"--output_dir={tmp_path}"
    assert program(DEMO, f"--preset={tiny_run}", where, "--sequences=1")[0] == 0
    before = (tmp_path / f"{tiny_run.name}.gif").read_bytes()

    def full(path, data):
        with path.open("wb") as file:
            file.write(data[:9])
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    status, _, err = program(DEMO, f"--preset={tiny_run}", where, "--sequences=2")
    assert status == 1
    assert "No space left on device" in err
    assert (tmp_path / f"{tiny_run.name}.gif").read_bytes() == before


def test_a_file_of_ones_own_lies_in_no_data_directory(program, tiny_run, tmp_path):
    copied = shutil.copytree(tiny_run, tmp_path / "run")
    flagfile = copied / "flags.txt"
    flagfile.write_text(flagfile.read_text().replace("--dataset=flying_shapes\n", f"--dataset={tmp_path}/mine.h5\n"))
    status, _, err = program(DEMO, f"--preset={copied}", "--data_dir=other", f"--output_dir={tmp_path}")
    assert status == 1
    assert f"--data_dir=other is for published data: {copied} is of {tmp_path}/mine.h5" in err


def test_digits_of_another_place_must_be_those_of_the_training(program, tmp_path):
    source = write_npz(tmp_path / "other.npz")
    status, out, err = program(
        DEMO, "--preset=flying_mnist_2_direct", f"--mnist={source}", "--sequences=1", f"--output_dir={tmp_path}"
    )
    assert status == 1
    assert "generating" not in out
    assert f"--mnist={source} holds other digits than flying_mnist_2_direct was trained on" in err


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (("--preset=nothing",), ("nothing", "one of", PRESET)),
        (("--output_dir=taken",), ("--output_dir=taken is a file: expected a directory",)),
        (("--output_dir=taken/below",), ("cannot write to --output_dir=taken/below: Not a directory",)),
        (("--data_dir=nowhere",), ("--data_dir=nowhere has no static_shapes.h5",)),
        (("--sequences=0",), ("--sequences=0",)),
        (("--sequences=9",), ("--sequences=9",)),
        (("--rollout=soft",), ("--rollout says", "--rollout_from")),
        (("--k=0",), ("--k=0",)),
        (("--nr_steps=0",), ("--nr_steps=0",)),
        (("--seed=-1",), ("--seed=-1",)),
        (("more",), ("unexpected argument 'more'",)),
    ],
)
def test_bad_input_is_one_sentence(program, tmp_path, monkeypatch, args, words):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "taken").touch()
    status, _, err = program(DEMO, f"--preset={PRESET}", *args)
    assert status == 1
    (sentence,) = err.strip().splitlines()
    assert sentence.startswith(f"{DEMO}: ")
    assert all(word in sentence for word in words)
    assert [path.name for path in tmp_path.iterdir()] == ["taken"]
