"""Reading files, and the batches made from them."""

import dataclasses

import h5py
import numpy as np
import pytest
from conftest import TINY_SIZES

from nem_tf import data
from nem_tf.config import resolve
from nem_tf.errors import UserError


def write_file(directory, features, groups=None, split="training"):
    with h5py.File(directory / "flying_shapes.h5", "w") as file:
        file[f"{split}/features"] = features
        file[f"{split}/groups"] = np.zeros((*features.shape[:-1], 1), np.uint8) if groups is None else groups


@pytest.fixture
def config(tmp_path):
    return resolve({"data_dir": str(tmp_path), "nr_steps": 2, "train_size": 4, "batch_size": 2})


def test_a_split_is_the_first_sequences_and_frames_batch_major(tiny_config, tiny_data):
    split = data.load_split(tiny_config, "validation")
    with h5py.File(tiny_data / "flying_shapes.h5") as file:
        features, groups = file["validation/features"][:4], file["validation/groups"][:4, ..., 0]
    np.testing.assert_array_equal(split.frames, features.swapaxes(0, 1))
    np.testing.assert_array_equal(split.groups, groups.swapaxes(0, 1))
    assert split.image_shape == (28, 28, 1)


def test_authors_float_files_are_read_as_ours(config, tmp_path, rng):
    binary = (rng.random((3, 4, 8, 8, 1)) < 0.5).astype(np.float32)
    groups = binary * rng.integers(0, 4, binary.shape)
    write_file(tmp_path, binary, groups.astype(np.float32))
    split = data.load_split(config, "training")
    assert split.frames.dtype == split.groups.dtype == np.uint8
    np.testing.assert_array_equal(split.frames, binary.swapaxes(0, 1))
    np.testing.assert_array_equal(split.groups, groups[..., 0].swapaxes(0, 1))


def test_a_static_image_is_shown_at_every_step(config, tmp_path, rng):
    images = (rng.random((1, 4, 8, 8, 1)) < 0.5).astype(np.uint8)
    write_file(tmp_path, images, 2 * images)
    split = data.load_split(config, "training")
    assert split.frames.shape == (4, 1, 8, 8, 1)  # held once
    batch = next(iter(split.batches(3)))
    assert batch.frames.shape == (3, 3, 8, 8, 1)
    for t in range(3):
        np.testing.assert_array_equal(batch.frames[:, t], images[0, :3])
        np.testing.assert_array_equal(batch.groups[:, t], 2 * images[0, :3, ..., 0])


def test_grey_integers_become_floats_between_0_and_1(config, tmp_path, rng):
    grey = rng.integers(0, 256, (3, 4, 8, 8, 1)).astype(np.uint8)
    write_file(tmp_path, grey)
    with h5py.File(tmp_path / "flying_shapes.h5", "a") as file:
        file["training/features"].attrs["white"] = 255
    with pytest.raises(UserError, match="holds grey images: --mixture=bernoulli takes binary ones"):
        data.load_split(config, "training")
    split = data.load_split(dataclasses.replace(config, mixture="gaussian"), "training")
    assert split.frames.dtype == np.uint8
    for batch in (next(iter(split.batches(4))), next(iter(split.shuffled_batches(4, seed=0, epoch=0)))):
        assert batch.frames.dtype == np.float32
        np.testing.assert_allclose(np.sort(np.ravel(batch.frames)), np.sort(grey.ravel()) / 255, rtol=1e-6)


def test_grey_floats_are_taken_as_they_are(config, tmp_path, rng):
    grey = rng.random((3, 4, 8, 8, 1))
    write_file(tmp_path, grey)
    split = data.load_split(dataclasses.replace(config, mixture="gaussian"), "training")
    np.testing.assert_allclose(next(iter(split.batches(4))).frames, grey.swapaxes(0, 1), rtol=1e-6)


def test_every_sequence_once_in_order_for_evaluation(tiny_config):
    split = data.load_split(tiny_config, "validation")
    batches = list(split.batches(4))
    assert [len(batch.frames) for batch in batches] == [4, 4, 2]
    np.testing.assert_array_equal(np.concatenate([batch.frames for batch in batches]), split.frames)
    np.testing.assert_array_equal(np.concatenate([batch.groups for batch in batches]), split.groups)


def test_training_shuffles_members_not_batches_and_resumes_anywhere(tiny_config):
    split = data.load_split(tiny_config, "training")
    frames = split.frames.numpy()

    def order(**kwargs):
        batches = [batch.frames.numpy() for batch in split.shuffled_batches(5, **kwargs)]
        rows = [[int(np.flatnonzero((frames == row).all((1, 2, 3, 4)))[0]) for row in batch] for batch in batches]
        return np.array(rows)

    first = order(seed=1, epoch=0)
    assert first.shape == (TINY_SIZES["training"] // 5, 5)
    assert len(set(first.ravel())) == first.size
    np.testing.assert_array_equal(first, order(seed=1, epoch=0))
    np.testing.assert_array_equal(first[2:], order(seed=1, epoch=0, skip=2))
    assert len(order(seed=1, epoch=0, skip=6)) == 0
    for other in (order(seed=1, epoch=1), order(seed=2, epoch=0)):
        assert {frozenset(batch) for batch in first} != {frozenset(batch) for batch in other}


@pytest.mark.parametrize(
    ("features", "groups", "message"),
    [
        (np.zeros((2, 4, 8, 8, 1)), None, r"sequences of 2 frames; --nr_steps=2 needs 3"),
        (np.zeros((3, 3, 8, 8, 1)), None, r"holds 3 training sequences; --train_size=4"),
        (np.zeros((3, 4, 8, 8)), None, r"must be numbers \(T, N, H, W, C\)"),
        (np.full((3, 4, 8, 8, 1), b"x"), None, r"must be numbers"),
        (np.zeros((3, 4, 8, 8, 1)), np.zeros((3, 4, 8, 9, 1)), r"groups must be \(3, 4, 8, 8, 1\)"),
        (np.full((3, 4, 8, 8, 1), 0.5), None, r"whole numbers"),
        (np.full((3, 4, 8, 8, 1), 2), None, r"lie in \[0, 1\]"),
        (np.full((3, 4, 8, 8, 1), -1), None, r"whole numbers|lie in \[0, 1\]"),
        (np.full((3, 4, 8, 8, 1), np.nan), None, r"whole numbers"),
    ],
)
@pytest.mark.filterwarnings("ignore:invalid value")
def test_files_that_do_not_fit(config, tmp_path, features, groups, message):
    write_file(tmp_path, features, groups)
    with pytest.raises(UserError, match=message):
        data.load_split(config, "training")


def test_missing_foreign_and_truncated_files(config, tmp_path):
    path = tmp_path / "flying_shapes.h5"
    with pytest.raises(UserError, match="is missing: python -m data_gen"):
        data.load_split(config, "training")
    path.write_bytes(b"PK not HDF5")
    with pytest.raises(UserError, match="not a readable HDF5 file"):
        data.load_split(config, "training")
    with h5py.File(path, "w") as file:
        file["images"] = np.zeros(3)
    with pytest.raises(UserError, match="has no training/features"):
        data.load_split(config, "training")
    write_file(tmp_path, np.zeros((3, 4, 8, 8, 1)))
    path.write_bytes(path.read_bytes()[:-600])
    with pytest.raises(UserError, match="truncated"):
        data.load_split(config, "training")


def test_damaged_chunks(tiny_settings, tiny_data, tmp_path):
    content = bytearray((tiny_data / "flying_shapes.h5").read_bytes())
    with h5py.File(tiny_data / "flying_shapes.h5") as file:
        chunk = file["training/features"].id.get_chunk_info(0)
    content[chunk.byte_offset : chunk.byte_offset + chunk.size] = bytes(chunk.size)
    (tmp_path / "flying_shapes.h5").write_bytes(content)
    with pytest.raises(UserError, match="is damaged"):
        data.load_split(resolve({**tiny_settings, "data_dir": str(tmp_path)}), "training")


def test_a_batch_larger_than_the_split(tiny_settings):
    with pytest.raises(UserError, match="less than one batch"):
        data.load_split(resolve({**tiny_settings, "batch_size": 64}), "training")


@pytest.mark.slow
def test_missing_data_is_generated_and_extended_when_more_is_asked_for(tmp_path, capfd):
    settings = {"data_dir": str(tmp_path), "nr_steps": 2, "train_size": 3, "valid_size": 1, "test_size": 1}
    data.generate_missing(resolve(settings))
    assert "generating them" in capfd.readouterr().out
    data.generate_missing(resolve(settings))
    assert not capfd.readouterr().out
    data.generate_missing(resolve({**settings, "train_size": 5}))
    assert "extended" in capfd.readouterr().out
    assert len(data.load_split(resolve({**settings, "train_size": 5, "batch_size": 5}), "training")) == 5
    longer = resolve({**settings, "nr_steps": 7, "test_size": 2})
    data.generate_missing(longer, ["test"])
    assert "extended" in capfd.readouterr().out
    assert data.load_split(longer, "test").frames.shape == (2, 8, 28, 28, 1)
    with pytest.raises(UserError, match="holds sequences of 3 frames"):
        data.load_split(longer, "validation")


@pytest.mark.slow
def test_only_the_split_that_is_needed_is_generated(tmp_path):
    config = resolve({"data_dir": str(tmp_path), "dataset": "static_shapes", "test_size": 3, "nr_steps": 4})
    data.generate_missing(config, ["test"])
    assert len(data.load_split(config, "test")) == 3
    with pytest.raises(UserError, match="has no training/features"):
        data.load_split(config, "training")
