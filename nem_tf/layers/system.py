"""From a batch of clean frames to outputs and losses: noise, initial state, EM steps. Training and scoring share it."""

from collections.abc import Callable
from typing import NamedTuple

import tensorflow as tf

from nem_tf.alignment import Alignment
from nem_tf.layers.cells import State
from nem_tf.layers.losses import EMLoss, LossTerms
from nem_tf.layers.mixture import BernoulliMixture
from nem_tf.layers.unrolled import RNNEM
from nem_tf.unrolling import Rollout

SEEN_AS_LIT = 0.1  # R-NEM: a pixel that is predicted brighter than this counts as 1 where no frame tells


class Forward(NamedTuple):
    """What a pass over a batch gives."""

    noisy: tf.Tensor  # [B, T, H, W, C], what the steps saw
    target: tf.Tensor  # [B, T, H, W, C], what they predict
    outputs: dict[str, tf.Tensor]  # of `RNNEM`
    terms: LossTerms  # [B, T] each


class Masks(NamedTuple):
    """The part of the responsibilities that scores need; small enough to leave the device."""

    assignment: tf.Tensor  # uint8 [B, T, H, W], argmax_k gamma
    certainty: tf.Tensor  # float32 [B, T, H, W], max_k gamma


def masks_of(gamma: tf.Tensor) -> Masks:
    """Returns the masks of responsibilities [B, T, K, H, W, 1]."""
    gamma = gamma[..., 0]
    return Masks(tf.cast(tf.argmax(gamma, axis=2), tf.uint8), tf.reduce_max(gamma, axis=2))


class System(NamedTuple):
    """A model with its loss, and what its steps predict. The noise is the model's."""

    model: RNNEM
    loss: EMLoss
    alignment: Alignment

    def forward(
        self,
        frames: tf.Tensor,
        seed: tf.Tensor,
        rollout: Rollout | None = None,
        share: tuple[tf.Tensor | int, int] = (0, 1),
        actions: tf.Tensor | None = None,
        training: bool = False,
    ) -> Forward:
        """Computes noise, EM steps and loss: a pure function of the weights, the frames with actions, and the seed.

        Arguments:
            frames: uint8 or float [B, F, H, W, C], clean, in [0, 1]; T steps take F = T + lag of the alignment.
            seed: int [2], of the noise and the initial responsibilities of the batch; or int [B, 2], one for each
                sequence, whose draws then do not depend on the batch it is in.
            rollout: from which frame on the model goes on by itself, in [0, T), of "soft" in [0, T - 1), and how; by
                default it sees all frames.
            share: (i, n), the i-th of n equal parts of the batch; all random draws are those of the whole batch. Of a
                roll-out there is only (0, 1).
            actions: float [B, F, A], of a model that takes actions: those that come with the frames, imagined ones too.
            training: whether gradients are asked for, see `RNNEM`; of a roll-out they are not.

        Raises:
            ValueError: a part of a roll-out, or its gradients, are asked for.
        """
        if rollout is not None and (share[1] > 1 or training):
            raise ValueError("a roll-out is computed of the whole batch, and not trained")
        frames = tf.cast(frames, self.model.compute_dtype)

        def draw(frames, seed):
            noise_seed, gamma_seed = tf.unstack(tf.random.split(seed, alg="philox"))
            state = self.model.cell.get_initial_state(tf.shape(frames)[0], seed=gamma_seed)
            return self._noisy(frames, noise_seed), state

        dtype = frames.dtype
        noisy, state = _draw(draw, frames, seed, (dtype, State(dtype, dtype, dtype)))
        extra = {} if actions is None else {"actions": tf.convert_to_tensor(actions)}
        index, count = share
        if count > 1:
            # Not a slice from index * size, whose size nobody could know before it runs: with known shapes the EM loop
            # need not ask for them at every step and keep the answers for the gradient.
            noisy, frames, state, extra = tf.nest.map_structure(
                lambda x: tf.reshape(x, (count, -1, *x.shape[1:]))[index], (noisy, frames, state, extra)
            )
        noisy, target = self.alignment.seen(noisy), self.alignment.predicted(frames)
        extra = {name: self.alignment.seen(each) for name, each in extra.items()}
        if rollout is None:
            outputs = self.model(noisy, target, initial_state=state, training=training, **extra)
            return Forward(noisy, target, outputs, self.loss.terms(outputs, target))
        outputs, noisy = self._rollout(noisy, target, state, seed, rollout, extra)
        return Forward(noisy, target, outputs, self.loss.terms(self.judged(outputs, target, rollout), target))

    def judged(
        self, outputs: dict[str, tf.Tensor], target: tf.Tensor, rollout: Rollout | None = None
    ) -> dict[str, tf.Tensor]:
        """Returns the outputs of a pass as its losses take them: see `Rollout`."""
        if rollout is None or rollout.form != "soft":
            return outputs
        return {**outputs, "gamma": self.model.cell.mixture.e_step(target, outputs["predictions"])}

    def attention(self, outputs: dict[str, tf.Tensor], actions: tf.Tensor | None = None) -> tf.Tensor | None:
        """Returns who looks at whom in the step after each of a pass, [B, T, K, K]; see `EMCell.attention`.

        Arguments:
            outputs: of `forward`.
            actions: [B, F, A], those it was given. Of a denoiser, those of the frame itself are taken once more.
        """
        return self.model.cell.attention(
            outputs["theta"], None if actions is None else self.alignment.predicted(actions)
        )

    def _noisy(self, frames, seed):
        return frames if self.model.noise is None else self.model.noise(frames, seed=seed)

    def _rollout(self, noisy, target, state, seed, rollout, extra):
        """The outputs of all steps, and the frames [B, T, H, W, C] that they saw."""
        mixture, soft = self.model.cell.mixture, rollout.form == "soft"

        def as_seen(frame, t):
            """A frame that is imagined, as the next step sees it: a draw of it or itself, with noise or without."""

            def draw(frame, seed):
                # The first two of a split by 2 are those of noise and gamma: stay clear of them.
                _, _, own = tf.unstack(tf.random.split(seed, 3, alg="philox"))
                own = tf.random.fold_in(own, t, alg="philox")
                frame_seed, noise_seed = tf.unstack(tf.random.split(own, alg="philox"))
                frame = frame if soft else mixture.imagine(frame, frame_seed)
                return self._noisy(frame, noise_seed) if rollout.noise else frame

            return _draw(draw, frame, seed, frame.dtype)

        def imagine(psi, t):
            strongest = mixture.strongest(psi)
            if not soft:
                # The responsibilities are those for the mean: for a draw, they would be as random as its pixels.
                return strongest, as_seen(strongest, t)
            if isinstance(mixture, BernoulliMixture):
                strongest = tf.cast(strongest > SEEN_AS_LIT, psi.dtype)
            return strongest, as_seen(mixed(psi, mixture.e_step(strongest, psi)), t)

        def mixed(psi, gamma):
            return tf.reduce_sum(gamma * psi, axis=1)

        def of(part):
            return {name: each[:, part] for name, each in extra.items()}

        # "soft" knows the target of the last frame's step, "draw" does not.
        steps = rollout.last_seen + (1 if soft else 0)
        parts = []
        if steps > 0:  # Keras' RNN has no sequences of no step
            parts.append(self.model(noisy[:, :steps], target[:, :steps], initial_state=state, **of(slice(steps))))
            parts[0]["noisy"] = noisy[:, :steps]
            state = State(*(parts[0][name][:, -1] for name in ("theta", "predictions", "gamma")))
        # The steps from 0 on number the inputs after this one.
        first = as_seen(mixed(state.psi, state.gamma), -1) if soft else noisy[:, steps]
        later = of(slice(steps, None))
        parts.append(self.model.rollout(first, state, tf.shape(noisy)[1] - steps, imagine, **later))
        outputs = {name: tf.concat([part[name] for part in parts], axis=1) for name in parts[0]}
        return outputs, outputs.pop("noisy")


def _draw(function: Callable, frames: tf.Tensor, seed: tf.Tensor, dtypes):
    """function(frames, seed); sequence by sequence where each has a seed."""
    if seed.shape.rank == 1:
        return function(frames, seed)

    # Left as it is: AutoGraph would look for its source in a file that may have been edited since the program began.
    @tf.autograph.experimental.do_not_convert
    def draw_one(sequence):
        return tf.nest.map_structure(lambda x: x[0], function(sequence[0][None], sequence[1]))

    return tf.map_fn(draw_one, (frames, seed), fn_output_signature=dtypes)
