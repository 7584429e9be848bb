"""Time of a training step against the same model with plain upsampling + convolution, side by side in one run.

    python -m benchmarks.training_step [BATCH] [K] [STEPS] [ROUNDS]

The two take turns, so that a noisy machine disturbs both; printed are medians and quartiles of the rounds.
"""

import sys
import time

import keras
import numpy as np
import tensorflow as tf

import nem_tf
from nem_tf.scoring import Setup, forward

IMAGE = (28, 28, 1)


def training_step(plain: bool, batch: int, k: int, steps: int):
    """A compiled training step on random frames, as a function of nothing."""
    network = nem_tf.flying_shapes(IMAGE)
    if plain:
        network["decoder"] = keras.Sequential(
            [layer for old in network["decoder"].layers for layer in _plain(old)], name="decoder"
        )
    model = nem_tf.RNNEM(nem_tf.RNNEMCell(**network, mixture=nem_tf.BernoulliMixture(), k=k))
    model.build((None, None, *IMAGE))
    setup = Setup(model, nem_tf.BitflipNoise(0.2), nem_tf.EMLoss(model.cell.mixture))
    optimizer = keras.optimizers.Adam(1e-3, epsilon=1e-8)
    variables = model.trainable_variables
    optimizer.build(variables)
    frames = tf.constant(np.random.default_rng(0).random((batch, steps + 1, *IMAGE)) < 0.2, tf.uint8)

    @tf.function
    def step():
        with tf.GradientTape() as tape:
            value = setup.loss.total(forward(setup, frames, tf.constant([0, 0])).terms)
        optimizer.apply_gradients(zip(tape.gradient(value, variables), variables))
        return value

    return step


def _plain(layer):
    if isinstance(layer, nem_tf.UpsampleConv2D):
        return [keras.layers.UpSampling2D(2), keras.layers.Conv2D(layer.filters, 4, padding="same")]
    return [layer]


def main(batch: int = 16, k: int = 4, steps: int = 20, rounds: int = 9) -> None:
    forms = {"identity": training_step(False, batch, k, steps), "plain": training_step(True, batch, k, steps)}
    seconds = {name: [] for name in forms}
    for step in forms.values():
        step()
    for _ in range(rounds):
        for name, step in forms.items():
            start = time.perf_counter()
            float(step())
            seconds[name].append(time.perf_counter() - start)
    print(f"training step, flying_shapes network, B {batch}, K {k}, {steps} steps, {rounds} rounds, seconds")
    for name, times in seconds.items():
        low, median, high = np.quantile(times, [0.25, 0.5, 0.75])
        print(f"{name:<10} median {median:.3f}  quartiles {low:.3f} .. {high:.3f}")
    ratios = np.array(seconds["plain"]) / seconds["identity"]
    print("plain / identity: median {:.2f}, {:.2f} .. {:.2f}".format(*np.quantile(ratios, [0.5, 0.25, 0.75])))


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
