"""What the paper reports (method sections 4 and 6): for the tables of `nem_tf.results` and for --generalisation."""

import re
from collections.abc import Iterator
from typing import NamedTuple

from nem_tf.config import Config

LONGER = 50  # steps of the longer sequences of Fig. 7


class Trained(NamedTuple):
    """What tells the trained systems of the paper apart."""

    dataset: str
    network: str
    k: int
    staged: bool = False  # from the weights of a run on fewer digits


class Tested(NamedTuple):
    """What they were tested on."""

    dataset: str
    k: int
    nr_steps: int


class Published(NamedTuple):
    """AMI on the test set, mean and standard deviation over five runs."""

    mean: float
    std: float


_N_EM = Trained("static_shapes", "static_n_em", 4)
_STATIC_RNN_EM = Trained("static_shapes", "static_rnn_em", 4)
_SHAPES = {
    (n, k): Trained(f"flying_shapes{'' if n == 3 else f'_{n}'}", "flying_shapes", k) for n in (3, 5) for k in (3, 5)
}
_DIRECT = Trained("flying_mnist_2", "flying_mnist", 2)
_STAGED = Trained("flying_mnist_2", "flying_mnist", 2, staged=True)

PUBLISHED = {
    (_N_EM, Tested("static_shapes", 4, 15)): Published(0.475, 0.043),
    (_STATIC_RNN_EM, Tested("static_shapes", 4, 15)): Published(0.826, 0.005),
    (_SHAPES[3, 3], Tested("flying_shapes", 3, 20)): Published(0.970, 0.005),
    (_SHAPES[3, 3], Tested("flying_shapes", 5, 20)): Published(0.972, 0.007),
    (_SHAPES[3, 5], Tested("flying_shapes", 5, 20)): Published(0.997, 0.002),
    (_SHAPES[3, 5], Tested("flying_shapes", 3, 20)): Published(0.914, 0.015),
    (_SHAPES[5, 3], Tested("flying_shapes_5", 3, 20)): Published(0.614, 0.003),
    (_SHAPES[5, 3], Tested("flying_shapes", 3, 20)): Published(0.886, 0.010),
    (_SHAPES[5, 5], Tested("flying_shapes_5", 5, 20)): Published(0.878, 0.003),
    (_SHAPES[5, 5], Tested("flying_shapes", 5, 20)): Published(0.981, 0.003),
    (_DIRECT, Tested("flying_mnist_2", 2, 20)): Published(0.819, 0.022),
    (_STAGED, Tested("flying_mnist_2", 2, 20)): Published(0.917, 0.005),
    (_STAGED, Tested("flying_mnist_3", 3, 20)): Published(0.729, 0.019),
    (_STAGED, Tested("static_mnist_2", 2, 20)): Published(0.619, 0.023),
}


def trained_as(config: Config) -> Trained:
    return Trained(config.dataset, config.network, config.k, bool(config.init_from))


def tested_on(config: Config) -> Tested:
    return Tested(config.dataset, config.k, config.nr_steps)


def generalisations(config: Config) -> Iterator[Tested]:
    """What a run is tested on with --generalisation, each once: first what it was trained on, then other K and other
    numbers of objects, static images, and longer sequences. All that the paper reports of such a run is among it.
    """
    own = tested_on(config)
    motion, kind = re.match(r"(flying|static)_(shapes|mnist)", config.dataset).groups()
    if kind == "shapes":
        tests = [Tested(f"{motion}_shapes{suffix}", k, own.nr_steps) for suffix in ("", "_5") for k in (3, 5)]
        tests.append(own._replace(dataset="static_shapes"))
    else:
        tests = [Tested(f"{motion}_mnist_{n}", n, own.nr_steps) for n in (2, 3)]
        tests.append(Tested("static_mnist_2", 2, own.nr_steps))
    yield from dict.fromkeys([own, *tests, own._replace(nr_steps=max(LONGER, 2 * own.nr_steps))])
