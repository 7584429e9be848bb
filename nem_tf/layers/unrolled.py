"""A cell unrolled over a sequence by `keras.layers.RNN`, with named outputs."""

from collections.abc import Callable
from types import SimpleNamespace
from typing import NamedTuple

import keras
import numpy as np
import tensorflow as tf

from nem_tf.layers.cells import EMCell, State
from nem_tf.layers.gathering import GatheringRNN
from nem_tf.layers.mixture import BernoulliMixture
from nem_tf.layers.noise import check_noise
from nem_tf.layers.precision import float32_only

MOST_LABELS = 255  # that uint8 holds beside one for "none"
NOISE_STREAM = 1  # second part of a seed of noise; that of initial responsibilities is 0


class Segmentation(NamedTuple):
    """What `RNNEM.segment` returns, without B if the frames had none."""

    labels: np.ndarray  # uint8 [B, T, H, W], the component that explains a pixel best, 0 .. K - 1
    responsibilities: np.ndarray  # float32 [B, T, K, H, W], sum to 1 over K


@keras.saving.register_keras_serializable("nem_tf")
class RNNEM(keras.layers.Layer):
    """N-EM or RNN-EM over T steps: unrolled expectation maximization, trained end to end.

    Arguments:
        cell: an `RNNEMCell` or another `EMCell`.
        unroll: as in `keras.layers.RNN`: the T steps are written out rather than looped over. A compiled step on a GPU
            is faster for it, and compiles for longer; T must be known.
        noise: that of the training, e.g. `BitflipNoise(0.2)`, a layer called with frames and seed, a pure function of
            them. Those who pass clean frames alone, `sequence`, `segment` and a SavedModel, put it on what the
            components see (paper, section 4: also at test). Calling the model does not: `noisy` has it already. None
            for no noise.
        lag: what `sequence` and `segment` are told where they are not: 1 of a model that is trained to predict the
            next frame, 0 of a denoiser.

    Raises:
        ValueError: no such cell, noise that is no such layer, or another lag; in the call, no step, or see
            `EMCell.pack_inputs`.

    Call arguments:
        noisy: floating [B, T, H, W, C], the frames x~_0 .. x~_{T-1} that the components see, with noise.
        target: [B, T, H, W, C], the frames x_1 .. x_T to predict, clean. T + 1 frames make T steps.
        initial_state: `State`; by default a fresh one with the cell's k. It decides K.
        actions: [B, T, A], of a cell that takes actions: what was done when the frame x_t was seen.
        training: whether gradients are asked for, which are then computed as `GatheringRNN` does.

    Returns a dict, step t being the state after frame t was seen and frame t + 1 predicted:

    - predictions: [B, T, K, H, W, C], psi, the predicted means of the target.
    - gamma: [B, T, K, H, W, 1], the responsibilities for the target; sum to 1 over K.
    - theta: [B, T, K, M], the representation of each component.
    """

    def __init__(self, cell: EMCell, unroll: bool = False, noise: keras.Layer | None = None, lag: int = 1, **kwargs):
        super().__init__(**float32_only(kwargs))
        if not isinstance(cell, EMCell):
            raise ValueError(f"cell is an RNNEMCell or another EMCell; received {cell!r}")
        if noise is not None:
            check_noise(noise)
        self.cell, self.unroll, self.lag = cell, unroll, _checked_lag(lag)
        # Where neither Keras nor TensorFlow looks for what is to be saved: it has no weights, and checkpoints without
        # it would be found to lack the state of its seed.
        self._untracked = SimpleNamespace(noise=noise)
        self.rnn = GatheringRNN(cell, return_sequences=True, unroll=unroll, name="rnn", dtype=self.dtype_policy)

    @property
    def noise(self) -> keras.Layer | None:
        """Returns the noise that it was trained with, or None."""
        return self._untracked.noise

    def build(self, noisy_shape: tuple, target_shape: tuple | None = None) -> None:
        if len(noisy_shape) != 5:
            raise ValueError(f"expected frames [B, T, H, W, C]; received {noisy_shape}")
        self.rnn.build((*noisy_shape[:-1], 2 * noisy_shape[-1] + (self.cell.nr_actions > 0)))

    def call(
        self,
        noisy: tf.Tensor,
        target: tf.Tensor,
        initial_state: State | None = None,
        actions: tf.Tensor | None = None,
        training: bool | None = None,
    ) -> dict[str, tf.Tensor]:
        frames = self.cell.pack_inputs(noisy, target, actions)  # [B, T, H, W, 2C or more]
        if frames.shape[1] == 0:
            raise ValueError("there is no step: T + 1 frames make T steps, expected at least 2")
        if initial_state is None:
            initial_state = self.cell.get_initial_state(tf.shape(frames)[0])
        packed = self.rnn(frames, initial_state=list(initial_state), training=training)  # [B, T, K, P]
        return self.cell.unpack(packed)

    def rollout(
        self,
        noisy: tf.Tensor,
        state: State,
        steps: int | tf.Tensor,
        imagine: Callable[[tf.Tensor, tf.Tensor], tuple[tf.Tensor, tf.Tensor]],
        actions: tf.Tensor | None = None,
    ) -> dict[str, tf.Tensor]:
        """Goes on without looking: what it imagines takes the place of every later frame, as target and as input.

        Arguments:
            noisy: [B, H, W, C], the last frame seen.
            state: that before it.
            steps: how many to predict, at least 1; the first one is for the frame after `noisy`.
            imagine: (psi [B, K, H, W, C], int32 number of the step) -> (target, next input), [B, H, W, C] each.
            actions: [B, steps, A], of a cell that takes actions.

        Returns what calling the model does, for these steps, and as `noisy` what they saw; no responsibility knows a
        true frame.
        """

        def imagined_step(last, t):
            _, seen, state = last
            extra = {} if actions is None else {"actions": actions[:, t]}
            psi, theta = self.cell.m_step(state.gamma * (seen[:, None] - state.psi), state.theta, **extra)
            target, next_seen = imagine(psi, t)
            return seen, tf.ensure_shape(next_seen, seen.shape), State(theta, psi, self.cell.e_step(target, psi))

        seen, _, states = tf.scan(imagined_step, tf.range(steps), initializer=(noisy, noisy, state))
        names = {"predictions": states.psi, "gamma": states.gamma, "theta": states.theta, "noisy": seen}
        return {name: tf.experimental.numpy.swapaxes(value, 0, 1) for name, value in names.items()}  # [B, steps, ...]

    def seen(self, frame: tf.Tensor, t: int | tf.Tensor, seed: int | tf.Tensor = 0) -> tf.Tensor:
        """Returns frame t of sequences, [B, H, W, C], as the components see it: with the noise of the training.

        Arguments:
            frame: floating, clean.
            t, seed: int or int32 scalar; the draw is a pure function of them, and the same for all sequences of a
                batch: what is made of one does not depend on those beside it.
        """
        if self.noise is None:
            return frame
        own = tf.random.fold_in(tf.stack([seed, NOISE_STREAM]), t, alg="philox")

        def of_one(frame):
            return tf.cast(self.noise(frame[None], seed=own)[0], frame.dtype)  # whatever the policy of the user's own

        # In a graph the draw, which is that of all, is made once. Eagerly every call would trace a graph of its own.
        over_sequences = tf.vectorized_map if tf.inside_function() else tf.map_fn
        return over_sequences(of_one, frame)

    def sequence(
        self,
        frames: tf.Tensor,
        initial_state: State,
        lag: int | None = None,
        actions: tf.Tensor | None = None,
        seed: int | tf.Tensor = 0,
    ) -> dict[str, tf.Tensor]:
        """Goes through whole sequences; step t of what it returns belongs to frame t.

        Arguments:
            frames: float [B, T, H, W, C], any B and T >= 1, clean; the components see them with the model's `noise`.
            initial_state: that before the first frame.
            lag: 1 of a model that predicts the next frame: frame t has the prediction made from frame t - 1 and its
                E-step against frame t; frame 0 was not predicted by anyone and has the initial state. 0 of a denoiser:
                frame t has its own reconstruction and its E-step. By default the model's.
            actions: [B, T, A], of a cell that takes actions: those that come with the frames.
            seed: int or int32 scalar, of the noise.

        Returns what calling the model does, for T steps.
        """
        lag = self.lag if lag is None else lag

        def unrolled():
            seen = slice(-lag if lag else None)
            extra = {} if actions is None else {"actions": actions[:, seen]}
            noisy = self._all_seen(frames, seed)[:, seen]
            return self(noisy, frames[:, lag:], initial_state=initial_state, **extra)

        if lag == 0:
            return unrolled()
        start = {"predictions": initial_state.psi, "gamma": initial_state.gamma, "theta": initial_state.theta}
        start = {name: value[:, None] for name, value in start.items()}  # T = 1

        def after_the_start():
            return {name: tf.concat([start[name], value], axis=1) for name, value in unrolled().items()}

        if frames.shape[1] == 1:
            return start
        # Keras' RNN looks at its first step even where there is none.
        return tf.cond(tf.shape(frames)[1] > 1, after_the_start, lambda: start)

    def segment(
        self,
        frames: np.ndarray,
        k: int | None = None,
        seed: int = 0,
        lag: int | None = None,
        actions: np.ndarray | None = None,
    ) -> Segmentation:
        """Says which component explains which pixel: NumPy in, NumPy out.

        Arguments:
            frames: [T, H, W], [T, H, W, C] or [B, T, H, W, C] of the model's size; floats in [0, 1], or whole numbers
                from 0 to 255, or 0 and 1 if none is larger. A model of binary frames sees 1 from a half on.
            k: number of components, by default the cell's.
            seed: of the initial responsibilities and the model's `noise`, 0 to 2**31 - 1. The former are drawn for a
                batch: a sequence has others in another place of it.
            lag: see `sequence`; of a model that predicts the next frame, the labels of frame 0 are random.
            actions: [T, A] or [B, T, A], of a cell that takes actions: those that come with the frames.

        Raises:
            ValueError: the model was not built; frames of other shapes, sizes or values; k not from the cell's
                `smallest_k` to 255; a seed or a lag that is no such number; actions that are not those of the frames.
        """
        k, least = self.cell.k if k is None else k, self.cell.smallest_k
        if not isinstance(k, int | np.integer) or not least <= k <= MOST_LABELS:
            raise ValueError(f"k is the number of components, {least} to {MOST_LABELS}; received k={k!r}")
        if not isinstance(seed, int | np.integer) or not 0 <= seed < 2**31:
            raise ValueError(f"seed is a whole number from 0 to {2**31 - 1}; received seed={seed!r}")
        seed = int(seed)  # of True, too
        lag = self.lag if lag is None else _checked_lag(lag)
        whole = _in_unit_range(np.asarray(frames), self.cell.known_image_shape)
        if isinstance(self.cell.mixture, BernoulliMixture):
            whole = np.float32(whole >= 0.5)
        expected = (*whole.shape[:-3], self.cell.nr_actions) if self.cell.nr_actions else None
        received = None if actions is None else np.shape(actions)
        if received != expected:
            raise ValueError(f"expected actions of shape {expected} with these frames; received {received}")
        if actions is not None and not np.isfinite(actions).all():
            raise ValueError("expected actions of finite numbers; received NaN or infinity")
        batched = tf.constant(whole if whole.ndim == 5 else whole[None], self.compute_dtype)
        if actions is not None:
            actions = tf.reshape(tf.cast(actions, self.compute_dtype), (*batched.shape[:2], -1))
        state = self.cell.get_initial_state(len(batched), k=k, seed=tf.constant([seed, 0]))
        gamma = self.sequence(batched, state, lag, actions, seed)["gamma"].numpy()[..., 0]
        labels = gamma.argmax(axis=2).astype(np.uint8)
        found = Segmentation(labels, gamma.astype(np.float32, copy=False))
        return found if whole.ndim == 5 else Segmentation(*(each[0] for each in found))

    def _all_seen(self, frames, seed):
        """All frames [B, T, H, W, C] as the components see them: one by one, as they are when they come one by one."""
        if self.noise is None:
            return frames

        def seen(t):
            return self.seen(frames[:, t], t, seed)

        noisy = tf.map_fn(seen, tf.range(tf.shape(frames)[1]), fn_output_signature=frames.dtype)  # [T, B, ...]
        return tf.ensure_shape(tf.experimental.numpy.swapaxes(noisy, 0, 1), frames.shape)

    def functional(self) -> keras.Model:
        """Returns the layer as a Keras model of (noisy, target), for any T: what has a file of weights, and `fit`.

        Its weights are those of the layer. Of a cell that takes actions it is one of (noisy, target, actions).

        Raises:
            ValueError: the model was not built.
        """
        inputs = {name: keras.Input((None, *self.cell.known_image_shape)) for name in ("noisy", "target")}
        if self.cell.nr_actions:
            inputs["actions"] = keras.Input((None, self.cell.nr_actions))
        return keras.Model(list(inputs.values()), self(**inputs))

    def compute_output_spec(
        self,
        noisy: keras.KerasTensor,
        target: keras.KerasTensor,
        initial_state: State | None = None,
        actions: keras.KerasTensor | None = None,
        training: bool | None = None,
    ) -> dict:
        batch, steps, height, width, channels = noisy.shape
        k = self.cell.k if initial_state is None else initial_state[0].shape[1]
        shapes = {
            "predictions": (height, width, channels),
            "gamma": (height, width, 1),
            "theta": (self.cell.units,),
        }
        return {
            name: keras.KerasTensor((batch, steps, k, *shape), dtype=self.compute_dtype)
            for name, shape in shapes.items()
        }

    def get_config(self) -> dict:
        layers = {"cell": self.cell, "noise": self.noise}
        serialised = {name: keras.saving.serialize_keras_object(layer) for name, layer in layers.items()}
        return {**super().get_config(), **serialised, "unroll": self.unroll, "lag": self.lag}

    @classmethod
    def from_config(cls, config: dict) -> "RNNEM":
        layers = {name: config[name] for name in ("cell", "noise") if name in config}  # version 1.0 had no noise
        return cls(**{**config, **{name: keras.saving.deserialize_keras_object(each) for name, each in layers.items()}})


def _in_unit_range(frames: np.ndarray, image_shape: tuple[int, int, int]) -> np.ndarray:
    """Returns frames [..., H, W, C] as float32 in [0, 1], see `RNNEM.segment`; of [T, H, W] with an axis for C.

    Raises:
        ValueError: they have another shape, type or range.
    """
    whole = frames[..., None] if frames.ndim == 3 else frames
    fits = whole.ndim in (4, 5) and whole.shape[-3:] == image_shape and whole.size and whole.dtype.kind in "buif"
    if not fits:
        height, width, channels = image_shape
        raise ValueError(
            f"expected numbers [T, H, W], [T, H, W, C] or [B, T, H, W, C] with H, W, C = {height}, {width}, "
            f"{channels}; received {frames.dtype} {frames.shape}"
        )
    low, high = whole.min(), whole.max()
    white = 255 if whole.dtype.kind in "ui" and high > 1 else 1
    if not (low >= 0 and high <= white):  # NaN is neither
        by = ": divide them by 255" if low >= 0 and 1 < high <= 255 else ""
        raise ValueError(f"expected floats in [0, 1], or whole numbers up to 255; received {low} to {high}{by}")
    return np.float32(whole) / np.float32(white)


def _checked_lag(lag):
    if not isinstance(lag, int | np.integer) or lag not in (0, 1):
        raise ValueError(f"lag is 1 of a model that predicts the next frame and 0 of any other; received lag={lag!r}")
    return lag
