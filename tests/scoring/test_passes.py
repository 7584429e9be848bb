"""A pass over a split: every sequence and step its own scores, whatever the batches, the shares and the labels."""

import keras
import numpy as np
import pytest
import reference
import tensorflow as tf
from conftest import ActingCore

from nem_tf.alignment import ALIGNMENTS
from nem_tf.data.split import Batch
from nem_tf.layers import (
    RNNEM,
    BernoulliMixture,
    BitflipNoise,
    EMLoss,
    LossTerms,
    RNNEMCell,
    SigmoidCore,
)
from nem_tf.layers.system import Masks, System, masks_of
from nem_tf.scoring.metrics import confidence, grouping_scores
from nem_tf.scoring.passes import SCORES, Scorer, make_scorer, mask_scores, score_batches, sequence_seeds
from nem_tf.unrolling import Rollout

IMAGE = (4, 3, 1)
N, F = 5, 3


@pytest.fixture(scope="module")
def sequences():
    rng = np.random.default_rng(0)
    frames = (rng.random((N, F, *IMAGE)) < 0.4).astype(np.uint8)
    return frames, rng.integers(0, 3, (N, F, *IMAGE[:2])).astype(np.uint8)


def make_system(target="next_frame", acting=False):
    keras.utils.set_random_seed(3)
    mixture = BernoulliMixture()
    decoder = [keras.layers.Dense(12, activation=mixture.inverse_link), keras.layers.Reshape(IMAGE)]
    core = ActingCore(3) if acting else SigmoidCore(3)
    cell = RNNEMCell(encoder=keras.layers.Flatten(), core=core, decoder=keras.Sequential(decoder), mixture=mixture, k=2)
    model = RNNEM(cell, noise=BitflipNoise(0.2))
    model.build((None, None, *IMAGE))
    for variable in model.trainable_variables:  # fresh components are too alike for their masks to matter
        variable.assign(3 * variable)
    return System(model, EMLoss(mixture, 0.5), ALIGNMENTS[target])


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


def by_hand(system, result, frames, mask):
    """Losses [B, T] of the pixels of a mask [B, T, H, W, 1], in NumPy, and of what repeats the current frame."""
    psi, gamma = (result.outputs[name].numpy().astype(float) for name in ("predictions", "gamma"))
    target, current = (frames[:, part].astype(float) for part in (slice(1, None), slice(-1)))
    masked = mask[:, :, None]
    ones, strongest = np.ones_like(psi[:, :, :1]), psi.max(2, keepdims=True)
    losses = [
        [
            reference.bernoulli_losses(target[:, t], prediction[:, t], (share * masked)[:, t])[0]
            for t in range(target.shape[1])
        ]
        for prediction, share in ((psi, gamma), (strongest, ones), (current[:, :, None], ones))
    ]
    intra, upper_bound, baseline = (np.stack(each, 1) for each in losses)
    inter = ((1 - gamma) * masked * -np.log(np.clip(1 - psi, 1e-6, 1))).sum((2, 3, 4, 5))
    weight = system.loss.inter_weight
    names = ("loss", "intra", "inter", "upper_bound", "baseline")
    return dict(zip(names, (intra + weight * inter, intra, inter, upper_bound, baseline), strict=True))


@pytest.mark.parametrize("target", ALIGNMENTS)
def test_scores_are_those_of_every_sequence_by_itself(sequences, target):
    """In batches of any size, in shares or not, and against the labels of the frames that the steps predict."""
    system = make_system(target)
    frames, groups = sequences
    predicts = target == "next_frame"
    expected = []
    for number in range(N):
        seeds = sequence_seeds(5, number, 1)
        of_one = frames[number : number + 1]
        result = system.forward(tf.constant(of_one), seeds)
        masks = masks_of(result.outputs["gamma"])
        predicted = groups[number : number + 1, 1:] if predicts else groups[number : number + 1]
        baseline = by_hand(system, result, of_one, np.ones((1, 1, 1, 1, 1)))["baseline"] if predicts else None
        expected.append({**result.terms._asdict(), **({"baseline": baseline} if predicts else {}),
                         **mask_scores(masks, predicted)})  # fmt: skip
    expected = {name: np.concatenate([each[name] for each in expected]) for name in expected[0]}
    assert expected.keys() == {*LossTerms._fields, *SCORES, *(["baseline"] if predicts else [])}
    steps = F - 1 if predicts else F
    assert {values.shape for values in expected.values()} == {(N, steps)}
    shares = 2 if predicts else 1
    found = score_batches(make_scorer(system, shares=shares), batches_of(sequences, (4, 1)), 5)
    assert all(values.dtype == np.float64 for values in found.values())
    assert_same(found, expected)
    static = score_batches(make_scorer(system, moves=False), batches_of(sequences, (4, 1)), 5)
    assert found.keys() - static.keys() == ({"baseline"} if predicts else set())


@pytest.mark.parametrize("rollout", [None, Rollout(0, "soft")])
def test_losses_of_pixels_that_collide_are_those_of_the_frame_that_is_predicted(sequences, rollout):
    """The mask at index t + 1 goes with the prediction of frame t + 1."""
    system = make_system()
    frames, groups = sequences
    collisions = (np.random.default_rng(1).random((N, F, *IMAGE)) < 0.3).astype(np.uint8)
    collisions[0] = 0
    whole = system.forward(tf.constant(frames), sequence_seeds(5, 0, N), rollout)
    whole = whole._replace(outputs=system.judged(whole.outputs, whole.target, rollout))
    batches = [Batch(frames[i : i + 4], groups[i : i + 4], collisions[i : i + 4]) for i in (0, 4)]
    found = score_batches(make_scorer(system, rollout=rollout, shares=2), batches, 5)
    for name, values in by_hand(system, whole, frames, collisions[:, 1:]).items():
        np.testing.assert_allclose(found[f"collision_{name}"], values, rtol=1e-3, atol=1e-5, err_msg=name)
    for name, values in by_hand(system, whole, frames, np.ones_like(collisions[:, 1:])).items():
        np.testing.assert_allclose(found[name], values, rtol=1e-3, atol=1e-5, err_msg=name)
    assert not found["collision_loss"][0].any()  # nothing collides
    assert (found["collision_loss"][1:] < found["loss"][1:]).all()


def test_another_seed_is_another_draw_and_no_training_step_has_it(sequences):
    scorer = make_scorer(make_system())
    one, same, other = (score_batches(scorer, batches_of(sequences, (N,)), seed) for seed in (0, 0, 1))
    assert_same(one, same)
    assert (one["loss"] != other["loss"]).all()
    seeds = sequence_seeds(7, 3, 2).numpy()
    np.testing.assert_array_equal(seeds, [[7, -4], [7, -5]])


@pytest.mark.parametrize("shares", [1, 2])
def test_actions_are_those_of_the_batch(sequences, rng, shares):
    system = make_system(acting=True)
    frames, _ = sequences
    actions = np.float32(rng.standard_normal((N, F, 4)))
    batches = [Batch(frames[start:end], actions=actions[start:end]) for start, end in ((0, 2), (2, 4), (4, 5))]
    found = score_batches(make_scorer(system, shares=shares), batches, 3)
    for given, same in ((actions, True), (actions[::-1], False)):
        result = system.forward(frames, sequence_seeds(3, 0, N), actions=given)
        assert np.allclose(found["loss"], result.terms.loss, rtol=1e-4) == same


def test_without_labels_there_are_losses(sequences):
    counted = []

    def step(frames, seeds, collisions, actions):
        assert collisions is None
        return dict.fromkeys(LossTerms._fields, frames.mean((2, 3, 4))), None

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

    def step(frames, seeds, collisions, actions):
        masks = np.stack([next(rest) for _ in frames])
        return {"loss": np.zeros(masks.shape[:2])}, Masks(masks, np.ones(masks.shape, np.float32))

    found = score_batches(Scorer(alignment, step), batches_of(sequences, (2, 2, 1)), 0)
    np.testing.assert_allclose(found["ari"], 1)
    np.testing.assert_allclose(found["mbo"], 1)


def test_what_is_kept_is_scored_where_something_was_hidden(sequences):
    """Of sequences in which no object is hidden there is no such score at all."""
    frames, groups = (np.repeat(part, 2, axis=1)[:, :4] for part in sequences)
    groups = np.ones_like(groups)
    scorer = make_scorer(make_system())
    assert "kept" not in score_batches(scorer, [Batch(frames, groups)], 0)
    groups[3, 2] = 0
    found = score_batches(scorer, [Batch(frames[:3], groups[:3]), Batch(frames[3:], groups[3:])], 0)["kept"]
    assert found.shape == (N, 3)
    assert np.argwhere(~np.isnan(found)).tolist() == [[3, 2]]
