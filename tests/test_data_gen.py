"""The generator and its files."""

import h5py
import numpy as np
import pytest

from data_gen import writer
from data_gen.__main__ import generator_of
from data_gen.shapes import SPRITES, FlyingShapes
from data_gen.writer import DataGenError, write_dataset

SIZES = {"training": 130, "validation": 3, "test": 64}
SMALL = {"training": 2, "validation": 1, "test": 1}


def write(path, generator=None, sizes=SIZES, **kwargs):
    return write_dataset(path, "flying_shapes", generator or FlyingShapes(nr_frames=5), sizes, **kwargs)


def read(path):
    with h5py.File(path) as file:
        return {f"{s}/{d}": file[s][d][...] for s in writer.SPLITS for d in ("features", "groups")}


def test_sprites_are_the_published_ones():
    square, up, down = SPRITES
    assert square.shape == (7, 7)
    assert (~square).sum() == 9
    assert up.shape == (7, 13)
    np.testing.assert_array_equal(down, up[::-1])


@pytest.mark.parametrize("nr_objects", [1, 3, 5, 9])
def test_groups_say_which_object_and_leave_overlap_out(nr_objects):
    features, groups = FlyingShapes(nr_objects=nr_objects).sequences(np.random.default_rng(0), 20)
    assert features.shape == groups.shape == (21, 20, 28, 28, 1)
    assert features.dtype == groups.dtype == np.uint8
    assert set(np.unique(features)) == {0, 1}
    assert groups.max() == nr_objects
    assert not groups[features == 0].any()
    areas = {int(sprite.sum()) for sprite in SPRITES}
    one_object_frames = (features > 0).sum((2, 3, 4))
    if nr_objects == 1:
        assert set(np.unique(one_object_frames)) == areas
        np.testing.assert_array_equal(groups, features)
    else:  # where nothing overlaps, each object is whole
        whole = (features == (groups > 0)).all((2, 3, 4))
        assert whole.any() or nr_objects == 9
        for label in range(1, nr_objects + 1):
            assert set(np.unique((groups == label).sum((2, 3, 4))[whole])) <= areas


def test_objects_fly_straight_bounce_and_stay_inside():
    _, groups = FlyingShapes(nr_objects=1, nr_frames=60).sequences(np.random.default_rng(1), 30)
    ys, xs = (np.arange(28)[:, None], np.arange(28)[None, :])
    mask = groups[..., 0] == 1
    centre = np.stack([(mask * axis).sum((2, 3)) / mask.sum((2, 3)) for axis in (ys, xs)], -1)  # [T, n, 2]
    step = np.diff(centre, axis=0)
    speed = np.hypot(*np.moveaxis(step, -1, 0))
    assert speed.max() <= 2 + 2**0.5  # positions are rounded
    direction = np.sign(step.round(6))
    assert ((direction > 0).any(0) & (direction < 0).any(0)).any(-1).all()  # in 60 frames everyone has met a wall
    area = mask.sum((2, 3))
    assert (area == area[0]).all()


def test_same_seed_same_bytes_whatever_the_number_of_workers(tmp_path):
    paths = [tmp_path / name for name in ("a.h5", "b.h5", "c.h5")]
    for path, workers, seed in zip(paths, (1, 3, 1), (5, 5, 6)):
        assert write(path, workers=workers, seed=seed) == "written"
    a, b, c = (path.read_bytes() for path in paths)
    assert a == b
    assert (read(paths[0])["training/features"] != read(paths[2])["training/features"]).any()
    assert a != c


def test_splits_and_blocks_never_share_a_random_stream():
    states = {
        tuple(writer.seed_sequence(0, split, block).generate_state(4)) for split in writer.SPLITS for block in range(50)
    }
    assert len(states) == 150


def test_layout_is_the_authors(tmp_path):
    write(tmp_path / "a.h5")
    with h5py.File(tmp_path / "a.h5") as file:
        for split, size in SIZES.items():
            for name in ("features", "groups"):
                dataset = file[split][name]
                assert dataset.shape == (5, size, 28, 28, 1)
                assert dataset.chunks == (5, min(64, size), 28, 28, 1)
                assert dataset.compression == "gzip"
        assert file.attrs["generator"] == "data_gen"
        assert {"dataset", "version", "seed", "settings"} <= set(file.attrs)


def test_blocks_land_where_they_belong(tmp_path):
    """Chunks are written compressed and directly: read back, they are what the generator drew."""
    write(tmp_path / "a.h5", seed=2)
    held = read(tmp_path / "a.h5")
    for block, n in ((0, 64), (1, 64), (2, 2)):
        rng = np.random.default_rng(writer.seed_sequence(2, "training", block))
        features, groups = FlyingShapes(nr_frames=5).sequences(rng, 64)
        where = slice(64 * block, 64 * block + n)
        np.testing.assert_array_equal(held["training/features"][:, where], features[:, :n])
        np.testing.assert_array_equal(held["training/groups"][:, where], groups[:, :n])


def test_a_larger_or_longer_set_begins_with_the_smaller(tmp_path):
    path = tmp_path / "a.h5"
    write(path, sizes=SMALL)
    before = read(path)
    assert write(path, sizes=SMALL) == "complete"
    assert write(path, FlyingShapes(nr_frames=9), {**SMALL, "test": 70}) == "extended"
    after = read(path)
    assert after["test/features"].shape[:2] == (9, 70)
    assert after["training/features"].shape[:2] == (9, 2)
    for name, array in before.items():
        np.testing.assert_array_equal(after[name][: array.shape[0], : array.shape[1]], array)


def untouched(path, call, message):
    before = path.read_bytes()
    with pytest.raises(DataGenError, match=message):
        call()
    assert path.read_bytes() == before
    assert [p.name for p in path.parent.iterdir()] == [path.name]


def test_other_settings_and_foreign_files_are_refused(tmp_path):
    path = tmp_path / "a.h5"
    write(path, sizes=SMALL)
    untouched(path, lambda: write(path, seed=1), "seed=0, not 1")
    untouched(path, lambda: write(path, FlyingShapes(nr_objects=4)), "another data set")
    with h5py.File(path, "a") as file:
        file["training/features"][0] = 1
    untouched(path, lambda: write(path), "differs from what its attributes say")
    path.write_bytes(b"not HDF5")
    untouched(path, lambda: write(path), "not a whole data set")


def test_disk_is_checked_before_and_a_full_one_leaves_nothing(tmp_path, monkeypatch):
    usage = writer.shutil.disk_usage(tmp_path)._replace(free=1000)
    monkeypatch.setattr(writer.shutil, "disk_usage", lambda _: usage)
    with pytest.raises(DataGenError, match="0 MB free; the data set takes up to"):
        write(tmp_path / "a.h5")
    monkeypatch.undo()

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(writer, "_compressed_block", full)
    with pytest.raises(DataGenError, match="No space left"):
        write(tmp_path / "a.h5")
    assert not list(tmp_path.iterdir())


def test_unwritable_directory(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(DataGenError, match="cannot write"):
        write(tmp_path / "file" / "a.h5", sizes=SMALL)


def test_names():
    assert generator_of("flying_shapes", 21) == FlyingShapes(3, 21)
    assert generator_of("flying_shapes_7", 3) == FlyingShapes(7, 3)
    for name in ("flying_shapes_0", "flying_saucers", "flying_shapes_"):
        with pytest.raises(DataGenError, match="is unknown"):
            generator_of(name, 21)
