"""SIGTERM, SIGHUP and Ctrl-C as a wish to stop, which training grants when nothing is half done."""

import contextlib
import signal
from collections.abc import Callable, Iterator

import tensorflow as tf

from data_gen.signals import ending_signals, handled
from nem_tf.training.devices import agree, is_multi_worker


@contextlib.contextmanager
def caught_signals() -> Iterator[list[int]]:
    """Collects SIGINT, SIGTERM and SIGHUP instead of dying; a second one dies as usual.

    Outside the main thread, where Python delivers no signals, it collects nothing.
    """
    caught: list[int] = []
    wanted = [signal.SIGINT, *ending_signals()]
    previous = {signum: signal.getsignal(signum) for signum in wanted}

    def catch(signum, _):
        caught.append(signum)
        signal.signal(signum, previous[signum])

    with handled(wanted, catch):
        yield caught


def stop_wish(caught: list[int], strategy: tf.distribute.Strategy) -> Callable[[], int]:
    """Returns a function that tells which signal was caught, 0 for none.

    With several workers it is whether any of them caught one: all of them stop together, where the chief writes the
    checkpoint for all. Then every worker must call it at the same points.
    """
    if not is_multi_worker(strategy):
        return lambda: caught[0] if caught else 0

    def any_of_all():
        wanted = agree(strategy, {"stop": float(bool(caught))})["stop"] > 0
        return (caught[0] if caught else signal.SIGTERM) if wanted else 0

    return any_of_all
