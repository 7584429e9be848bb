"""The N-EM and RNN-EM cells: one step of neural expectation maximization (paper sections 3.1 and 3.2)."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import keras
import numpy as np
import tensorflow as tf

from nem_tf.layers.cores import PerSlot, SlotCore
from nem_tf.layers.gathering import Dense
from nem_tf.layers.mixture import SpatialMixture
from nem_tf.layers.precision import float32_only


class State(NamedTuple):
    """What one EM step hands to the next."""

    theta: tf.Tensor  # [B, K, M] representations, in RNN-EM the state of the recurrent core
    psi: tf.Tensor  # [B, K, H, W, C] predicted means
    gamma: tf.Tensor  # [B, K, H, W, 1] responsibilities, sum to 1 over K


class EMCell(keras.layers.Layer):
    """One EM step, a Keras RNN cell. What differs between N-EM and RNN-EM is the M-step, `m_step` of a subclass.

    `keras.layers.RNN` takes it with tensors; in a functional model `RNNEM` does, since Keras' own wants outputs [B, M].

        delta  = noisy - psi                         what the components do not explain yet
        masked = gamma * delta                       each component sees its own share of it
        psi', theta' = M-step(masked, theta)
        gamma' = E-step of psi' against the target

    Arguments:
        mixture: the pixel model, a `SpatialMixture`.
        k: number of components of a fresh state. A state given by the caller may have any other K.
        gamma_gradient: whether gradients flow through the responsibilities. The paper's trainings have them for static
            data and stop them for sequences.
        seed: seed of the initial responsibilities where the caller gives none.

    Call arguments:
        inputs: [B, H, W, 2C], the noisy frame x~_t and the clean target frame x_{t+1}, as `pack_inputs` packs them on
            the channels; [B, H, W, 2C + 1] of a cell that takes actions.
        states: `State` or list of the same three tensors.

    Returns `(packed, [theta, psi, gamma])`. Keras' RNN wants one tensor as the output of a step: `packed`
    [B, K, H*W*C + H*W + M] holds the new psi, gamma and theta, which `unpack` takes apart.

    Raises:
        ValueError: k < 1, or no mixture; when it is built, more actions than the image has pixels.
    """

    LAYERS = ("mixture",)  # arguments that are layers

    def __init__(
        self,
        mixture: SpatialMixture,
        k: int = 3,
        gamma_gradient: bool = False,
        seed: int | None = None,
        **kwargs,
    ):
        super().__init__(**float32_only(kwargs))
        if not isinstance(k, int | np.integer) or k < 1:
            raise ValueError(f"k is the number of components, at least 1; received k={k}")
        if not isinstance(mixture, SpatialMixture):
            raise ValueError(f"mixture is a SpatialMixture, such as GaussianMixture(); received {mixture!r}")
        self.mixture = mixture
        self.k = k
        self.gamma_gradient = gamma_gradient
        self.seed = seed
        self.seed_generator = keras.random.SeedGenerator(seed)
        self.image_shape = None  # (H, W, C), known once built

    @property
    def units(self) -> int:
        """M, the size of a component's representation."""
        raise NotImplementedError(f"{type(self).__name__} must say how large theta is")

    def m_step(self, masked: tf.Tensor, theta: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """(masked differences [B, K, H, W, C], theta [B, K, M]) -> (psi', theta') of the same shapes."""
        raise NotImplementedError(f"{type(self).__name__} must say what its M-step is")

    @property
    def nr_actions(self) -> int:
        """A, the entries of the action that the M-step takes beside each image, as `actions` [B, A]; 0 for none."""
        return 0

    @property
    def smallest_k(self) -> int:
        """How many components there are at least in a call."""
        return 1

    @property
    def gathered_layers(self) -> list[Dense]:
        """The layers whose weight gradients can be gathered: those that the M-step calls once, with B*K rows."""
        return []

    def attention(self, theta: tf.Tensor, actions: tf.Tensor | None = None) -> tf.Tensor | None:
        """Returns how much each component looks at each other one in the step after theta, [.., K, K].

        0 on the diagonal; row k belongs to the component that looks. None of a cell whose components do not, or all
        alike.

        Arguments:
            theta: [.., K, M], of one step or of all of a sequence.
            actions: [.., A], those of these steps, of a cell that takes actions.
        """
        return None

    @property
    def known_image_shape(self) -> tuple[int, int, int]:
        """(H, W, C).

        Raises:
            ValueError: the cell was not built, by a call or by `build`.
        """
        if self.image_shape is None:
            raise ValueError("the size of the frames is not known yet: call the model with frames, or build it, first")
        return self.image_shape

    @property
    def state_size(self) -> list:
        """Shapes of the state without the batch axis (the Keras RNN contract)."""
        height, width, channels = self.image_shape or (None, None, None)
        return [(self.k, self.units), (self.k, height, width, channels), (self.k, height, width, 1)]

    def build(self, input_shape: tuple) -> None:
        *_, height, width, packed_channels = input_shape
        self.image_shape = (height, width, packed_channels // 2)
        if self.nr_actions > height * width:
            raise ValueError(f"expected at most {height * width} actions, one a pixel; received {self.nr_actions}")
        if not self.mixture.built:
            self.mixture.build(self.image_shape)
            self.mixture.built = True

    def call(self, inputs: tf.Tensor, states: Sequence[tf.Tensor]) -> tuple[tf.Tensor, list[tf.Tensor]]:
        state = State(*states)
        noisy, target, actions = self.unpack_inputs(inputs)
        delta = noisy[:, None] - state.psi  # [B, K, H, W, C]
        masked = state.gamma * delta
        psi, theta = self.m_step(masked, state.theta, **actions)
        gamma = self.e_step(target, psi)
        return self.pack(psi, gamma, theta), [theta, psi, gamma]

    def e_step(self, target: tf.Tensor, psi: tf.Tensor) -> tf.Tensor:
        """gamma [B, K, H, W, 1] of psi against the target frame [B, H, W, C]; a constant unless `gamma_gradient`."""
        gamma = self.mixture.e_step(target, psi)
        return gamma if self.gamma_gradient else tf.stop_gradient(gamma)

    def get_initial_state(
        self, batch_size: int | tf.Tensor, k: int | tf.Tensor | None = None, seed: tf.Tensor | None = None
    ) -> State:
        """theta = 0, psi = the mean of the prior (0 in the paper), `gamma = |Normal(0, 1)|` normalised over K.

        Arguments:
            batch_size, k: int or int32 scalar tensor; k defaults to the cell's.
            seed: int32 or int64 [2], makes the draw a pure function of it; by default every call draws anew.

        Raises:
            ValueError: the cell was not built.
        """
        k = self.k if k is None else k
        if seed is None:
            seed = self.seed_generator.next()
        height, width, channels = self.known_image_shape
        # Philox by name: the default algorithm depends on the device, and the masks with it.
        shape = (batch_size, k, height, width, 1)
        gamma = tf.abs(tf.random.stateless_normal(shape, seed, dtype=self.compute_dtype, alg="philox"))
        gamma += np.finfo(np.float32).tiny  # one draw in millions is 0, and a single component would have 0 / 0
        gamma /= tf.reduce_sum(gamma, axis=1, keepdims=True)
        theta = tf.zeros((batch_size, k, self.units), self.compute_dtype)
        mean = tf.cast(self.mixture.prior_mean, self.compute_dtype)
        return State(theta, tf.broadcast_to(mean, (batch_size, k, height, width, channels)), gamma)

    def pack_inputs(self, noisy: tf.Tensor, target: tf.Tensor, actions: tf.Tensor | None = None) -> tf.Tensor:
        """The inputs of the cell, one tensor [.., H, W, 2C], or [.., H, W, 2C + 1] with actions.

        Keras' RNN takes one tensor per step. The A entries of an action are the first A pixels of a channel of
        their own.

        Arguments:
            noisy, target: floating [.., H, W, C].
            actions: [.., A], of a cell that takes actions.

        Raises:
            ValueError: frames that are not floating, of two shapes, or of other sizes than the cell was built for;
                actions that are not those the cell takes, or not one for each frame.
        """
        noisy, target = tf.convert_to_tensor(noisy), tf.convert_to_tensor(target)
        image = tf.TensorShape(self.image_shape or [None] * 3)
        if not (image.is_compatible_with(noisy.shape[-3:]) and noisy.shape.is_compatible_with(target.shape)):
            raise ValueError(f"expected two times frames [.., {image}]; received {noisy.shape} and {target.shape}")
        if not (noisy.dtype.is_floating and target.dtype.is_floating):
            raise ValueError(f"expected floating frames, from 0 to 1; received {noisy.dtype.name}, {target.dtype.name}")
        received = 0 if actions is None else actions.shape[-1]
        if received != self.nr_actions:
            raise ValueError(f"this cell takes actions of {self.nr_actions} entries; received {received}")
        if actions is None:
            return tf.concat([noisy, target], axis=-1)
        if not noisy.shape[:-3].is_compatible_with(actions.shape[:-1]):
            raise ValueError(f"expected an action with each frame of {noisy.shape}; received actions {actions.shape}")
        height, width = noisy.shape[-3:-1]
        padding = [*[[0, 0]] * (len(actions.shape) - 1), [0, height * width - received]]
        channel = tf.pad(tf.cast(actions, noisy.dtype), padding)
        channel = tf.reshape(channel, tf.concat([tf.shape(actions)[:-1], [height, width, 1]], 0))
        return tf.concat([noisy, target, channel], axis=-1)

    def unpack_inputs(self, inputs: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, dict[str, tf.Tensor]]:
        """Noisy frame and target [B, H, W, C], and what the M-step takes beside: {"actions": [B, A]}, or nothing."""
        if self.nr_actions == 0:
            return *tf.split(inputs, 2, axis=-1), {}
        height, width, channels = self.image_shape
        noisy, target, channel = tf.split(inputs, [channels, channels, 1], axis=-1)
        return noisy, target, {"actions": tf.reshape(channel, (-1, height * width))[:, : self.nr_actions]}

    def pack(self, psi: tf.Tensor, gamma: tf.Tensor, theta: tf.Tensor) -> tf.Tensor:
        """One tensor [B, K, H*W*C + H*W + M]."""
        height, width, channels = self.image_shape
        lead = tf.shape(psi)[:2]
        flat_psi = tf.reshape(psi, tf.concat([lead, [height * width * channels]], 0))
        flat_gamma = tf.reshape(gamma, tf.concat([lead, [height * width]], 0))
        return tf.concat([flat_psi, flat_gamma, theta], axis=-1)

    def unpack(self, packed: tf.Tensor) -> dict[str, tf.Tensor]:
        """Packed steps [B, T, K, P] -> predictions [B, T, K, H, W, C], gamma [B, T, K, H, W, 1], theta [B, T, K, M]."""
        height, width, channels = self.image_shape
        sizes = [height * width * channels, height * width, self.units]
        psi, gamma, theta = tf.split(packed, sizes, axis=-1)
        lead = tf.shape(packed)[:3]
        return {
            "predictions": tf.reshape(psi, tf.concat([lead, self.image_shape], 0)),
            "gamma": tf.reshape(gamma, tf.concat([lead, (height, width, 1)], 0)),
            "theta": theta,
        }

    def get_config(self) -> dict:
        return {
            **super().get_config(),
            "mixture": keras.saving.serialize_keras_object(self.mixture),
            "k": self.k,
            "gamma_gradient": self.gamma_gradient,
            "seed": self.seed,
        }

    @classmethod
    def from_config(cls, config: dict) -> "EMCell":
        layers = {name: keras.saving.deserialize_keras_object(config[name]) for name in cls.LAYERS}
        return cls(**{**config, **layers})


@keras.saving.register_keras_serializable("nem_tf")
class RNNEMCell(EMCell):
    """RNN-EM: the M-step is a recurrent network shared by the K components (paper section 3.2).

        theta' = RNN(gamma * (x - psi), theta)

    Arguments:
        encoder: layer, [B*K, H, W, C] -> [B*K, D].
        core: `SlotCore`, [B, K, D] -> [B, K, M], such as `RelationalCore`; or a Keras RNN cell with one state, which
            sees every slot by itself: `SigmoidCore` in the paper, but a `keras.layers.GRUCell` will do.
        decoder: layer, [B*K, M] -> [B*K, H, W, C], in the range of the mixture's mean; of a Gaussian mixture with a
            background, the difference from it.
        mixture, k, gamma_gradient, seed: see `EMCell`.

    Raises:
        ValueError: k < 1 or less than the core takes, a core with several states, or a decoder whose output is not the
            image's shape.
    """

    LAYERS = ("encoder", "core", "decoder", "mixture")

    def __init__(
        self,
        encoder: keras.Layer,
        core: keras.Layer,
        decoder: keras.Layer,
        mixture: SpatialMixture,
        k: int = 3,
        **kwargs,
    ):
        super().__init__(mixture, k, **kwargs)
        self.encoder = encoder
        self.core = core if isinstance(core, SlotCore) else PerSlot(core)
        if k < self.core.smallest_k:
            raise ValueError(
                f"{type(self.core).__name__} takes at least {self.core.smallest_k} components, since they look at each "
                f"other; received k={k}"
            )
        self.decoder = decoder

    @property
    def units(self) -> int:
        return self.core.state_size

    @property
    def smallest_k(self) -> int:
        return self.core.smallest_k

    @property
    def nr_actions(self) -> int:
        return self.core.nr_actions

    def attention(self, theta: tf.Tensor, actions: tf.Tensor | None = None) -> tf.Tensor | None:
        return self.core.attention(theta, actions)

    @property
    def gathered_layers(self) -> list[Dense]:
        return [
            layer
            for part in (self.encoder, self.decoder)
            for layer in getattr(part, "layers", [part])
            if isinstance(layer, Dense)
        ]

    def build(self, input_shape: tuple) -> None:
        super().build(input_shape)
        if not self.encoder.built:
            self.encoder.build((None, *self.image_shape))
        *_, features = self.encoder.compute_output_shape((None, *self.image_shape))
        if not self.core.built:
            self.core.build((None, None, features))
        if not self.decoder.built:
            self.decoder.build((None, self.core.output_size))
        decoded = tuple(self.decoder.compute_output_shape((None, self.core.output_size)))
        if decoded[1:] != self.image_shape:
            raise ValueError(f"the decoder must return frames of shape {self.image_shape}; it returns {decoded[1:]}")

    def m_step(
        self, masked: tf.Tensor, theta: tf.Tensor, actions: tf.Tensor | None = None
    ) -> tuple[tf.Tensor, tf.Tensor]:
        batch, k = tf.shape(masked)[0], tf.shape(masked)[1]
        features = self.encoder(tf.reshape(masked, (-1, *self.image_shape)))  # [B*K, D]
        slots = tf.reshape(features, (batch, k, features.shape[-1]))  # [B, K, D]
        beside = {} if actions is None else {"actions": actions}  # a core that takes none need not know of them
        output, (theta,) = self.core(slots, [theta], **beside)  # [B, K, M]
        psi = self.decoder(tf.reshape(output, (-1, self.core.output_size)))  # [B*K, H, W, C]
        psi = tf.reshape(tf.cast(psi, self.compute_dtype), (batch, k, *self.image_shape))
        return self.mixture.around_prior(psi), tf.cast(theta, self.compute_dtype)

    def get_config(self) -> dict:
        parts = {name: getattr(self, name) for name in ("encoder", "core", "decoder")}
        serialised = {name: keras.saving.serialize_keras_object(layer) for name, layer in parts.items()}
        return {**super().get_config(), **serialised}


@keras.saving.register_keras_serializable("nem_tf")
class NEMCell(EMCell):
    """N-EM: the M-step is one step of gradient ascent on the expected log-likelihood (paper section 3.1, equation 4).

        theta' = theta + eta * sum_i gamma_i (x_i - psi_i) dpsi_i/dtheta

    The decoder is psi = inverse_link(sigmoid(theta) W^T), without biases; the same W encodes:

        theta' = theta + eta * sigmoid'(theta) * (gamma * (x - psi)) W

    which is the gradient exactly, since the mixture's `inverse_link` is that of its canonical parameter.
    W and eta are learned.

    Arguments:
        units: M, the size of theta.
        mixture, k, gamma_gradient, seed: see `EMCell`.

    Weights: `kernel` W [H*W*C, M] (Glorot uniform) and `eta`, a scalar that starts at 1: a plain gradient step. The
    authors drew it from +-sqrt(3); 1 is the root mean square of that draw, with the sign that makes the step an ascent.
    """

    def __init__(self, units: int, mixture: SpatialMixture, k: int = 3, **kwargs):
        super().__init__(mixture, k, **kwargs)
        if units < 1:
            raise ValueError(f"units is the size of theta, at least 1; received units={units}")
        self._units = units

    @property
    def units(self) -> int:
        return self._units

    def build(self, input_shape: tuple) -> None:
        super().build(input_shape)
        shape = (math.prod(self.image_shape), self.units)
        self.kernel = self.add_weight(name="kernel", shape=shape, initializer="glorot_uniform")
        self.eta = self.add_weight(name="eta", shape=(), initializer="ones")

    def m_step(self, masked: tf.Tensor, theta: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        # All components of all images at once: a product of [B, K, N] would be B small ones.
        rows = tf.reshape(masked, (-1, self.kernel.shape[0]))  # [B*K, H*W*C]
        ascent = tf.reshape(tf.matmul(rows, self.kernel), tf.shape(theta))  # [B, K, M]
        hidden = tf.sigmoid(theta)
        theta += self.eta * hidden * (1 - hidden) * ascent
        inverse_link = keras.activations.get(self.mixture.inverse_link)
        decoded = tf.reshape(tf.sigmoid(theta), (-1, self.units))  # [B*K, M]
        psi = inverse_link(tf.matmul(decoded, self.kernel, transpose_b=True))  # [B*K, H*W*C]
        return self.mixture.around_prior(tf.reshape(psi, tf.shape(masked))), theta

    def get_config(self) -> dict:
        return {**super().get_config(), "units": self.units}
