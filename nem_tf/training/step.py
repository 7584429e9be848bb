"""The training step: weights, frames and seeds -> new weights, losses and masks."""

from typing import NamedTuple

import keras
import numpy as np
import tensorflow as tf

from nem_tf.layers.losses import LossTerms
from nem_tf.layers.system import Masks, System, masks_of


class Adam(keras.optimizers.Adam):
    """Adam that is given gradients which are summed over the replicas already.

    Keras clips before it sums. A global norm is one of the sum, so `TrainStep` sums, clips, and Keras shall not sum
    again.
    """

    def _all_reduce_sum_gradients(self, grads_and_vars):
        return grads_and_vars


class Differentiated(NamedTuple):
    """What a part of a batch gives."""

    gradients: list[tf.Tensor]
    terms: LossTerms  # [1, T] each: means over the part
    masks: Masks


class StepResult(NamedTuple):
    """What n training steps of a call return."""

    terms: LossTerms  # [n, T] each: means over the batch
    gradient_norm: tf.Tensor  # [n], global, before clipping
    masks: Masks  # of the last step; of each replica its part, see `TrainStep.gathered`


class TrainStep:
    """Makes the training steps of a call, on all devices.

    Arguments:
        system: what is trained.
        optimizer: `Adam` of this module, built.
        clip_norm: global norm to which gradients are clipped; 0 does not clip.
        strategy: the devices.
        shares: parts of a device's batch that are computed side by side.
        jit: whether XLA compiles: the whole step, or with several devices the gradients, since what replicas tell each
            other is not for XLA.
    """

    def __init__(
        self,
        system: System,
        optimizer: Adam,
        *,
        clip_norm: float = 0.0,
        strategy: tf.distribute.Strategy | None = None,
        shares: int = 1,
        jit: bool = False,
    ):
        self.system, self.optimizer, self.clip_norm = system, optimizer, clip_norm
        self.strategy = strategy or tf.distribute.get_strategy()
        self.shares = shares
        replicas = self.strategy.num_replicas_in_sync
        # Nothing here branches or loops on tensors in Python: AutoGraph would take seconds of the start for nothing.
        self._differentiate = tf.function(self._differentiate, jit_compile=jit, autograph=False)
        if jit and replicas == 1:
            self._replica_step = tf.function(self._replica_step, jit_compile=True, autograph=False)
        self._steps = tf.function(self._steps, autograph=False)

    def __call__(self, frames: np.ndarray, seeds: np.ndarray, actions: np.ndarray | None = None) -> StepResult:
        """Trains on frames [n, B, F, H, W, C] with seeds [n, 2], and actions [n, B, F, A] of a model that takes any."""
        given = (frames, seeds) if actions is None else (frames, seeds, actions)
        return self._steps(*map(tf.convert_to_tensor, given))

    def gathered(self, masks: Masks) -> Masks:
        """Returns the masks of the whole batch. With several processes, all of them must ask."""
        if self.strategy.num_replicas_in_sync == 1:
            return Masks(*(part.numpy() for part in masks))
        # Collectives know no bytes.
        assignment = tf.nest.map_structure(lambda x: tf.cast(x, tf.int32), masks.assignment, expand_composites=True)
        parts = [self.strategy.gather(part, axis=0).numpy() for part in (assignment, masks.certainty)]
        return Masks(parts[0].astype(np.uint8), parts[1])

    def _steps(self, *given):
        """One step of a call, or several: the terms of frames, seeds and, of a model that takes any, actions."""
        results = []
        if given[0].shape[0] > 1:

            def one_of_many(each):
                result = self._step(*each)
                return self._first(result.terms), self._first(result.gradient_norm)

            signature = (LossTerms(*[tf.float32] * len(LossTerms._fields)), tf.float32)
            first = tuple(each[:-1] for each in given)
            results.append(tf.map_fn(one_of_many, first, fn_output_signature=signature, parallel_iterations=1))
        # The last one by itself: its masks are scored, and leave the replicas only if they are.
        last = self._step(*(each[-1] for each in given))
        results.append(tf.nest.map_structure(lambda x: self._first(x)[None], (last.terms, last.gradient_norm)))
        terms, norms = tf.nest.map_structure(lambda *parts: tf.concat(parts, 0), *results)
        return StepResult(LossTerms(*(term[:, 0] for term in terms)), norms, last.masks)

    def _step(self, *given):
        return self.strategy.run(self._replica_step, args=given)

    def _first(self, value):
        return tf.nest.map_structure(lambda x: self.strategy.experimental_local_results(x)[0], value)

    def _replica_step(self, frames, seed, actions=None):
        replica, replicas = tf.distribute.get_replica_context(), self.strategy.num_replicas_in_sync
        first = replica.replica_id_in_sync_group * self.shares
        parts = [self._differentiate(frames, seed, tf.constant(i) + first, actions) for i in range(self.shares)]
        gradients, terms = tf.nest.map_structure(
            lambda *each: tf.add_n(each) / self.shares, *((part.gradients, part.terms) for part in parts)
        )
        masks = tf.nest.map_structure(lambda *each: tf.concat(each, 0), *(part.masks for part in parts))
        if replicas > 1:
            gradients, terms = replica.all_reduce(tf.distribute.ReduceOp.MEAN, (gradients, terms))
        norm = tf.linalg.global_norm(gradients)
        if self.clip_norm:
            gradients, _ = tf.clip_by_global_norm(gradients, self.clip_norm, use_norm=norm)
        self.optimizer.apply(gradients, self.system.model.trainable_variables)
        return StepResult(terms, norm, masks)

    def _differentiate(self, frames, seed, share, actions=None):
        """What the share of that number gives, out of those of all replicas."""
        count = self.strategy.num_replicas_in_sync * self.shares
        with tf.GradientTape() as tape:
            result = self.system.forward(frames, seed, share=(share, count), actions=actions, training=True)
            loss = self.system.loss.total(result.terms)
        variables = self.system.model.trainable_variables
        # A network of one's own may have weights that the loss does not reach. (Of Keras' the tape makes no zeros.)
        gradients = [
            tf.zeros(variable.shape, variable.dtype) if gradient is None else gradient
            for variable, gradient in zip(variables, tape.gradient(loss, variables))
        ]
        batch_means = LossTerms(*(tf.reduce_mean(term, axis=0, keepdims=True) for term in result.terms))
        return Differentiated(gradients, batch_means, masks_of(result.outputs["gamma"]))
