"""The training loss (paper section 3.3, equation 5) and the scores that are losses too."""

from collections.abc import Sequence
from typing import NamedTuple

import keras
import tensorflow as tf

from nem_tf.mixture import COMPONENTS, SpatialMixture


class LossTerms(NamedTuple):
    """Every field is [B, T]: sums over pixels and components, one value per sequence and step."""

    loss: tf.Tensor  # intra + inter_weight * inter
    intra: tf.Tensor  # sum_ik gamma_ik * -log P(x_i | psi_ik)
    inter: tf.Tensor  # sum_ik (1 - gamma_ik) * KL(prior || P(. | psi_ik))
    upper_bound: tf.Tensor  # -log P(x | max_k psi_k): next-step prediction without an E-step's look at the target


def resolve_step_weights(spec: str | Sequence[float], steps: int) -> list[float]:
    """Weights of the T steps in the loss: "all" (1 each), "last" (0, .., 0, 1), or a list, as numbers or as text.

    A list shorter than T leaves the first steps out: its last weight is that of the last step.

    Raises:
        ValueError: text that is none of these, more weights than steps, a negative weight, or weights all 0.
    """
    expected = '--loss_step_weights takes "all", "last" or comma-separated numbers, one per step'
    if spec == "all":
        return [1.0] * steps
    if spec == "last":
        spec = [1.0]
    try:
        weights = [float(w) for w in (spec.split(",") if isinstance(spec, str) else spec)]
    except ValueError:
        raise ValueError(f"{expected}; received {spec!r}") from None
    if not 1 <= len(weights) <= steps or min(weights) < 0 or sum(weights) == 0:
        raise ValueError(f"{expected}, at most {steps} of them, not negative, not all zero; received {spec!r}")
    return [0.0] * (steps - len(weights)) + weights


@keras.saving.register_keras_serializable("nem_tf")
class EMLoss(keras.layers.Layer):
    """intra + inter_weight * inter, summed over the steps with their weights.

    Used by itself through `terms` and `total`; as a layer at the end of a functional model it adds the loss to the
    model (`add_loss`), so that `model.compile(optimizer)` and `model.fit(frames)` train it, and passes the outputs on.

    Arguments:
        mixture: the `SpatialMixture` of the cell.
        inter_weight: lambda.
        step_weights: "all", "last" or a list, see `resolve_step_weights`.
    """

    def __init__(
        self,
        mixture: SpatialMixture,
        inter_weight: float = 1.0,
        step_weights: str | Sequence[float] = "all",
        **kwargs,
    ):
        kwargs.setdefault("dtype", "float32")
        super().__init__(**kwargs)
        self.mixture, self.inter_weight, self.step_weights = mixture, inter_weight, step_weights
        self.built = True

    def terms(self, outputs: dict[str, tf.Tensor], target: tf.Tensor) -> LossTerms:
        """Loss of every step from the outputs of `RNNEM` and its target frames [B, T, H, W, C]."""
        psi, gamma = outputs["predictions"], outputs["gamma"]

        def per_step(terms):
            return tf.reduce_sum(terms, axis=[2, 3, 4, 5])  # [B, T, K, H, W, 1] -> [B, T]

        intra = per_step(gamma * self.mixture.neg_log_prob(target, psi))
        inter = per_step((1 - gamma) * self.mixture.kl_to_prior(psi))
        strongest = tf.reduce_max(psi, axis=COMPONENTS, keepdims=True)
        upper_bound = per_step(self.mixture.neg_log_prob(target, tf.stop_gradient(strongest)))
        return LossTerms(intra + self.inter_weight * inter, intra, inter, upper_bound)

    def total(self, terms: LossTerms) -> tf.Tensor:
        """The scalar that training minimises: mean over the batch, weighted sum over the steps (T known statically)."""
        weights = resolve_step_weights(self.step_weights, terms.loss.shape[1])
        return tf.reduce_sum(tf.reduce_mean(terms.loss, axis=0) * tf.constant(weights, terms.loss.dtype))

    def call(self, outputs: dict[str, tf.Tensor], target: tf.Tensor) -> dict[str, tf.Tensor]:
        self.add_loss(self.total(self.terms(outputs, target)))
        # New tensors: a layer that returns its input itself is a cycle in a functional model.
        return {name: tf.identity(tensor) for name, tensor in outputs.items()}

    def compute_output_spec(self, outputs: dict, target: keras.KerasTensor) -> dict:
        return {name: keras.KerasTensor(tensor.shape, tensor.dtype) for name, tensor in outputs.items()}

    def get_config(self) -> dict:
        mixture = keras.saving.serialize_keras_object(self.mixture)
        settings = {"inter_weight": self.inter_weight, "step_weights": self.step_weights}
        return {**super().get_config(), "mixture": mixture, **settings}

    @classmethod
    def from_config(cls, config: dict) -> "EMLoss":
        return cls(**{**config, "mixture": keras.saving.deserialize_keras_object(config["mixture"])})
