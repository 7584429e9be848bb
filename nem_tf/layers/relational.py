"""The relational core of R-NEM: components that see each other (van Steenkiste et al., 2018, section 2.2)."""

from collections.abc import Sequence

import keras
import tensorflow as tf
from keras import layers

from nem_tf.layers.cores import SlotCore
from nem_tf.layers.normalisation import LayerNorm, block


@keras.saving.register_keras_serializable("nem_tf")
class PairDense(layers.Layer):
    """A dense layer on every ordered pair of different slots: [B, K, M] -> [B*K*(K-1), units].

        c_kj = W [z_k ; z_j] + b,  j != k

    The rows go through k, and for each k through the j != k in increasing order. W [z_k ; z_j] is the sum of a product
    of z_k and one of z_j, which are computed once a slot and added pair by pair: the pairs themselves, of width 2M, are
    never made.

    Arguments:
        units: width of the output.

    Weights: `kernel` [2M, units] (Glorot uniform) and `bias` [units] (zeros), those of a dense layer on the pairs.
    """

    def __init__(self, units: int, **kwargs):
        super().__init__(**kwargs)
        self.units = units

    def build(self, input_shape: tuple) -> None:
        shape = (2 * input_shape[-1], self.units)
        self.kernel = self.add_weight(name="kernel", shape=shape, initializer="glorot_uniform")
        self.bias = self.add_weight(name="bias", shape=(self.units,), initializer="zeros")

    def call(self, z: tf.Tensor) -> tf.Tensor:
        batch, k, size = keras.ops.shape(z)  # numbers where they are known
        # Both products as one, with the kernel as it lies in memory.
        own, other = tf.unstack(tf.matmul(tf.reshape(z, (1, -1, size)), tf.reshape(self.kernel, (2, size, self.units))))
        own, other = (tf.reshape(part, (batch, k, self.units)) for part in (own + self.bias, other))
        # A product with 0 and 1 picks the others: its gradient is one too, where that of a gather is scattered.
        picks = tf.reshape(tf.cast(_others(k), other.dtype), (1, k * (k - 1), k))
        others = tf.reshape(tf.matmul(picks, other), (batch, k, k - 1, self.units))
        return tf.reshape(own[:, :, None] + others, (-1, self.units))

    def compute_output_shape(self, input_shape: tuple) -> tuple:
        return (None, self.units)

    def get_config(self) -> dict:
        return {**super().get_config(), "units": self.units}


def _others(k):
    """1 at [k, i, j] where j is the i-th slot other than k, in increasing order, else 0: float32 [K, K-1, K]."""
    slot, i = tf.range(k)[:, None], tf.range(k - 1)[None]
    return tf.one_hot(i + tf.cast(i >= slot, tf.int32), k)


@keras.saving.register_keras_serializable("nem_tf")
class RelationalCore(SlotCore):
    """The recurrent unit of R-NEM, whose components see the state of all others (R-NEM, section 2.2).

        z_k  = block(theta_k)                              embedding
        c_kj = block([z_k ; z_j])                          pair: k is looked at, j is its context
        f_kj = block(c_kj)                                 effect of j on k
        a_kj = sigmoid(w . block(c_kj))                    attention, each by itself: no softmax
        E_k  = sum_{j != k} a_kj f_kj                      a sum, which grows with K
        u_k  = W [z_k ; E_k ; input_k] + b                 update, from z_k in place of theta_k
        theta_k' = sigmoid(u_k);  output_k = sigmoid(LN(u_k))

    A block is a dense layer, layer norm and relu; that of the attention has `attention_units` and tanh.

    Arguments:
        units: M, the size of theta, and of embedding, pairs and effects.
        attention_units: width of the hidden layer of the attention.
        use_attention: whether there is attention; without, all a_kj are 1.
        nr_actions: A, the entries of an action that comes with every image; 0 for none. An action becomes
            `action_units` of a block, which every component of the image has beside its theta, and once more in the
            update.
        action_units: width of that block.

    Call: `(slots [B, K, D], states [[B, K, M]], actions [B, A]) -> (output [B, K, M], [theta' [B, K, M]])`, for any
    K > 1; without actions where there are none.

    Raises:
        ValueError: K is 1, in the call, where it is known; actions that do not come, or that nobody asked for.
    """

    smallest_k = 2

    def __init__(
        self,
        units: int,
        attention_units: int = 100,
        use_attention: bool = True,
        nr_actions: int = 0,
        action_units: int = 10,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.units = self.state_size = self.output_size = units
        self.attention_units, self.use_attention = attention_units, use_attention
        self.nr_actions, self.action_units = nr_actions, action_units

        def dense(width):
            return layers.Dense(width, dtype=self.dtype_policy)

        self.act = keras.Sequential(block(dense(action_units), "relu"), name="act") if nr_actions else None
        self.embed = keras.Sequential(block(dense(units), "relu"), name="embed")
        self.pair = keras.Sequential(block(PairDense(units, dtype=self.dtype_policy), "relu"), name="pair")
        self.effect = keras.Sequential(block(dense(units), "relu"), name="effect")
        self.attend = None
        if use_attention:
            self.attend = keras.Sequential([*block(dense(attention_units), "tanh"), dense(1)], name="attend")
        self.update = layers.Dense(units, name="update", dtype=self.dtype_policy)
        self.norm = LayerNorm(name="norm", dtype=self.dtype_policy)

    def build(self, input_shape: tuple) -> None:
        from_action = self.action_units if self.nr_actions else 0
        if self.act is not None:
            self.act.build((None, self.nr_actions))
        self.embed.build((None, self.units + from_action))
        self.pair.build((None, None, self.units))
        self.effect.build((None, self.units))
        if self.attend is not None:
            self.attend.build((None, self.units))
        self.update.build((None, 2 * self.units + input_shape[-1] + from_action))
        self.norm.build((None, self.units))

    def call(
        self, slots: tf.Tensor, states: Sequence[tf.Tensor], actions: tf.Tensor | None = None
    ) -> tuple[tf.Tensor, list[tf.Tensor]]:
        batch, k = keras.ops.shape(slots)[:2]
        acts = self._acts(actions, k)
        z, pairs = self._pairs(states[0], acts)  # [B*K, M], [B*K*(K-1), M]
        effects = self.effect(pairs)
        if self.attend is not None:
            effects *= self._attention_of(pairs)
        effect = tf.reduce_sum(tf.reshape(effects, (-1, k - 1, self.units)), axis=1)  # [B*K, M]
        rows = tf.reshape(slots, (-1, slots.shape[-1]))  # [B*K, D]
        u = self.update(tf.concat([z, effect, tf.cast(rows, z.dtype), *acts], axis=-1))
        shape = (batch, k, self.units)
        return tf.reshape(tf.sigmoid(self.norm(u)), shape), [tf.reshape(tf.sigmoid(u), shape)]

    def attention(self, theta: tf.Tensor, actions: tf.Tensor | None = None) -> tf.Tensor | None:
        """Returns a_kj of the step that follows the states, 0 for j = k; None of a core without attention.

        It depends on nothing but the states, so that it can be had afterwards of all steps of a sequence.

        Arguments:
            theta: [.., K, M].
            actions: [.., A], those of the step, where the core takes actions.

        Returns [.., K, K], in (0, 1) off the diagonal: row k says how much component k is affected by each other one.
        """
        if self.attend is None:
            return None
        lead, k = tf.shape(theta)[:-2], theta.shape[-2]
        k = tf.shape(theta)[-2] if k is None else k
        if actions is not None:
            actions = tf.reshape(actions, (-1, actions.shape[-1]))
        _, pairs = self._pairs(tf.reshape(theta, (-1, k, self.units)), self._acts(actions, k))
        attention = tf.reshape(self._attention_of(pairs), (-1, k, k - 1))
        attention = tf.einsum("bki,kij->bkj", attention, tf.cast(_others(k), attention.dtype))
        return tf.reshape(attention, tf.concat([lead, [k, k]], 0))

    def _attention_of(self, pairs):
        """a_kj [B*K*(K-1), 1]: the last layer of `attend` is a dense one, which may have a lower precision."""
        return tf.sigmoid(tf.cast(self.attend(pairs), pairs.dtype))

    def _acts(self, actions, k):
        """The embedded action of each image for all of its components, [B*K, action_units], in a list; or none."""
        received = 0 if actions is None else actions.shape[-1]
        if received != self.nr_actions:
            raise ValueError(f"expected actions [B, A] of A = {self.nr_actions} entries; received {received}")
        if actions is None:
            return []
        # Repeated image by image, as the rows are: component for component it would be another image's action.
        return [tf.repeat(self.act(actions), k, axis=0)]

    def _pairs(self, theta, acts):
        """Embeddings [B*K, M] and pairs [B*K*(K-1), M] of the states [B, K, M]."""
        batch, k = keras.ops.shape(theta)[:2]
        if not tf.is_tensor(k) and k < self.smallest_k:
            raise ValueError(
                f"R-NEM's components look at each other, which takes at least {self.smallest_k}; received K={k}"
            )
        rows = tf.reshape(theta, (-1, self.units))
        z = self.embed(tf.concat([tf.cast(rows, acts[0].dtype), *acts], axis=-1) if acts else rows)
        return z, self.pair(tf.reshape(z, (batch, k, self.units)))

    def get_config(self) -> dict:
        return {
            **super().get_config(),
            "units": self.units,
            "attention_units": self.attention_units,
            "use_attention": self.use_attention,
            "nr_actions": self.nr_actions,
            "action_units": self.action_units,
        }
