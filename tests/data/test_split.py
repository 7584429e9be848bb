"""Batches are what the file says."""

import dataclasses
import gc
import weakref

import numpy as np
import pytest

from nem_tf.data.packed import Deflated, Packed, Plain
from nem_tf.data.split import Pick, Split

FRAMES = 5


def make_split(features, groups=None, store=Packed, white=1):
    """Of features [N, F, H, W, C] and groups [N, F, H, W]."""
    held = store(len(features), features.shape[1:])
    held.put(0, features)
    if groups is None:
        return Split(held, None, FRAMES, white)
    labels = Deflated(len(groups), (*groups.shape[1:], 1))
    labels.put(0, groups[..., None])
    return Split(held, labels, FRAMES, white)


@pytest.fixture
def sequences(rng):
    return rng.integers(0, 2, (11, FRAMES, 6, 5, 2)), rng.integers(0, 4, (11, FRAMES, 6, 5))


PICKS = [Pick(np.array([3, 0, 10])), Pick(np.array([7]), slice(1, 3)), Pick(np.array([2, 2]), slice(4, 5))]


def test_batches_are_the_sequences_that_were_picked_in_their_order(sequences):
    frames, groups = sequences
    split = make_split(frames, groups)
    assert (len(split), split.image_shape, split.has_groups) == (11, (6, 5, 2), True)
    picks = PICKS * 4
    batches = list(split.batches(picks))
    assert len(batches) == len(picks)
    for batch, (index, window) in zip(batches, picks):
        assert batch.frames.dtype == batch.groups.dtype == np.uint8
        np.testing.assert_array_equal(batch.frames, frames[index, window])
        np.testing.assert_array_equal(batch.groups, groups[index, window])
    assert list(split.batches([])) == []


def test_nothing_of_an_epoch_is_kept(sequences):
    """Or the memory of a training would grow with its epochs."""
    split = make_split(*sequences)
    picks = [Pick(np.array([3, 0, 10]))]
    kept = weakref.ref(picks[0].index)
    assert len(list(split.batches(picks))) == 1
    picks.clear()
    gc.collect()
    assert kept() is None


def test_in_order_every_sequence_comes_once(sequences):
    frames, groups = sequences
    split = make_split(frames, groups)
    batches = list(split.batches(split.in_order(4)))
    assert [len(batch.frames) for batch in batches] == [4, 4, 3]
    np.testing.assert_array_equal(np.concatenate([batch.frames for batch in batches]), frames)
    np.testing.assert_array_equal(np.concatenate([batch.groups for batch in batches]), groups)


def test_without_labels_there_are_none(sequences):
    frames, _ = sequences
    split = make_split(frames)
    assert not split.has_groups
    for batch, (index, window) in zip(split.batches(PICKS), PICKS, strict=True):
        np.testing.assert_array_equal(batch.frames, frames[index, window])
        assert batch.groups is None


def test_a_static_image_is_held_once_and_shown_at_every_step(sequences):
    frames, groups = (values[:, :1] for values in sequences)
    split = make_split(frames, groups)
    for batch, (index, window) in zip(split.batches(PICKS), PICKS, strict=True):
        shown = len(range(FRAMES)[window])
        np.testing.assert_array_equal(batch.frames, frames[index].repeat(shown, 1))
        np.testing.assert_array_equal(batch.groups, groups[index].repeat(shown, 1))


@pytest.mark.parametrize("store", [Packed, Plain])
@pytest.mark.parametrize("labelled", [False, True])
def test_grey_values_lie_between_0_and_1(rng, sequences, store, labelled):
    grey = rng.integers(0, 256, (11, FRAMES, 6, 5, 2))
    split = make_split(grey, sequences[1] if labelled else None, store, white=255)
    for batch, (index, window) in zip(split.batches(PICKS), PICKS, strict=True):
        assert batch.frames.dtype == np.float32
        np.testing.assert_allclose(batch.frames, grey[index, window] / 255, rtol=1e-6)


def test_floats_are_taken_as_they_are(rng):
    values = rng.random((11, FRAMES, 6, 5, 2)).astype(np.float32)
    for batch, (index, window) in zip(make_split(values, store=Plain).batches(PICKS), PICKS, strict=True):
        np.testing.assert_array_equal(batch.frames, values[index, window])


@pytest.mark.parametrize("labelled", [False, True])
def test_actions_come_with_their_frames(rng, sequences, labelled):
    frames, groups = sequences
    values = rng.random((11, FRAMES, 3)).astype(np.float32)
    actions = Plain(11, (FRAMES, 3))
    actions.put(0, values)
    split = dataclasses.replace(make_split(frames, groups if labelled else None), actions=actions)
    assert (split.nr_actions, make_split(frames).nr_actions) == (3, 0)
    for batch, (index, window) in zip(split.batches(PICKS), PICKS, strict=True):
        np.testing.assert_array_equal(batch.frames, frames[index, window])
        np.testing.assert_array_equal(batch.actions, values[index, window])
        assert batch.collisions is None
        assert (batch.groups is not None) == labelled


@pytest.mark.parametrize("labelled", [False, True])
def test_collisions_come_with_their_frames(rng, sequences, labelled):
    frames, groups = sequences
    collisions = rng.integers(0, 2, (11, FRAMES, 6, 5, 1))
    marks = Deflated(11, collisions.shape[1:])
    marks.put(0, collisions)
    split = dataclasses.replace(make_split(frames, groups if labelled else None), collisions=marks)
    for batch, (index, window) in zip(split.batches(PICKS), PICKS, strict=True):
        np.testing.assert_array_equal(batch.frames, frames[index, window])
        np.testing.assert_array_equal(batch.collisions, collisions[index, window])
        assert (batch.groups is not None) == labelled
