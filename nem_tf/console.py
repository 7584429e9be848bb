"""The programs as commands of an installed package: `nem-train` is `python -m nem_tf.train`, and so on."""

import runpy
import sys
from collections.abc import Callable


def _command(module: str) -> Callable[[], None]:
    """Returns what runs a module as `python -m` does; nothing of it is imported before."""

    def command():
        # As `python -m` finds what is named, e.g. --network=my_module:my_network; last, so that it hides nothing.
        sys.path.append("")
        runpy.run_module(module, run_name="__main__", alter_sys=True)

    return command


train = _command("nem_tf.train")
evaluate = _command("nem_tf.evaluate")
export = _command("nem_tf.export")
demo = _command("nem_tf.demo")
segment = _command("nem_tf.segment")
results = _command("nem_tf.results")
resume = _command("nem_tf.resume")
data = _command("data_gen")
