"""Sequences in memory: what is put in comes out, and takes little room."""

import numpy as np
import pytest

from nem_tf.data.packed import Deflated, Packed, Plain

SHAPES = [(1, 1, 1, 1), (3, 2, 5, 1), (2, 8, 8, 1), (2, 3, 3, 3), (4, 28, 28, 1)]


@pytest.mark.parametrize("store", [Packed, Deflated])
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("largest", [0, 1, 2, 3, 4, 127, 128, 255])
def test_whole_numbers_come_back(rng, store, shape, largest):
    values = rng.integers(0, largest + 1, (7, *shape)).astype(np.uint8)
    values.flat[-1] = largest
    held = store(7, shape)
    for start in (0, 3, 6):
        held.put(start, values[start : start + 3])
    assert held.shape == (7, *shape)
    assert len(held) == 7
    taken = held.take(np.arange(7))
    assert taken.dtype == np.uint8
    np.testing.assert_array_equal(taken, values)
    for window in (slice(0, 1), slice(1, 2), slice(1, None), slice(0, 0)):
        index = np.array([5, 0, 5, 3])
        np.testing.assert_array_equal(held.take(index, window), values[index][:, window])


@pytest.mark.parametrize("store", [Packed, Deflated])
def test_blocks_may_need_more_bits_than_those_before_and_come_in_any_order(rng, store):
    values = np.concatenate([rng.integers(0, most, (2, 3, 4, 4, 1)) for most in (1, 200, 2, 9)])
    held = store(8, values.shape[1:])
    for start in (4, 0, 2, 6):
        held.put(start, values[start : start + 2].astype(np.float32))  # whole numbers, in whatever type
    np.testing.assert_array_equal(held.take(np.arange(8)), values)


def test_floats_come_back_in_single_precision(rng):
    values = rng.random((5, 3, 4, 4, 2))
    held = Plain(5, values.shape[1:])
    held.put(0, values[:2])
    held.put(2, values[2:])
    taken = held.take(np.array([4, 1]), slice(1, 3))
    assert taken.dtype == np.float32
    np.testing.assert_array_equal(taken, values[[4, 1], 1:3].astype(np.float32))
    assert (len(held), held.nbytes) == (5, 4 * values.size)


def test_a_binary_frame_takes_an_eighth_of_its_bytes(rng):
    values = rng.integers(0, 2, (10, 6, 28, 28, 1)).astype(np.uint8)
    held = Packed(10, values.shape[1:])
    held.put(0, values)
    assert held.nbytes == values.nbytes / 8
    held.put(0, 3 * values)
    assert held.nbytes == values.nbytes / 4


def test_labels_of_objects_take_less_than_their_bits():
    values = np.zeros((10, 6, 28, 28, 1), np.uint8)
    values[:, :, 3:9, 4:12] = 1
    values[:, :, 15:22, 8:20] = 3
    held = Deflated(10, values.shape[1:])
    held.put(0, values)
    assert held.nbytes < values.nbytes / 4 / 5
    np.testing.assert_array_equal(held.take(np.arange(10)), values)
