"""One pass of a model over a split: losses and grouping scores of every sequence at every step."""

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from nem_tf.cell import State
from nem_tf.config import Config
from nem_tf.data import Batch
from nem_tf.errors import UserError
from nem_tf.losses import EMLoss, LossTerms, resolve_step_weights
from nem_tf.metrics import confidence, grouping_scores
from nem_tf.model import RNNEM
from nem_tf.noise import NOISES, FrameNoise


class Setup(NamedTuple):
    """What turns a batch of frames into outputs and losses."""

    model: RNNEM
    noise: FrameNoise
    loss: EMLoss
    target: str = "next_frame"  # or "same_frame"

    def targets(self, sequence: tf.Tensor) -> tf.Tensor:
        """The T of T + 1 frames (or labels) [B, T+1, ...] that the steps predict."""
        return sequence[:, 1:] if self.target == "next_frame" else sequence[:, :-1]


def build_setup(config: Config, model: RNNEM) -> Setup:
    """The setup of a configuration.

    Raises:
        UserError: the step weights do not fit the number of steps.
    """
    try:
        resolve_step_weights(config.loss_step_weights, config.nr_steps)
    except ValueError as error:
        raise UserError(str(error)) from error
    loss = EMLoss(model.cell.mixture, config.loss_inter_weight, config.loss_step_weights)
    return Setup(model, NOISES[config.noise](config.noise_prob), loss, config.target)


class Forward(NamedTuple):
    """What a pass over a batch of T + 1 frames gives."""

    noisy: tf.Tensor  # [B, T, H, W, C]
    target: tf.Tensor  # [B, T, H, W, C]
    outputs: dict[str, tf.Tensor]  # of `RNNEM`
    terms: LossTerms


def forward(
    setup: Setup,
    frames: tf.Tensor,
    seed: tf.Tensor,
    rollout_from: int | None = None,
    share: tuple[tf.Tensor | int, int] = (0, 1),
) -> Forward:
    """Noise, EM steps and loss of a batch; a pure function of the weights, the frames and the seed.

    Arguments:
        frames: uint8 or float [B, T+1, H, W, C].
        seed: int [2], of the noise and the initial responsibilities of the batch; or int [B, 2], one for each
            sequence, whose draws then do not depend on the batch it is in.
        rollout_from: the last frame that the model sees, in [0, T). From there its own prediction, max_k psi_k, takes
            the place of the target, and a draw of it, with noise as ever, that of the input.
        share: (i, n), the i-th of n equal parts of the batch; all random draws are those of the whole batch.
    """
    frames = tf.cast(frames, setup.model.compute_dtype)

    def draw(frames, seed):
        noise_seed, gamma_seed = tf.unstack(tf.random.split(seed, alg="philox"))
        state = setup.model.cell.get_initial_state(tf.shape(frames)[0], seed=gamma_seed)
        return setup.noise(frames, seed=noise_seed), state

    dtype = frames.dtype
    noisy, state = _draw(draw, frames, seed, (dtype, State(dtype, dtype, dtype)))
    index, count = share
    if count > 1:
        # Not a slice from index * size, whose size nobody could know before it runs: with known shapes the EM loop need
        # not ask for them at every step and keep the answers for the gradient.
        noisy, frames, state = tf.nest.map_structure(
            lambda x: tf.reshape(x, (count, -1, *x.shape[1:]))[index], (noisy, frames, state)
        )
    noisy, target = noisy[:, :-1], setup.targets(frames)
    if rollout_from is None:
        outputs = setup.model(noisy, target, initial_state=state)
    else:
        outputs = _rollout(setup, noisy, target, state, seed, rollout_from)
    return Forward(noisy, target, outputs, setup.loss.terms(outputs, target))


def _draw(function, frames, seed, dtypes):
    """function(frames, seed); sequence by sequence where each has a seed."""
    if seed.shape.rank == 1:
        return function(frames, seed)
    return tf.map_fn(
        lambda sequence: tf.nest.map_structure(lambda x: x[0], function(sequence[0][None], sequence[1])),
        (frames, seed),
        fn_output_signature=dtypes,
    )


def _rollout(setup, noisy, target, state, seed, rollout_from):
    def imagine(psi, t):
        def draw(psi, seed):
            # The first two of a split by 2 are those of noise and gamma: stay clear of them.
            _, _, own = tf.unstack(tf.random.split(seed, 3, alg="philox"))
            frame_seed, noise_seed = tf.unstack(tf.random.split(tf.random.fold_in(own, t, alg="philox"), alg="philox"))
            return setup.noise(setup.model.cell.mixture.imagine(psi, frame_seed), seed=noise_seed)

        # The responsibilities are those for the mean: for a draw, they would be as random as its pixels.
        return psi, _draw(draw, psi, seed, psi.dtype)

    model = setup.model
    parts = []
    if rollout_from > 0:  # Keras' RNN has no sequences of no step
        parts.append(model(noisy[:, :rollout_from], target[:, :rollout_from], initial_state=state))
        state = State(*(parts[0][name][:, -1] for name in ("theta", "predictions", "gamma")))
    parts.append(model.rollout(noisy[:, rollout_from], state, tf.shape(noisy)[1] - rollout_from, imagine))
    return {name: tf.concat([part[name] for part in parts], axis=1) for name in parts[0]}


class Masks(NamedTuple):
    """The part of the responsibilities that the scores need; small enough to leave the device."""

    assignment: tf.Tensor  # uint8 [B, T, H, W], argmax_k gamma
    certainty: tf.Tensor  # float32 [B, T, H, W], max_k gamma


def masks_of(gamma: tf.Tensor) -> Masks:
    """From gamma [B, T, K, H, W, 1]."""
    gamma = gamma[..., 0]
    return Masks(tf.cast(tf.argmax(gamma, axis=2), tf.uint8), tf.reduce_max(gamma, axis=2))


def mask_scores(masks: Masks, groups: tf.Tensor) -> dict[str, np.ndarray]:
    """The fields of `GroupingScores` and the confidence, float64 [B, T] each.

    Arguments:
        masks: of T steps.
        groups: uint8 [B, T, H, W], the labels of the frames that the steps predict.
    """
    groups = np.asarray(groups)
    scores = grouping_scores(groups, np.asarray(masks.assignment))
    return {**scores._asdict(), "confidence": confidence(np.asarray(masks.certainty), groups)}


def use_xla(config: Config) -> bool:
    """Whether to compile with XLA. On a CPU it makes a loop around convolutions many times slower."""
    return config.jit == "on" or (config.jit == "auto" and bool(tf.config.list_physical_devices("GPU")))


class Scorer(NamedTuple):
    """A compiled pass for `score_batches`."""

    setup: Setup
    step: Callable  # (frames, seeds [B, 2]) -> (LossTerms, Masks)


def make_scorer(setup: Setup, jit: bool, rollout_from: int | None = None, shares: int = 1) -> Scorer:
    """Compiles a pass.

    Arguments:
        setup, rollout_from: see `forward`.
        jit: whether to use XLA.
        shares: parts of a batch that are computed side by side; a batch that does not divide is computed as a whole.
    """

    @tf.function(jit_compile=jit, reduce_retracing=True, autograph=False)
    def score(frames, seeds):
        result = forward(setup, frames, seeds, rollout_from)
        return result.terms, masks_of(result.outputs["gamma"])

    @tf.function(reduce_retracing=True, autograph=False)
    def score_shares(frames, seeds):
        parts = [score(*share) for share in zip(tf.split(frames, shares), tf.split(seeds, shares))]
        return tf.nest.map_structure(lambda *each: tf.concat(each, 0), *parts)

    def step(frames, seeds):
        divides = shares > 1 and len(frames) % shares == 0
        return score_shares(frames, seeds) if divides else score(frames, seeds)

    return Scorer(setup, step)


def sequence_seeds(seed: int, start: int, size: int) -> tf.Tensor:
    """Seeds [size, 2] of the sequences start, start + 1, .. of an evaluation.

    Training step i draws from [seed, i]; counting down from -1 keeps clear of it.
    """
    return tf.constant([[seed, -1 - index] for index in range(start, start + size)])


def score_batches(scorer: Scorer, batches: Iterable[Batch], seed: int,
                  after_batch: Callable[[], Any] = lambda: None) -> dict[str, np.ndarray]:  # fmt: skip
    """Every score of every sequence and step, float64 [N, T] each: the fields of `LossTerms` and of `mask_scores`.

    Noise and initial responsibilities are drawn from the seed and the number of the sequence: two evaluations agree,
    whatever their batch size.

    Arguments:
        scorer: of `make_scorer`.
        seed: of the evaluation.
        after_batch: called after each batch, e.g. to advance a progress bar.
    """
    collected, done = [], 0
    for batch in batches:
        terms, masks = scorer.step(batch.frames, sequence_seeds(seed, done, len(batch.frames)))
        done += len(batch.frames)
        losses = {name: np.asarray(values, float) for name, values in terms._asdict().items()}
        collected.append({**losses, **mask_scores(masks, scorer.setup.targets(batch.groups))})
        after_batch()
    return {name: np.concatenate([scores[name] for scores in collected]) for name in collected[0]}


def per_sequence(scores: dict[str, np.ndarray], step_weights: np.ndarray) -> dict[str, np.ndarray]:
    """One number per sequence and score, [N] each, from [N, T] each.

    The loss and its parts are weighted sums over the steps, as trained; the upper bound and the ARI of the video are
    those of the last step; every other score is a weighted mean over the steps that have one.

    Arguments:
        scores: any of the fields of `LossTerms` and of `mask_scores`.
        step_weights: [T].
    """
    reduced = {}
    for name, values in scores.items():
        if name in ("loss", "intra", "inter"):
            reduced[name] = values @ step_weights
        elif name in ("upper_bound", "ari_video"):
            reduced[name] = values[:, -1]
        else:
            weights = np.where(np.isnan(values), 0, step_weights)
            with np.errstate(invalid="ignore"):
                reduced[name] = (np.nan_to_num(values) * weights).sum(1) / weights.sum(1)
    return reduced


def means(scores: dict[str, np.ndarray], step_weights: np.ndarray) -> dict[str, float]:
    """`per_sequence`, averaged over the sequences; only confidence and mBO leave out the NaN of an empty image."""
    return {
        name: float((np.nanmean if name in ("confidence", "mbo") else np.mean)(values))
        for name, values in per_sequence(scores, step_weights).items()
    }
