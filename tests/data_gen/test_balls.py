"""Bouncing balls: pictures, labels, collisions and curtain, read off the arrays; published statistics; the files."""

import functools
import hashlib

import h5py
import numpy as np
import pytest
from scipy import ndimage
from small_sets import visible

import data_gen
from data_gen import DataGenError, writer
from data_gen.balls import Balls
from data_gen.generate import generate
from data_gen.names import SPLITS
from data_gen.registry import generator_of

UNIT = 64 / 15  # pixels
SMALL = {"training": 66, "validation": 2, "test": 1}  # more than one block
DATASETS = ("balls4mass64", "balls678mass64", "balls3curtain64")


@functools.cache
def arrays(dataset, n=64, nr_frames=51):
    """By name, to be left as they are."""
    generator = generator_of(dataset, nr_frames)
    drawn = generator.sequences(np.random.default_rng(0), n, "test")
    return dict(zip((member.name for member in generator.members), drawn, strict=True))


def numbers_of(held):
    """Balls of every sequence, [n]."""
    return np.isfinite(held["positions"][0, :, :, 0]).sum(1)


def discs(positions, radii):
    """Draws balls the long way: bool [T, n, K, H, W]."""
    centre = np.arange(64) + 0.5
    y, x = (positions[..., axis, None] for axis in range(2))
    squares = ((centre - y) ** 2)[..., :, None] + ((centre - x) ** 2)[..., None, :]
    return squares <= radii[..., None, None] ** 2


@functools.cache
def whole_balls(dataset, n=12):
    """Discs of the balls whatever hides them, of the first sequences, and their radii [n, K]."""
    held = arrays(dataset)
    _, radius, _ = generator_of(dataset, 51).motion(np.random.default_rng(0), 64)
    with np.errstate(invalid="ignore"):
        return discs(held["positions"][:, :n].astype(float), radius[:n]), radius[:n]


# ---- Pictures and labels.


@pytest.mark.parametrize("dataset", DATASETS)
def test_members_are_those_that_the_generator_says(dataset):
    generator = generator_of(dataset, 51)
    for member in generator.members:
        array = arrays(dataset)[member.name]
        assert array.shape == (51, 64, *member.shape)
        assert array.dtype == member.dtype
    assert [member.name for member in generator.members[:2]] == ["features", "groups"]


@pytest.mark.parametrize("dataset", DATASETS)
def test_pictures_are_discs_and_a_pixel_of_two_has_no_label(dataset):
    held, (balls, _) = arrays(dataset), whole_balls(dataset)
    features, groups = (held[name][:, :12, ..., 0] for name in ("features", "groups"))
    seen = features == balls.any(2)
    if dataset != "balls3curtain64":
        assert seen.mean() > 0.9999  # positions are rounded to single precision
        label = (balls * np.arange(1, balls.shape[2] + 1)[:, None, None]).sum(2) * (balls.sum(2) == 1)
        assert (groups == label).mean() > 0.9999
        assert (balls.sum(2) > 1).any()
    assert not groups[features == 0].any()
    assert set(np.unique(features)) == {0, 1}
    assert groups.max() == held["positions"].shape[2]


def test_areas_are_those_of_the_radii_and_half_of_the_balls_are_heavy():
    held = arrays("balls4mass64", 400, 2)
    areas = np.stack([(held["groups"] == label).sum((2, 3, 4)) for label in range(1, 5)], -1)[0]  # [n, 4]
    heavy = areas > 105
    assert areas[~heavy].mean() == pytest.approx(np.pi * (1.2 * UNIT) ** 2, abs=0.5)  # 82.4
    assert areas[heavy].mean() == pytest.approx(np.pi * (1.5 * UNIT) ** 2, abs=0.5)  # 128.7
    assert areas[heavy].std() < 4
    assert heavy.mean() == pytest.approx(0.5, abs=0.05)
    assert np.unique(heavy.sum(1)).tolist() == [0, 1, 2, 3, 4]  # each draws its own


def test_a_ball_is_where_its_position_says():
    held = arrays("balls678mass64")
    for label in range(1, 9):
        mask = held["groups"][..., 0] == label
        size = mask.sum((2, 3))
        centre = np.stack([(mask.sum(axis) * (np.arange(64) + 0.5)).sum(-1) for axis in (3, 2)], -1)
        there = np.isfinite(held["positions"][:, :, label - 1, 0])
        assert (size[there] > 60).all()
        assert not size[~there].any()
        off = centre[there] / size[there][:, None] - held["positions"][:, :, label - 1][there]
        assert np.abs(off).max() < 0.6


def test_some_sequences_have_six_some_seven_some_eight_balls():
    generator = Balls((6, 7, 8), nr_frames=1)
    held = generator.sequences(np.random.default_rng(1), 300, "test")
    numbers = np.isfinite(held[4][0, :, :, 0]).sum(1)
    assert sorted(set(numbers)) == [6, 7, 8]
    assert np.unique(numbers, return_counts=True)[1].min() > 70
    np.testing.assert_array_equal(held[1].max((0, 2, 3, 4)), numbers)  # the first labels are the ones in use
    np.testing.assert_array_equal(np.isnan(held[4]), np.isnan(held[5]))


# ---- Curtain.


def test_the_curtain_is_a_square_that_hides_pixels_labels_and_marks():
    held, (balls, _) = arrays("balls3curtain64"), whole_balls("balls3curtain64")
    *_, hidden = generator_of("balls3curtain64", 51).motion(np.random.default_rng(0), 64)
    assert (hidden.sum((1, 2)) == 28 * 28).all()
    for image in hidden:
        rows, columns = np.flatnonzero(image.any(1)), np.flatnonzero(image.any(0))
        assert rows[-1] - rows[0] == columns[-1] - columns[0] == 27
    for name in ("features", "groups", "collisions"):
        assert not held[name][:, hidden].any()
        assert held[name].any()
    missing = balls.any(2) & (held["features"][:, :12, ..., 0] == 0)
    assert (missing & ~hidden[:12]).sum() <= 2  # single precision
    np.testing.assert_array_equal(missing & hidden[:12], balls.any(2) & hidden[:12])
    assert (missing.sum((2, 3)) > 185 / 2).any()


def test_the_curtain_may_hang_anywhere():
    *_, hidden = generator_of("balls3curtain64", 1).motion(np.random.default_rng(0), 800)
    for axis in (1, 2):
        assert set(hidden.any(axis).argmax(1)) == set(range(37))


def test_without_a_curtain_every_ball_is_seen():
    assert (arrays("balls4mass64")["groups"].max((2, 3, 4)) == 4).all()


def test_balls_behind_a_curtain_are_large_and_alike():
    generator = generator_of("balls3curtain64", 51)
    _, radius, _ = generator.motion(np.random.default_rng(0), 64)
    assert np.unique(radius) == pytest.approx(7.68)
    speed = np.sqrt((arrays("balls3curtain64")["velocities"] ** 2).sum((2, 3)))
    assert speed == pytest.approx(3.2, rel=1e-5)  # masses are equal: energy is the sum of squares


# ---- Collisions.


@pytest.mark.parametrize("dataset", DATASETS)
def test_marks_and_events_are_where_a_ball_changes_its_speed(dataset):
    """A wall turns a ball without changing its speed; a collision does, whatever else it is."""
    held, (balls, _) = arrays(dataset), whole_balls(dataset)
    features, marks = (held[name][:, :12, ..., 0] for name in ("features", "collisions"))
    events = held["events"][:, :, 0, 0, 0]
    speed = (held["velocities"].astype(float) ** 2).sum(-1)  # [T, n, K]
    hit = np.abs(np.diff(speed, axis=0)) > 1e-4  # on the way to the next frame
    assert not events[0].any()
    np.testing.assert_array_equal(events[1:] > 0, hit.any(-1))
    assert (2 * events[1:] >= hit.sum(-1)).all()
    assert (events[1:] <= hit.sum(-1) * (hit.sum(-1) - 1) // 2).all()
    around = hit[1:, :12] | hit[:-1, :12]  # frames 1 to T - 2
    expected = (balls[1:-1] & around[..., None, None]).any(2) & (features[1:-1] > 0)
    assert (marks[1:-1] == expected).mean() > 0.9999
    assert expected.any()
    assert not (marks & ~features).any()


def test_a_collision_after_the_last_frame_marks_it():
    """So that a longer sequence begins with the shorter one."""
    marked = arrays("balls4mass64", 64, 51)["collisions"]
    for nr_frames in (1, 9):
        np.testing.assert_array_equal(arrays("balls4mass64", 64, nr_frames)["collisions"], marked[:nr_frames])
    assert marked[0].any()


# ---- Statistics of the authors' animations.


def test_balls_touch_in_9_to_18_percent_of_the_frames():
    features = arrays("balls4mass64")["features"][..., 0]
    blobs = np.array([[ndimage.label(image)[1] for image in frame] for frame in features[::5]])
    assert 0.09 < (blobs < 4).mean() < 0.18


@pytest.mark.parametrize(
    ("dataset", "number", "rms"),
    [("balls4mass64", 4, 1.07), ("balls678mass64", 6, 0.87), ("balls678mass64", 8, 0.75), ("balls3curtain64", 3, 1.85)],
)
def test_speeds_at_the_start_have_one_scale(dataset, number, rms):
    held = arrays(dataset)
    squares = np.nansum(held["velocities"][0] ** 2, (1, 2))
    unit = UNIT if dataset.endswith("mass64") else 6.4
    np.testing.assert_allclose(squares, (0.5 * unit) ** 2, rtol=1e-5)
    assert np.sqrt(squares[numbers_of(held) == number] / number) == pytest.approx(rms, abs=0.006)


@pytest.mark.parametrize(("dataset", "low"), [("balls4mass64", 5.12), ("balls3curtain64", 7.68)])
def test_centres_go_as_far_as_the_walls_let_them(dataset, low):
    positions = arrays(dataset)["positions"]
    assert positions.min() == pytest.approx(low, abs=0.02)
    assert positions.max() == pytest.approx(64 - low, abs=0.02)
    assert positions.min() >= low - 1e-5
    assert positions.max() <= 64 - low + 1e-5


# ---- Generator and files.


@pytest.mark.parametrize("dataset", DATASETS)
def test_a_longer_sequence_begins_with_the_shorter_one(dataset):
    short, long = arrays(dataset, 64, 9), arrays(dataset)
    for name, array in short.items():
        np.testing.assert_array_equal(array, long[name][:9])


def test_the_published_sequences_of_this_version_never_change():
    """If they have to: raise `data_gen.__version__`, so that a file of the old ones is not taken for new."""
    digests = []
    for dataset in DATASETS:
        held = arrays(dataset)
        whole_numbers = b"".join(array.tobytes() for array in held.values() if array.dtype == np.uint8)
        digests.append(hashlib.sha256(whole_numbers).hexdigest()[:8])
    assert (data_gen.__version__, *digests) == ("2", "ed325b6d", "7e44d965", "45948c9a")


@pytest.mark.parametrize("dataset", ["balls6curtain64", "balls58curtain64"])
def test_more_balls_than_fit_are_refused(tmp_path, dataset):
    with pytest.raises(DataGenError, match=f"--dataset={dataset} is unknown: .*, behind a curtain 1 to 5 "):
        generate(tmp_path / f"{dataset}.h5", dataset, {"test": 1}, 2)
    assert not visible(tmp_path)
    with pytest.raises(DataGenError, match="6 balls are too many for a box of 64 pixels"):
        Balls((6,), side=10.0, radii=(1.2,), masses=(1.0,))


@pytest.mark.parametrize("dataset", ["balls1mass64", "balls8mass64", "balls5curtain64", "balls12mass64"])
def test_other_numbers_of_balls_make_a_data_set_too(dataset):
    held = generator_of(dataset, 2).sequences(np.random.default_rng(0), 8, "test")
    assert held[0].any()


def write(path, nr_frames=6, sizes=SMALL, workers=1):
    return writer.write_dataset(path, "balls678mass64", Balls((6, 7, 8), nr_frames), sizes, seed=3, workers=workers)


def read(path):
    with h5py.File(path) as file:
        return {dataset.name: dataset[...] for split in SPLITS for dataset in file[split].values()}


def test_files_do_not_depend_on_the_number_of_workers(tmp_path):
    for name, workers in (("a.h5", 1), ("b.h5", 2)):
        assert write(tmp_path / name, workers=workers) == "written"
    assert (tmp_path / "a.h5").read_bytes() == (tmp_path / "b.h5").read_bytes()


def test_a_file_has_all_members_and_says_what_they_are(tmp_path):
    path = tmp_path / "a.h5"
    write(path, nr_frames=51, sizes={"training": 65})
    drawn = Balls((6, 7, 8)).sequences(np.random.default_rng(writer.seed_sequence(3, "training", 1)), 64, "training")
    with h5py.File(path) as file:
        held = file["training"]
        for member, array in zip(Balls((6, 7, 8)).members, drawn):
            np.testing.assert_array_equal(held[member.name][:, 64:], array[:, :1])
        assert {name: held[name].chunks[1] for name in held} == {
            **dict.fromkeys(("features", "groups", "collisions"), 1),  # a reader need not keep them in memory
            **dict.fromkeys(("events", "positions", "velocities"), 64),
        }
        for name in ("collisions", "events", "positions", "velocities"):
            assert len(held[name].attrs["about"]) > 20
        assert '"numbers": [6, 7, 8]' in file.attrs["settings"]
        share = sum(held[name].id.get_storage_size() for name in held) / sum(held[name].nbytes for name in held)
    assert share < Balls((6, 7, 8)).disk_share


def test_a_larger_and_longer_file_begins_with_the_smaller(tmp_path):
    path = tmp_path / "a.h5"
    write(path)
    before = read(path)
    assert write(path) == "complete"
    assert write(path, 30, {**SMALL, "validation": 70}) == "extended"
    after = read(path)
    assert after["/validation/collisions"].shape == (30, 70, 64, 64, 1)
    assert after["/training/positions"].shape == (30, 66, 8, 2)
    for name, array in before.items():
        np.testing.assert_array_equal(after[name][: array.shape[0], : array.shape[1]], array)


def test_a_file_without_one_of_the_members_is_refused(tmp_path):
    path = tmp_path / "a.h5"
    write(path)
    with h5py.File(path, "a") as file:
        del file["test/collisions"]
    with pytest.raises(DataGenError, match="not a whole data set"):
        write(path)


def test_what_it_takes_on_disk_is_said_before(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(writer, "_write", lambda *_: None)
    write(tmp_path / "a.h5", 51, {"training": 50_000})
    assert "a.h5 takes up to 2026 MB on disk\n" in capsys.readouterr().err
    write(tmp_path / "b.h5", 51, {"training": 50})
    assert not capsys.readouterr().err
