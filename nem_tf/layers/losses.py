"""The training loss (paper, section 3.3, equation 5) and the scores that are losses too."""

import math
from collections.abc import Sequence
from types import SimpleNamespace
from typing import NamedTuple

import keras
import tensorflow as tf

from nem_tf.layers.mixture import COMPONENTS, IMAGE, SpatialMixture
from nem_tf.layers.precision import float32_only
from nem_tf.layers.unrolled import RNNEM
from nem_tf.unrolling import ALIKE, parse_step_weights


class LossTerms(NamedTuple):
    """Every field is [B, T]: sums over pixels and components, one value per sequence and step."""

    loss: tf.Tensor  # intra + inter_weight * inter
    intra: tf.Tensor  # sum_ik gamma_ik * -log P(x_i | psi_ik)
    inter: tf.Tensor  # sum_ik (1 - gamma_ik) * KL(prior || P(. | psi_ik))
    upper_bound: tf.Tensor  # -log P(x | strongest prediction): without an E-step's look at the target


class BoundTerms(NamedTuple):
    """The terms without an E-step's look at the target: of `SpatialMixture.strongest`. All are [B, T]."""

    loss: tf.Tensor  # intra + inter_weight * inter
    intra: tf.Tensor  # sum_i -log P(x_i | strongest_i), the `upper_bound` of `LossTerms`
    inter: tf.Tensor  # sum_i KL(prior || P(. | strongest_i)), of every pixel fully


@keras.saving.register_keras_serializable("nem_tf")
class EMLoss(keras.layers.Layer):
    """intra + inter_weight * inter, summed over the steps with their weights.

    Used by itself through `terms` and `total`; as a layer at the end of a functional model it adds the loss to the
    model (`add_loss`), so that `model.compile(optimizer)` and `model.fit(frames)` train it, and passes the outputs on.
    In a functional model it takes the background of the cell that made the outputs, if the prior is an image.

    Arguments:
        mixture: the `SpatialMixture` of the cell.
        inter_weight: lambda.
        step_weights: "all", "mean", "last" or a list, see `nem_tf.unrolling.step_weights`.

    Raises:
        ValueError: step weights that are none of these, an inter_weight that is not finite, or no mixture.
    """

    def __init__(
        self,
        mixture: SpatialMixture,
        inter_weight: float = 1.0,
        step_weights: str | Sequence[float] = "all",
        **kwargs,
    ):
        super().__init__(**float32_only(kwargs))
        if not isinstance(mixture, SpatialMixture):
            raise ValueError(f"mixture is a SpatialMixture, that of the cell; received {mixture!r}")
        if not isinstance(step_weights, str):
            step_weights = parse_step_weights(step_weights)
        elif step_weights not in ALIKE:
            parse_step_weights(step_weights)
        if not math.isfinite(inter_weight):
            raise ValueError(f"inter_weight is a finite number; received {inter_weight}")
        self.inter_weight, self.step_weights = inter_weight, step_weights
        # Where Keras does not look for weights: those of the mixture are the cell's.
        self._untracked = SimpleNamespace(mixture=mixture)
        self.built = True

    @property
    def mixture(self) -> SpatialMixture:
        """The mixture of the cell."""
        return self._untracked.mixture

    def terms(
        self, outputs: dict[str, tf.Tensor], target: tf.Tensor, pixel_weights: tf.Tensor | None = None
    ) -> LossTerms:
        """Loss of every step from the outputs of `RNNEM` and its target frames, floating [B, T, H, W, C].

        Arguments:
            outputs, target: see above.
            pixel_weights: [B, T, H, W, 1], by which every pixel of a step counts, for reports: of the mask of the
                pixels that collide, these are the relational losses of R-NEM. By default every pixel counts 1.

        Raises:
            ValueError: the target has other sizes than what was predicted.
        """
        psi, gamma = outputs["predictions"], outputs["gamma"]
        _check_sizes(target, psi)
        intra = _per_step(gamma * self.mixture.neg_log_prob(target, psi), pixel_weights)
        inter = _per_step((1 - gamma) * self.mixture.kl_to_prior(psi), pixel_weights)
        strongest = tf.stop_gradient(self._strongest(psi))
        upper_bound = _per_step(self.mixture.neg_log_prob(target, strongest), pixel_weights)
        return LossTerms(intra + self.inter_weight * inter, intra, inter, upper_bound)

    def bound_terms(
        self, outputs: dict[str, tf.Tensor], target: tf.Tensor, pixel_weights: tf.Tensor | None = None
    ) -> BoundTerms:
        """The terms of the strongest prediction, which can be compared between any K; arguments as of `terms`."""
        _check_sizes(target, outputs["predictions"])
        strongest = self._strongest(outputs["predictions"])
        intra = _per_step(self.mixture.neg_log_prob(target, strongest), pixel_weights)
        inter = _per_step(self.mixture.kl_to_prior(strongest), pixel_weights)
        return BoundTerms(intra + self.inter_weight * inter, intra, inter)

    def total(self, terms: LossTerms) -> tf.Tensor:
        """The scalar that training minimises: mean over the batch, weighted sum over the steps.

        Raises:
            ValueError: more step weights than steps, where T is known.
        """
        per_step = tf.reduce_mean(terms.loss, axis=0)  # [T]
        if self.step_weights in ALIKE:
            return tf.reduce_sum(per_step) if self.step_weights == "all" else tf.reduce_mean(per_step)
        weights = parse_step_weights(self.step_weights)
        if terms.loss.shape[1] is not None and len(weights) > terms.loss.shape[1]:
            raise ValueError(f"{len(weights)} step weights for {terms.loss.shape[1]} steps: expected one per step")
        # The last weight is that of the last step, and T may be known only when it runs: it is looked at then.
        weighted = tf.ensure_shape(per_step[-len(weights) :], (len(weights),))
        return tf.reduce_sum(weighted * tf.constant(weights, per_step.dtype))

    def _strongest(self, psi):
        """Returns what all predict together as of one component, [B, T, K, H, W, C] to [B, T, 1, H, W, C]."""
        return tf.expand_dims(self.mixture.strongest(psi), COMPONENTS)

    def call(self, outputs: dict[str, tf.Tensor], target: tf.Tensor) -> dict[str, tf.Tensor]:
        self.add_loss(self.total(self.terms(outputs, target)))
        # New tensors: a layer that returns its input itself is a cycle in a functional model.
        return {name: tf.identity(tensor) for name, tensor in outputs.items()}

    def compute_output_spec(self, outputs: dict, target: keras.KerasTensor) -> dict:
        self._share_background(outputs["predictions"])
        return {name: keras.KerasTensor(tensor.shape, tensor.dtype) for name, tensor in outputs.items()}

    def _share_background(self, predictions):
        """Takes the cell's mixture: Keras reads and clones layer by layer, and makes two of what two layers share."""
        if self.mixture.prior != IMAGE:
            return
        for mixture in {id(cell): cell.mixture for cell in _cells_behind(predictions)}.values():
            if type(mixture) is not type(self.mixture) or mixture.settings != self.mixture.settings:
                raise ValueError(f"this loss has another mixture than the cell, {self.mixture.settings}")
            self._untracked.mixture = mixture

    def get_config(self) -> dict:
        mixture = keras.saving.serialize_keras_object(self.mixture)
        settings = {"inter_weight": self.inter_weight, "step_weights": self.step_weights}
        return {**super().get_config(), "mixture": mixture, **settings}

    @classmethod
    def from_config(cls, config: dict) -> "EMLoss":
        return cls(**{**config, "mixture": keras.saving.deserialize_keras_object(config["mixture"])})


def _cells_behind(tensor):
    """The cells that made a symbolic tensor, whatever it went through since."""
    operation, node, _ = getattr(tensor, "_keras_history", (None, 0, 0))
    if operation is None:
        return []
    layers = operation.layers if isinstance(operation, keras.Model) else [operation]
    cells = [layer.cell for layer in layers if isinstance(layer, RNNEM)]
    return cells or [cell for each in operation._inbound_nodes[node].input_tensors for cell in _cells_behind(each)]


def _check_sizes(target, psi):
    """Compares [B, T, H, W, C] with [B, T, K, H, W, C], which would be broadcast."""
    expected = tf.TensorShape([*psi.shape[:2], *psi.shape[3:]])
    if not expected.is_compatible_with(target.shape):
        raise ValueError(f"expected a target of shape {expected}, as the predictions have it; received {target.shape}")


def _per_step(terms, pixel_weights):
    """[B, T, K, H, W, 1] -> [B, T], pixels weighted by [B, T, H, W, 1] if that is given."""
    if pixel_weights is not None:
        terms *= tf.cast(pixel_weights, terms.dtype)[:, :, None]
    return tf.reduce_sum(terms, axis=[2, 3, 4, 5])
