"""Weight gradients of dense layers, gathered over the EM steps into one product.

The gradient of a kernel that every step uses is a sum over the steps, each term as large as the kernel: a small batch
spends more on adding them up than on all of its products. But the sum is a product itself, of what the layer saw in all
steps and what came back to it,

    dW = sum_t x_t^T dy_t = X^T dY        X [T*B*K, D],  dY [T*B*K, U],  dW [D, U]

X leaves the loop beside the outputs of the cell. dY is the gradient of a tap: zeros that enter the loop beside the
frames and stand for what is added to the layer's output. The kernel enters as a constant, which is rounded to the dtype
of the layer once and not in every step.
"""

import threading
from collections.abc import Sequence
from typing import NamedTuple

import keras
import tensorflow as tf

from nem_tf.layers.precision import bias_add

NO_SECOND = "gathered gradients are first ones only: call the model without training=True for gradients of gradients"
FLOAT32_ROWS = 64  # most rows of a step that are gathered in float32 (docs/measurements.md)

# `taps` of the step that is being computed, {id of a layer: `_Tap`}; every replica has a thread.
_step = threading.local()


class _NotOnce(Exception):
    """A layer was not called once in a step, with rows."""


class _Tap(NamedTuple):
    kernel: tf.Tensor  # [D, U], constant, in the dtype of the layer
    zeros: tf.Tensor  # [B*K, U]
    seen: list[tf.Tensor]  # the input of the layer [B*K, D], once it was called
    graph: tf.Graph  # that of the step
    looped: bool  # whether this is the body of a loop

    def takes(self, inputs):
        """Whether these are rows of the step itself, not of a graph within it."""
        rows = self.zeros.shape[:1].is_compatible_with(inputs.shape[:-1])
        return rows and self.graph is tf.compat.v1.get_default_graph()


@keras.saving.register_keras_serializable("nem_tf")
class Dense(keras.layers.Dense):
    """A dense layer on rows, [N, D] -> [N, units], whose weight gradient can be gathered over the steps of a cell.

    By itself it is `keras.layers.Dense`, with its arguments and weights; it has its name too, which files of weights
    keep. Its gradient is gathered where an encoder or a decoder calls it once a step, with a row for every component,
    and else is Keras'.
    """

    def call(self, inputs: tf.Tensor, training: bool | None = None) -> tf.Tensor:
        tap = getattr(_step, "taps", {}).get(id(self))
        if tap is None or not tap.takes(inputs):
            return super().call(inputs, training=training)
        if not tap.looped:
            # `tf.recompute_grad` calls a layer once more, without a tap, and keeps gradients of what was read before.
            tf.convert_to_tensor(self.kernel)
        x = tf.cast(inputs, tap.kernel.dtype)
        tap.seen.append(x)
        y = _product(x, tap.kernel, tap.zeros)
        if self.use_bias:
            y = bias_add(y, self.bias)
        return y if self.activation is None else self.activation(y)


@tf.custom_gradient
def _product(x, kernel, tap):
    """x W. What comes back goes to x and to the tap, not to W."""

    def gradient(dy):
        # It would lack what goes by this kernel, a constant.
        once = tf.raw_ops.PreventGradient(input=dy, message=NO_SECOND)
        return tf.matmul(once, kernel, transpose_b=True), None, dy

    return tf.matmul(x, kernel), gradient


@keras.saving.register_keras_serializable("nem_tf")
class GatheringRNN(keras.layers.RNN):
    """`keras.layers.RNN` of an `EMCell`, which gathers the weight gradients of its `gathered_layers` in training.

    It computes what `keras.layers.RNN` does, and takes its arguments. It is that backwards, with a mask, and where one
    of these layers is called more than once a step, or with anything but B*K rows. Gradients of gathered gradients
    are refused.
    """

    _gathers = True  # until a layer is found not to be called once: the step that finds it is computed twice

    def _pays(self, batch, k):
        """Whether it is faster: in bfloat16 always, in float32 of few rows a step, or of nobody knows how many."""
        rounded = any(layer.compute_dtype != "float32" for layer in self.cell.gathered_layers)
        return rounded or tf.is_tensor(batch) or tf.is_tensor(k) or batch * k <= FLOAT32_ROWS

    def inner_loop(
        self,
        sequences: tf.Tensor,
        initial_state: Sequence[tf.Tensor],
        mask: tf.Tensor | None,
        training: bool | None = False,
    ) -> tuple[tf.Tensor, tf.Tensor, list[tf.Tensor]]:
        layers = self.cell.gathered_layers
        batch, k = keras.ops.shape(initial_state[0])[:2]
        plain = mask is None and not self.go_backwards
        ready = layers and all(layer.built for layer in layers)  # else the first step builds them
        if not (training and ready and self._gathers and plain and self._pays(batch, k)):
            return super().inner_loop(sequences, initial_state, mask, training)
        try:
            return self._gathered_loop(sequences, initial_state)
        except _NotOnce:
            self._gathers = False
            return super().inner_loop(sequences, initial_state, mask, training)

    def _gathered_loop(self, sequences, initial_state):
        """`inner_loop` of sequences [B, T, ..], with the gradients of the layers gathered."""
        layers = self.cell.gathered_layers
        batch, k = keras.ops.shape(initial_state[0])[:2]
        steps = keras.ops.shape(sequences)[1]
        seen = []  # X [T, B*K, D] of each layer, which is there before a gradient is asked for

        @tf.custom_gradient
        def taps(*kernels):
            def gradient(*returned):
                products = (tf.matmul(_rows(x), _rows(dy), transpose_a=True) for x, dy in zip(seen, returned))
                return [tf.cast(product, kernel.dtype) for product, kernel in zip(products, kernels)]

            return [tf.zeros((steps, batch * k, layer.units), layer.compute_dtype) for layer in layers], gradient

        kernels = [tf.convert_to_tensor(layer.kernel) for layer in layers]
        constants = [tf.stop_gradient(tf.cast(kernel, layer.compute_dtype)) for kernel, layer in zip(kernels, layers)]

        def step(frames, taps, states):
            """One step of the cell: output, inputs of the layers, states."""
            where = tf.compat.v1.get_default_graph(), looped
            _step.taps = {id(layer): _Tap(*each, [], *where) for layer, *each in zip(layers, constants, taps)}
            try:
                output, states = self.cell(frames, states)
                inputs = [tap.seen for tap in _step.taps.values()]
                if any(len(each) != 1 for each in inputs):
                    raise _NotOnce
                return output, [x for (x,) in inputs], states
            finally:
                _step.taps = {}

        inputs = [_swapped(sequences), *taps(*kernels)]  # [T, ..] each
        unrolled = _written_out if self.unroll else _looped
        looped = tf.inside_function() and not self.unroll
        outputs, inputs_of_layers, states = unrolled(step, inputs, list(initial_state), steps)
        seen += inputs_of_layers
        return outputs[-1], _swapped(outputs), states


def _written_out(step, inputs, states, steps):
    """Goes through inputs [T, ..]: outputs [T, ..], inputs of the layers [T, ..] each, the last states."""
    made = []
    for frames, *taps in zip(*(tf.unstack(x, steps) for x in inputs)):
        output, seen, states = step(frames, taps, states)
        made.append((output, *seen))
    outputs, *seen = (tf.stack(each) for each in zip(*made))
    return outputs, seen, states


def _looped(step, inputs, states, steps):
    """Does what `_written_out` does, in a loop of TensorFlow's."""
    arrays = [tf.TensorArray(x.dtype, steps).unstack(x) for x in inputs]
    made = [tf.TensorArray(dtype, steps) for dtype in (states[0].dtype, *(x.dtype for x in inputs[1:]))]

    def body(t, made, states):
        frames, *taps = (array.read(t) for array in arrays)
        output, seen, states = step(frames, taps, states)
        return t + 1, [array.write(t, x) for array, x in zip(made, (output, *seen))], states

    _, made, states = tf.while_loop(lambda t, *_: t < steps, body, (0, made, states), maximum_iterations=steps)
    outputs, *seen = (array.stack() for array in made)
    return outputs, seen, states


def _rows(x):
    """[T, N, D] -> [T*N, D]."""
    return tf.reshape(x, (-1, x.shape[-1]))


def _swapped(x):
    """[B, T, ..] -> [T, B, ..], or back."""
    return tf.transpose(x, (1, 0, *range(2, len(x.shape))))
