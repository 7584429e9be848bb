"""The data position: which frames, labels and seeds every training step takes."""

import dataclasses
import itertools

import numpy as np
import pytest
from toy import BATCH, EM_STEPS, SIZE, STEPS, toy_split

from nem_tf.alignment import ALIGNMENTS
from nem_tf.data.packed import Plain
from nem_tf.training.feed import Feed
from nem_tf.unrolling import parse_curriculum

FRAMES = toy_split().features.take(np.arange(SIZE))  # of all sequences


def make_feed(curriculum="", steps_per_call=1, seed=1, target="next_frame", passes=1):
    return Feed(
        toy_split(), ALIGNMENTS[target], parse_curriculum(curriculum, EM_STEPS), EM_STEPS, batch_size=BATCH, seed=seed,
        passes=passes, steps_per_call=steps_per_call,
    )  # fmt: skip


def steps_of(calls):
    """Frames and seed of every training step."""
    return [(frames, tuple(seed)) for call in calls for frames, seed in zip(call.frames, call.seeds)]


def epochs_of(feed, epochs=3):
    return itertools.chain.from_iterable(feed.calls(e, 0, e * STEPS) for e in range(epochs))


def place_of(sequence):
    """The number of a sequence and the frame that a window of it starts at."""
    steps = len(sequence)
    found = [
        (number, start)
        for number in range(SIZE)
        for start in range(EM_STEPS + 2 - steps)
        if np.array_equal(FRAMES[number, start : start + steps], sequence)
    ]
    assert len(found) == 1
    return found[0]


def places_of(calls):
    """[steps, B, 2]: number and start of every sequence."""
    return np.array([[place_of(sequence) for sequence in frames] for frames, _ in steps_of(calls)])


def assert_same(some, others):
    some, others = steps_of(some), steps_of(others)
    assert len(some) == len(others)
    for (frames, seed), (other_frames, other_seed) in zip(some, others):
        np.testing.assert_array_equal(frames, other_frames)
        assert seed == other_seed


def test_every_sequence_comes_at_most_once_an_epoch_each_in_another_company():
    feed = make_feed()
    assert feed.steps_per_epoch == STEPS
    order = places_of(epochs_of(feed))[..., 0]
    assert order.shape == (3 * STEPS, BATCH)
    epochs = order.reshape(3, -1)
    assert [len(set(epoch)) for epoch in epochs] == [STEPS * BATCH] * 3
    assert len({tuple(epoch) for epoch in epochs}) == 3
    together = [{frozenset(batch) for batch in order[e * STEPS : (e + 1) * STEPS]} for e in range(3)]
    assert not together[0] & together[1] & together[2]
    assert set(epochs.ravel()) == set(range(SIZE))  # what one epoch leaves out, another takes


def test_an_epoch_of_several_passes_takes_every_sequence_so_often():
    feed = make_feed(passes=BATCH)
    assert feed.steps_per_epoch == SIZE
    order = places_of(feed.calls(0, 0, 0))[..., 0]
    assert np.bincount(order.ravel()).tolist() == [BATCH] * SIZE
    np.testing.assert_array_equal(places_of(feed.calls(0, 3, 3))[..., 0], order[3:])
    np.testing.assert_array_equal(order[:STEPS], places_of(make_feed().calls(0, 0, 0))[..., 0])


def test_the_feed_is_a_function_of_its_seed():
    assert_same(epochs_of(make_feed("2,3@5")), epochs_of(make_feed("2,3@5")))
    one, other = (places_of(epochs_of(make_feed("2", seed=seed))) for seed in (1, 2))
    assert (one[..., 0] != other[..., 0]).any()
    assert (one[..., 1] != other[..., 1]).any()


def test_seeds_are_those_of_the_step():
    assert [seed for _, seed in steps_of(epochs_of(make_feed(steps_per_call=3, seed=7)))] == [
        (7, step) for step in range(3 * STEPS)
    ]


@pytest.mark.parametrize("steps_per_call", [1, 3])
@pytest.mark.parametrize("done", range(STEPS + 1))
def test_an_epoch_goes_on_from_any_step_of_it(done, steps_per_call):
    whole = steps_of(make_feed("2,3@6").calls(1, 0, STEPS))
    rest = steps_of(make_feed("2,3@6", steps_per_call).calls(1, done, STEPS + done))
    assert len(rest) == STEPS - done
    for (frames, seed), (other_frames, other_seed) in zip(whole[done:], rest):
        np.testing.assert_array_equal(frames, other_frames)
        assert seed == other_seed


@pytest.mark.parametrize("most", [0, 1, 2, 3, 9])
def test_no_more_steps_than_asked_for(most):
    taken = make_feed(steps_per_call=2).calls(0, 1, 1, most)
    whole = steps_of(make_feed().calls(0, 0, 0))
    assert [seed for _, seed in steps_of(taken)] == [seed for _, seed in whole[1:][:most]]


@pytest.mark.parametrize(
    ("curriculum", "steps_per_call", "expected"),
    [
        ("", 1, [(1, 5)] * 8),
        ("", 3, [(3, 5), (1, 5)] * 2),
        ("", 9, [(4, 5)] * 2),
        ("1,2@3,4@6", 3, [(3, 2), (1, 3), (2, 3), (2, 5)]),
        ("1,2@3,4@6", 1, [(1, 2)] * 3 + [(1, 3)] * 3 + [(1, 5)] * 2),
    ],
)
def test_a_call_ends_with_its_stage_and_with_the_epoch(curriculum, steps_per_call, expected):
    calls = list(epochs_of(make_feed(curriculum, steps_per_call), 2))
    assert [call.frames.shape[:3:2] for call in calls] == expected
    assert_same(calls, epochs_of(make_feed(curriculum), 2))


def test_windows_start_anywhere_that_they_fit_drawn_from_the_step_alone():
    starts = [place[0][1] for place in places_of(epochs_of(make_feed("2"), 12))]
    assert set(starts) == {0, 1, 2}
    assert np.bincount(starts).min() > 5
    feed = make_feed("2")
    assert [feed.window(step).start for step in range(len(starts))] == starts
    for frames in places_of(epochs_of(feed)):
        assert len(set(frames[:, 1])) == 1  # all sequences of a batch from the same one
    assert {place[0][1] for place in places_of(epochs_of(make_feed()))} == {0}  # whole sequences


@pytest.mark.parametrize(("target", "frames"), [("next_frame", 3), ("same_frame", 2)])
def test_a_window_has_the_frames_that_its_steps_take(target, frames):
    calls = list(make_feed("2", target=target).calls(0, 0, 0))
    assert {call.frames.shape[2] for call in calls} == {frames}


@pytest.mark.parametrize("steps_per_call", [1, 3])
def test_labels_are_those_of_the_last_step(steps_per_call):
    for call in make_feed("2,3@2", steps_per_call).calls(0, 0, 0):
        np.testing.assert_array_equal(call.groups, 3 * call.frames[-1][..., 0])


@pytest.mark.parametrize("steps_per_call", [1, 3])
def test_actions_are_cut_as_the_frames(steps_per_call):
    """An action says which sequence and which frame of it is its own."""
    split = toy_split()
    actions = Plain(SIZE, (EM_STEPS + 1, 2))
    actions.put(0, np.moveaxis(np.indices((SIZE, EM_STEPS + 1)), 0, -1))
    feed = make_feed("2,3@2", steps_per_call)
    feed.split = dataclasses.replace(split, actions=actions)
    calls = list(epochs_of(feed))
    assert {call.actions.shape[:3] for call in calls} == {call.frames.shape[:3] for call in calls}
    firsts = np.concatenate([call.actions[:, :, 0] for call in calls])
    np.testing.assert_array_equal(firsts, places_of(calls))
    assert len(np.unique(firsts[..., 1])) > 1
    for call in calls:
        assert (np.diff(call.actions, axis=2) == [0, 1]).all()


def test_a_data_set_without_labels_has_none():
    split = toy_split()
    unlabelled = type(split)(split.features, None, split.frames)
    feed = Feed(unlabelled, ALIGNMENTS["next_frame"], parse_curriculum("", EM_STEPS), EM_STEPS, batch_size=2, seed=0)
    calls = list(feed.calls(0, 0, 0))
    assert len(calls) == SIZE // 2
    assert all(call.groups is None and call.actions is None for call in calls)
