"""A pass over a split: every sequence and step its own scores, whatever the batches, the shares and the labels."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from nem_tf.alignment import ALIGNMENTS
from nem_tf.data.split import Batch
from nem_tf.layers import RNNEM, BernoulliMixture, BitflipNoise, EMLoss, LossTerms, RNNEMCell, SigmoidCore
from nem_tf.layers.system import Masks, System, masks_of
from nem_tf.scoring.metrics import confidence, grouping_scores
from nem_tf.scoring.passes import SCORES, Scorer, make_scorer, mask_scores, score_batches, sequence_seeds

IMAGE = (4, 3, 1)
N, F = 5, 3


@pytest.fixture(scope="module")
def sequences():
    rng = np.random.default_rng(0)
    frames = (rng.random((N, F, *IMAGE)) < 0.4).astype(np.uint8)
    return frames, rng.integers(0, 3, (N, F, *IMAGE[:2])).astype(np.uint8)


def make_system(target="next_frame"):
    keras.utils.set_random_seed(3)
    mixture = BernoulliMixture()
    decoder = [keras.layers.Dense(12, activation=mixture.inverse_link), keras.layers.Reshape(IMAGE)]
    cell = RNNEMCell(
        encoder=keras.layers.Flatten(), core=SigmoidCore(3), decoder=keras.Sequential(decoder), mixture=mixture, k=2
    )
    model = RNNEM(cell)
    model.build((None, None, *IMAGE))
    for variable in model.trainable_variables:  # fresh components are too alike for their masks to matter
        variable.assign(3 * variable)
    return System(model, BitflipNoise(0.2), EMLoss(mixture), ALIGNMENTS[target])


def batches_of(sequences, sizes, labelled=True):
    frames, groups = sequences
    ends = np.cumsum(sizes)
    assert ends[-1] == N
    return [
        Batch(frames[end - size : end], groups[end - size : end] if labelled else None)
        for size, end in zip(sizes, ends)
    ]


def assert_same(some, others):
    assert some.keys() == others.keys()
    for name, values in some.items():
        np.testing.assert_allclose(values, others[name], rtol=1e-4, atol=1e-6, err_msg=name)


@pytest.mark.parametrize("target", ALIGNMENTS)
def test_scores_are_those_of_every_sequence_by_itself(sequences, target):
    """In batches of any size, in shares or not, and against the labels of the frames that the steps predict."""
    system = make_system(target)
    frames, groups = sequences
    expected = []
    for number in range(N):
        seeds = sequence_seeds(5, number, 1)
        result = system.forward(tf.constant(frames[number : number + 1]), seeds)
        masks = masks_of(result.outputs["gamma"])
        predicted = groups[number : number + 1, 1:] if target == "next_frame" else groups[number : number + 1]
        expected.append({**result.terms._asdict(), **mask_scores(masks, predicted)})
    expected = {name: np.concatenate([each[name] for each in expected]) for name in expected[0]}
    assert expected.keys() == {*LossTerms._fields, *SCORES}
    steps = F - 1 if target == "next_frame" else F
    assert {values.shape for values in expected.values()} == {(N, steps)}
    shares = 2 if target == "next_frame" else 1
    found = score_batches(make_scorer(system, shares=shares), batches_of(sequences, (4, 1)), 5)
    assert all(values.dtype == np.float64 for values in found.values())
    assert_same(found, expected)


def test_another_seed_is_another_draw_and_no_training_step_has_it(sequences):
    scorer = make_scorer(make_system())
    one, same, other = (score_batches(scorer, batches_of(sequences, (N,)), seed) for seed in (0, 0, 1))
    assert_same(one, same)
    assert (one["loss"] != other["loss"]).all()
    seeds = sequence_seeds(7, 3, 2).numpy()
    np.testing.assert_array_equal(seeds, [[7, -4], [7, -5]])


def test_without_labels_there_are_losses(sequences):
    counted = []

    def step(frames, seeds):
        return LossTerms(*[frames.mean((2, 3, 4))] * 4), None

    scorer = Scorer(ALIGNMENTS["same_frame"], step)
    found = score_batches(scorer, batches_of(sequences, (3, 2), labelled=False), 0, lambda: counted.append(1))
    assert found.keys() == set(LossTerms._fields)
    np.testing.assert_array_equal(found["inter"], sequences[0].mean((2, 3, 4)))
    assert len(counted) == 2


def test_mask_scores_are_those_of_the_metrics(rng):
    groups = rng.integers(0, 3, (2, 3, 5, 4)).astype(np.uint8)
    groups[0, 1] = 0  # no labelled pixel
    masks = Masks(rng.integers(0, 2, groups.shape).astype(np.uint8), rng.random(groups.shape).astype(np.float32))
    found = mask_scores(masks, groups)
    assert tuple(found) == SCORES
    expected = {
        **grouping_scores(groups, masks.assignment)._asdict(),
        "confidence": confidence(masks.certainty, groups),
    }
    for name, values in expected.items():
        np.testing.assert_array_equal(found[name], values)
    assert np.isnan(found["ami"][0, 1])
    perfect = mask_scores(Masks(groups, np.ones(groups.shape, np.float32)), groups)
    np.testing.assert_allclose(perfect["ami"][1], 1)


def test_labels_go_with_their_own_batch(sequences):
    """Perfect masks are perfect for no other batch."""
    alignment = ALIGNMENTS["next_frame"]
    _, groups = sequences
    rest = iter(alignment.predicted(groups))

    def step(frames, seeds):
        masks = np.stack([next(rest) for _ in frames])
        terms = LossTerms(*[np.zeros(masks.shape[:2])] * 4)
        return terms, Masks(masks, np.ones(masks.shape, np.float32))

    found = score_batches(Scorer(alignment, step), batches_of(sequences, (2, 2, 1)), 0)
    np.testing.assert_allclose(found["ari"], 1)
    np.testing.assert_allclose(found["mbo"], 1)
