"""Data files: identity, what is read, and one sentence that names the cause for a file that does not fit."""

import json
import os
import zlib

import h5py
import numpy as np
import pytest

from data_gen.shapes import FlyingShapes
from data_gen.writer import write_dataset
from nem_tf import datasets
from nem_tf.data import identity_of, load_split, source_of
from nem_tf.data.file import lengths_of
from nem_tf.errors import UserError

SHAPE = (3, 4, 8, 6, 1)  # T, N, H, W, C


def write(path, features, groups=None, split="training", white=None, **attributes):
    """A file of one's own."""
    with h5py.File(path, "w") as file:
        file[f"{split}/features"] = features
        if white is not None:
            file[f"{split}/features"].attrs["white"] = white
        if groups is not None:
            file[f"{split}/groups"] = groups
        file.attrs.update(attributes)
    return path


def read(path, size=4, frames=3, binary=True, split="training"):
    return load_split(path, split, size, frames, binary)


def everything(split):
    (batch,) = split.batches(split.in_order(len(split)))
    return batch


@pytest.fixture
def path(tmp_path):
    return tmp_path / "toy.h5"


# ---- What is read.


def test_a_split_is_the_first_sequences_and_frames(tiny_data):
    path = tiny_data / "flying_shapes.h5"
    split = read(path, 7, 4, split="validation")
    with h5py.File(path) as file:
        features, groups = (file["validation"][name][:4, :7] for name in ("features", "groups"))
    batch = everything(split)
    np.testing.assert_array_equal(batch.frames, features.swapaxes(0, 1))
    np.testing.assert_array_equal(batch.groups, groups[..., 0].swapaxes(0, 1))
    assert split.image_shape == (28, 28, 1)
    assert lengths_of(path) == {"training": (32, 6), "validation": (10, 6), "test": (6, 6)}
    assert split.features.nbytes == features.nbytes / 8


@pytest.mark.parametrize("dtype", [np.uint8, np.int64, np.float32, np.float64, bool])
@pytest.mark.parametrize("image_shape", [(8, 6, 1), (5, 7, 3), (1, 1, 1), (3, 30, 2)])
def test_binary_files_of_any_shape_and_type(path, rng, dtype, image_shape):
    """The authors' are floats."""
    binary = rng.integers(0, 2, (3, 4, *image_shape))
    groups = rng.integers(0, 4, (*binary.shape[:-1], 1))
    split = read(write(path, binary.astype(dtype), groups.astype(np.float32 if dtype == np.float32 else np.uint8)))
    batch = everything(split)
    assert split.image_shape == image_shape
    assert batch.frames.dtype == batch.groups.dtype == np.uint8
    np.testing.assert_array_equal(batch.frames, binary.swapaxes(0, 1))
    np.testing.assert_array_equal(batch.groups, groups[..., 0].swapaxes(0, 1))


@pytest.mark.parametrize("chunks", [None, (1, 1, 8, 6, 1), (3, 2, 8, 6, 1), (1, 3, 4, 6, 1)])
def test_chunks_of_any_shape(path, rng, chunks):
    binary = rng.integers(0, 2, SHAPE).astype(np.uint8)
    with h5py.File(path, "w") as file:
        file.create_dataset("training/features", data=binary, chunks=chunks)
    np.testing.assert_array_equal(everything(read(path, 3, 2)).frames, binary[:2, :3].swapaxes(0, 1))


@pytest.mark.parametrize("binary", [True, False])
def test_labels_may_be_missing(path, rng, binary):
    frames = rng.integers(0, 2, SHAPE)
    split = read(write(path, frames), binary=binary)
    assert not split.has_groups
    assert everything(split).groups is None


@pytest.mark.parametrize("labelled", [False, True])
def test_a_static_image_is_shown_at_every_step(path, rng, labelled):
    images = rng.integers(0, 2, (1, 4, 8, 6, 1))
    split = read(write(path, images, 2 * images if labelled else None), frames=9)
    assert split.features.shape == (4, 1, 8, 6, 1)
    batch = everything(split)
    np.testing.assert_array_equal(batch.frames, images.swapaxes(0, 1).repeat(9, 1))
    assert labelled == (batch.groups is not None)


@pytest.mark.parametrize(
    ("values", "white"),
    [
        (lambda rng: rng.integers(0, 256, SHAPE).astype(np.uint8), 255),
        (lambda rng: rng.integers(0, 16, SHAPE), np.int64(15)),
        (lambda rng: 255 * rng.random(SHAPE), 255.0),
        (lambda rng: rng.random(SHAPE), None),
        (lambda rng: rng.random(SHAPE).astype(np.float16), None),
    ],
)
def test_grey_files(path, rng, values, white):
    grey = values(rng)
    batch = everything(read(write(path, grey, white=white), binary=False))
    assert batch.frames.dtype == np.float32
    np.testing.assert_allclose(batch.frames, grey.swapaxes(0, 1).astype(float) / (white or 1), rtol=1e-6)


def test_collisions_are_read_if_they_are_asked_for_and_there(path, rng):
    frames, collisions = (rng.integers(0, 2, SHAPE).astype(np.uint8) for _ in range(2))
    write(path, frames, frames)
    assert everything(load_split(path, "training", 4, 3, binary=True, collisions=True)).collisions is None
    with h5py.File(path, "a") as file:
        file["training/collisions"] = collisions
    batch = everything(load_split(path, "training", 4, 3, binary=True, collisions=True))
    np.testing.assert_array_equal(batch.collisions, collisions.swapaxes(0, 1))
    np.testing.assert_array_equal(batch.groups, frames[..., 0].swapaxes(0, 1))
    assert everything(read(path)).collisions is None


@pytest.mark.parametrize(
    ("collisions", "message"),
    [
        (np.zeros((3, 4, 1, 1, 1)), r"training/collisions must be \(3, 4, 8, 6, 1\) as its features are, is"),
        (np.full(SHAPE, 2), r"collisions holds values from 2 to 2, not in \[0, 1\]"),
    ],
)
def test_collisions_that_do_not_fit_are_refused_where_they_are_asked_for(path, collisions, message):
    write(path, np.zeros(SHAPE))
    with h5py.File(path, "a") as file:
        file["training/collisions"] = collisions
    read(path)
    with pytest.raises(UserError, match=message):
        load_split(path, "training", 4, 3, binary=True, collisions=True)


def with_actions(path, actions):
    write(path, np.zeros(SHAPE))
    with h5py.File(path, "a") as file:
        if actions is not None:
            file["training/actions"] = actions
    return path


@pytest.mark.parametrize("dtype", [bool, np.uint8, np.int64, np.float16, np.float64])
@pytest.mark.parametrize("nr_actions", [None, 2])
def test_actions_are_read_with_their_frames(path, rng, dtype, nr_actions):
    actions = rng.integers(-1, 2, (3, 4, 2)).astype(dtype)
    split = load_split(with_actions(path, actions), "training", 3, 2, binary=True, nr_actions=nr_actions)
    batch = everything(split)
    assert (split.nr_actions, batch.actions.dtype) == (2, np.float32)
    np.testing.assert_array_equal(batch.actions, actions[:2, :3].swapaxes(0, 1))


def test_actions_may_be_missing_and_are_left_alone_unless_asked_for(path):
    split = load_split(with_actions(path, None), "training", 4, 3, binary=True, nr_actions=None)
    assert (split.nr_actions, everything(split).actions) == (0, None)
    split = read(with_actions(path, np.full((7, 7), np.nan)))
    assert (split.nr_actions, everything(split).actions) == (0, None)


def test_actions_of_a_static_image_come_at_every_step(path, rng):
    actions = rng.random((1, 4, 2))
    write(path, np.zeros((1, *SHAPE[1:])))
    with h5py.File(path, "a") as file:
        file["training/actions"] = actions
    batch = everything(load_split(path, "training", 4, 9, binary=True, nr_actions=2))
    np.testing.assert_allclose(batch.actions, actions.swapaxes(0, 1).repeat(9, 1), rtol=1e-6)


@pytest.mark.parametrize(
    ("actions", "nr_actions", "message"),
    [
        (None, 2, r"has no training/actions, which the model takes: expected numbers \(T, N, A\) = \(3, 4, 2\)$"),
        (np.zeros((3, 4, 3)), 2, r"must be numbers \(T, N, A\) = \(3, 4, 2\), is \(3, 4, 3\)"),
        (np.zeros((3, 4)), None, r"must be numbers \(T, N, A\) = \(3, 4, A\), is \(3, 4\)"),
        (np.zeros((4, 3, 2)), None, r"\(3, 4, A\), is \(4, 3, 2\)"),
        (np.zeros((2, 4, 2)), None, r"\(3, 4, A\), is \(2, 4, 2\)"),
        (np.zeros((3, 4, 0)), None, r"\(3, 4, A\), is \(3, 4, 0\)"),
        (np.full((3, 4, 2), b"up"), None, r"training/actions must be numbers \(T, N, A\) = \(3, 4, A\)$"),
        (np.full((3, 4, 2), np.nan), None, r"actions holds NaN or infinity: expected finite numbers"),
        (np.full((3, 4, 2), 1e39), 2, r"actions holds NaN or infinity: expected finite numbers"),
    ],
)
@pytest.mark.filterwarnings("error")
def test_actions_that_do_not_fit_are_refused_where_they_are_asked_for(path, actions, nr_actions, message):
    with pytest.raises(UserError, match=message) as caught:
        load_split(with_actions(path, actions), "training", 4, 3, binary=True, nr_actions=nr_actions)
    assert str(path) in str(caught.value)


# ---- What made it.


def generated(path, seed=0, sizes=None, **settings):
    write_dataset(path, "flying_shapes", FlyingShapes(**{"nr_frames": 2, **settings}), sizes or {"test": 1}, seed=seed)
    return identity_of(path)


def test_a_generated_file_is_what_made_it_and_not_how_much_of_it_there_is(tmp_path):
    one = generated(tmp_path / "a.h5")
    assert one["dataset"] == "flying_shapes"
    assert one["seed"] == 0
    assert one["settings"]["nr_objects"] == 3
    assert one == json.loads(json.dumps(one))
    assert generated(tmp_path / "b.h5", sizes={"training": 2, "test": 3}, nr_frames=4) == one
    (tmp_path / "sub").mkdir()
    assert generated(tmp_path / "sub/c.h5") == one
    assert generated(tmp_path / "d.h5", seed=1) != one
    assert generated(tmp_path / "e.h5", nr_objects=4) != one
    assert source_of(tmp_path / "a.h5") == {}


def test_a_foreign_file_is_its_bytes(tmp_path, rng):
    frames = rng.integers(0, 2, SHAPE).astype(np.uint8)
    one = identity_of(write(tmp_path / "a.h5", frames))
    assert one["file"] == "a.h5"
    (tmp_path / "sub").mkdir()
    assert identity_of(write(tmp_path / "sub/a.h5", frames)) == one
    assert identity_of(write(tmp_path / "b.h5", frames)) != one
    frames[0, 0, 0, 0] ^= 1
    assert identity_of(write(tmp_path / "a.h5", frames)) != one


def test_what_a_foreign_file_says_of_itself_is_its_own_affair(path):
    write(path, np.zeros(SHAPE), source="the camera above the door", settings="bright", version=3)
    assert set(identity_of(path)) == {"file", "sha256"}
    assert source_of(path) == {}


def test_attributes_that_say_what_made_it_and_cannot_be_read(path):
    write(path, np.zeros(SHAPE), dataset="x", generator="data_gen", version="2", seed=0, settings="{")
    with pytest.raises(UserError, match=f"{path}: its attributes do not say what made it"):
        identity_of(path)


@pytest.mark.parametrize(
    "strange",
    [{"generator": 0}, {"seed": np.zeros(3)}, {"settings": 256}, {"settings": "[]"}, {"source": "[" * 10_000}],
)
def test_attributes_of_other_types_than_data_gen_writes(path, strange):
    whole = {"dataset": "x", "generator": "data_gen", "version": "2", "seed": 0, "settings": "{}"}
    write(path, np.zeros(SHAPE), **{**whole, **strange})
    for read_attributes in (identity_of, source_of):
        with pytest.raises(UserError, match=f"{path}: its attributes do not say what made it"):
            read_attributes(path)


# ---- Files that do not fit.


@pytest.mark.parametrize(
    ("features", "groups", "message"),
    [
        (np.zeros((2, 4, 8, 6, 1)), None, r"holds sequences of 2 frames; --nr_steps asks for 3"),
        (np.zeros((3, 3, 8, 6, 1)), None, r"holds 3 training sequences; --train_size=4 asks for more"),
        (np.zeros((3, 4, 8, 6)), None, r"features must be numbers \(T, N, H, W, C\), is float64 \(3, 4, 8, 6\)"),
        (np.zeros((3, 0, 8, 6, 1)), None, r"must be numbers \(T, N, H, W, C\)"),
        (np.full(SHAPE, b"x"), None, r"must be numbers"),
        (np.zeros(SHAPE), np.zeros((3, 4, 8, 7, 1)), r"groups must be \(3, 4, 8, 6, 1\) as its features are, is"),
        (np.zeros(SHAPE), np.zeros((3, 4, 8, 6)), r"training/groups must be numbers \(T, N, H, W, C\)"),
        (np.zeros((4, 3, 8, 6, 1)), None, r"is \(4, 3, 8, 6, 1\), .*are time and sequences swapped"),
        (np.full(SHAPE, 0.5), None, r"features holds fractions: .*\(binary images, 0 or 1: --mixture=gaussian takes"),
        (np.full(SHAPE, 2), None, r"values from 2 to 2, not in \[0, 1\]: they look like grey values"),
        (np.full(SHAPE, 255), None, r"they look like grey values; set the attribute `white` of features to 255"),
        (np.full(SHAPE, 255.0), None, r"from 255.0 to 255.0, not in \[0, 1\]: divide them by 255"),
        (np.full(SHAPE, 256), None, r"from 256 to 256, not in \[0, 1\]$"),
        (np.full(SHAPE, -1), None, r"from -1 to -1, not in \[0, 1\]$"),
        (np.full(SHAPE, np.nan), None, r"features holds NaN or infinity: expected numbers in \[0, 1\]"),
        (np.full(SHAPE, np.inf), None, r"features holds NaN or infinity"),
        (np.zeros(SHAPE), np.full(SHAPE, 256), r"groups holds values from 256 to 256, not in \[0, 255\]$"),
        (np.zeros(SHAPE), np.full(SHAPE, -1.0), r"groups holds values from -1.0 to -1.0, not in \[0, 255\]"),
        (np.zeros(SHAPE), np.full(SHAPE, 1.5), r"groups holds fractions: expected whole numbers \(labels\)"),
        (np.zeros(SHAPE), np.full(SHAPE, np.nan), r"groups holds NaN"),
    ],
)
def test_the_cause_is_named(path, features, groups, message):
    write(path, features, groups)
    with pytest.raises(UserError, match=message) as caught:
        read(path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_one_bad_value_is_found_wherever_it_is(path, bad):
    features = np.zeros((3, 200, 4, 4, 1))
    features[2, 150, 3, 3] = bad
    write(path, features)
    assert len(read(path, 150)) == 150  # those before it are fine
    with pytest.raises(UserError, match="NaN"):
        read(path, 151)


@pytest.mark.parametrize(
    ("features", "white", "message"),
    [
        (np.full(SHAPE, 255), 255, r"grey images: --mixture=bernoulli takes binary ones, --mixture=gaussian both"),
        (np.full(SHAPE, 65535), 65535, r"training/features has the attribute white=65535: expected 1 to 255"),
        (np.full(SHAPE, 0.5), 0, r"the attribute white=0: expected 1 to 255"),
        (np.full(SHAPE, 0.5), "yes", r"the attribute white=yes: expected 1 to 255"),
    ],
)
def test_what_white_may_be(path, features, white, message):
    write(path, features, white=white)
    with pytest.raises(UserError, match=message):
        read(path)


@pytest.mark.parametrize(("features", "message"), [(200, r"not in \[0, 100\]"), (0.5, None)])
def test_grey_files_are_looked_at_too(path, features, message):
    write(path, np.full(SHAPE, features), white=100)
    if message is None:
        np.testing.assert_allclose(everything(read(path, binary=False)).frames, 0.005)
        return
    with pytest.raises(UserError, match=message):
        read(path, binary=False)


def test_missing_foreign_and_truncated_files(path, tmp_path):
    for missing in (path, tmp_path / "nowhere/toy.h5"):
        with pytest.raises(UserError, match=f"{missing} is missing: python -m data_gen"):
            read(missing)
    path.write_bytes(b"PK not HDF5")
    with pytest.raises(UserError, match="cannot be read as HDF5"):
        read(path)
    with h5py.File(path, "w") as file:
        file["images"] = np.zeros(3)
    with pytest.raises(UserError, match=r"has no training/features: expected numbers \(T, N, H, W, C\)"):
        read(path)
    write(path, np.zeros(SHAPE))
    with pytest.raises(UserError, match="has no test/features"):
        read(path, split="test")
    path.write_bytes(path.read_bytes()[:-600])
    with pytest.raises(UserError, match="truncated"):
        read(path)
    with pytest.raises(UserError, match="cannot be read as HDF5"):
        read(tmp_path)


def test_a_pipe_is_not_waited_for(path):
    os.mkfifo(path)
    with pytest.raises(UserError, match="it may be damaged or truncated: it is no regular file"):
        read(path)
    assert datasets.preset(str(path)) == {"network": "convolutional"}


@pytest.mark.parametrize("shape", [(3, 10**9, 8, 6, 1), (3, 4, 10**5, 10**5, 1), (10**9, 4, 8, 6, 1)])
def test_a_header_may_claim_anything(path, shape):
    with h5py.File(path, "w") as file:
        file.create_dataset("training/features", shape=shape, dtype="u1", chunks=(1, 1, 8, 6, 1))
    with pytest.raises(UserError, match=r"features claims uint8 .* GB, and takes 0.0 MB: expected frames"):
        read(path)
    assert datasets.preset(str(path)) == {"network": "convolutional"}


def test_a_chunk_that_would_fill_the_memory(path):
    shape, chunks = (3, 4, 64, 64, 1), (3, 4, 8000, 8000, 1)
    with h5py.File(path, "w") as file:
        file.create_dataset("training/features", shape=shape, maxshape=chunks, chunks=chunks, dtype="u1")
    with pytest.raises(UserError, match=r"features is packed in chunks \(3, 4, 8000, 8000, 1\) of 768 MB: expected"):
        read(path)


def test_a_chunk_that_is_too_small_to_be_one(path):
    """HDF5 itself would crash."""
    with h5py.File(path, "w") as file:
        shape = (3, 4, 500, 500, 1)
        dataset = file.create_dataset("training/features", shape, "u1", chunks=shape, compression="gzip")
        dataset.id.write_direct_chunk((0, 0, 0, 0, 0), zlib.compress(b"short"))
    with pytest.raises(UserError, match=r"features has a chunk of 13 bytes, too few for 3000000 of its values"):
        read(path)


def test_arrays_that_are_no_arrays(path):
    write(path, np.zeros(SHAPE))
    for features in (h5py.Empty("f4"), h5py.SoftLink("/training/features"), h5py.ExternalLink("/nowhere.h5", "x")):
        with h5py.File(path, "r+") as file:
            del file["training/features"]
            file["training/features"] = features
        with pytest.raises(UserError, match=f"{path}( is damaged|: training/features must be| has no training/feat)"):
            read(path)


def test_damaged_chunks(tiny_data, path):
    content = bytearray((tiny_data / "flying_shapes.h5").read_bytes())
    with h5py.File(tiny_data / "flying_shapes.h5") as file:
        chunk = file["training/features"].id.get_chunk_info(0)
    content[chunk.byte_offset : chunk.byte_offset + chunk.size] = bytes(chunk.size)
    path.write_bytes(content)
    with pytest.raises(UserError, match=f"{path} is damaged: training cannot be read"):
        read(path)


def test_a_file_that_another_process_writes_is_called_locked(path):
    """Not damaged: it will be there when that one is done."""
    fcntl = pytest.importorskip("fcntl")
    write(path, np.zeros(SHAPE))
    with path.open("rb") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        for look in (read, identity_of, source_of, lengths_of):
            with pytest.raises(UserError, match=f"{path} is locked by another process"):
                look(path)
    assert len(read(path)) == 4
