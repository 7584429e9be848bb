"""What the tests share: a tiny data set, tiny settings, a small model, and programs run in this process."""

import contextlib
import functools
import gc
import importlib
import signal
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf

from data_gen.shapes import FlyingShapes
from data_gen.writer import write_dataset
from nem_tf import cli, layers
from nem_tf.registry import Registry
from nem_tf.settings import resolve
from nem_tf.train import train
from nem_tf.training import trainer

TINY_SIZES = {"training": 32, "validation": 10, "test": 6}
# Several devices, also where there is one: to be made before TensorFlow is at work.
tf.config.set_logical_device_configuration(
    tf.config.list_physical_devices("CPU")[0], [tf.config.LogicalDeviceConfiguration()] * 2
)
# Optimising the graph of a tiny model takes longer than running it.
tf.config.optimizer.set_experimental_options({"disable_meta_optimizer": True})
# Threads that wait for a share of so small an operation cost more than the operation; the tests run side by side.
tf.config.threading.set_intra_op_parallelism_threads(1)
# What the imports made is never garbage: to look through it at every collection takes time.
gc.freeze()


@pytest.fixture(autouse=True)
def same_weights_every_time():
    keras.utils.set_random_seed(0)


@pytest.fixture(scope="session")
def tiny_data(tmp_path_factory):
    """A directory with a flying_shapes.h5 of a few sequences of 6 frames, not to be written to."""
    directory = tmp_path_factory.mktemp("data")
    write_dataset(directory / "flying_shapes.h5", "flying_shapes", FlyingShapes(nr_frames=6), TINY_SIZES)
    return directory


def tiny(data_dir, run_dir):
    """Settings of a run of a small network that takes seconds, by name."""
    return {
        "data_dir": str(data_dir),
        "run_dir": str(run_dir),
        "network": "conftest:small_network",
        "nr_steps": 3,
        "batch_size": 8,
        "max_epochs": 2,
        "train_size": TINY_SIZES["training"],
        "valid_size": 8,
        "test_size": TINY_SIZES["test"],
    }


@pytest.fixture
def tiny_settings(tiny_data, tmp_path):
    return tiny(tiny_data, tmp_path / "run")


@pytest.fixture(scope="session")
def tiny_run(tiny_data, tmp_path_factory):
    """The directory of a finished run with the tiny settings, every other step scored; not to be written to."""
    run_dir = tmp_path_factory.mktemp("runs") / "tiny"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trainer, "SCORE_EVERY", 2)
        train(resolve(tiny(tiny_data, run_dir)), tf.distribute.get_strategy())
    return run_dir


def settings_of(tiny_settings, **changes):
    return resolve({**tiny_settings, **changes})


@functools.cache
def two_cpus():
    """The strategy of two devices. There is one: the collectives of a second in the same process would mix with its."""
    return tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])


def small_cell(k=3, image_shape=(8, 8, 1), mixture=None, **kwargs) -> layers.RNNEMCell:
    """A cell of dense layers, fast enough for everything that is not about the paper's network."""
    mixture = mixture or layers.BernoulliMixture()
    return layers.RNNEMCell(
        encoder=keras.Sequential([keras.layers.Flatten(), keras.layers.Dense(16, activation="tanh")]),
        core=layers.SigmoidCore(7),
        decoder=keras.Sequential(
            [
                keras.layers.Dense(int(np.prod(image_shape)), activation=mixture.inverse_link),
                keras.layers.Reshape(image_shape),
            ]
        ),
        mixture=mixture,
        k=k,
        **kwargs,
    )


class ActingCore(layers.SlotCore):
    """What a component becomes depends on an action of four entries too; compiled faster than a `RelationalCore`."""

    nr_actions = 4

    def __init__(self, units):
        super().__init__()
        self.state_size = self.output_size = units
        self.dense = keras.layers.Dense(units, activation="sigmoid")

    def build(self, input_shape):
        self.dense.build((None, None, input_shape[-1] + self.state_size + self.nr_actions))

    def call(self, slots, states, actions):
        seen = tf.repeat(actions[:, None], tf.shape(slots)[1], axis=1)
        theta = self.dense(tf.concat([slots, states[0], seen], axis=-1))
        return theta, [theta]


def small_network(image_shape, mixture, dtype="float32", **cell):
    """`small_cell` as a network of one's own: --network=conftest:small_network."""
    return small_cell(image_shape=image_shape, mixture=mixture, **cell)


@pytest.fixture(scope="session", autouse=True)
def networks_of_the_tests_are_registered():
    """As their owner registers them before he loads a preset of one; without a name, which messages would list."""
    knows = Registry.knows
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            Registry, "knows", lambda self, name: knows(self, name) or name.startswith(("conftest:", "test_"))
        )
        yield


@pytest.fixture
def program(capsys):
    """Runs a program in this process: (name, *args) -> (exit status, stdout, stderr)."""

    def run(name, *args):
        module = importlib.import_module(name)
        positional = {"results": "RUN_DIR", "time_to_quality": "RUN_DIR", "resume": "FLAGFILE", "segment": "FILE"}.get(
            name.rpartition(".")[2], ""
        )
        status = 0
        try:
            cli.run(module.main, module.define, name, module.__doc__, positional, argv=[str(arg) for arg in args])
        except SystemExit as end:
            status = 1 if isinstance(end.code, str) else end.code or 0
            if isinstance(end.code, str):  # what Python itself prints where nobody catches it
                print(end.code, file=sys.stderr)
        out, err = capsys.readouterr()
        return status, out, err

    return run


@pytest.fixture
def largest_file():
    """A context in which no file can grow beyond so many bytes, as on a disk that is full."""
    resource = pytest.importorskip("resource")

    @contextlib.contextmanager
    def limited(size):
        before = resource.getrlimit(resource.RLIMIT_FSIZE)
        handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
        try:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
            signal.signal(signal.SIGXFSZ, handler)

    return limited


@pytest.fixture
def closed_terminals_end():
    """As in a program that nobody started with nohup, which the tests may be."""
    handler = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, handler)


@pytest.fixture
def rng():
    return np.random.default_rng(7)


def binary_frames(rng, *shape):
    return (rng.random(shape) < 0.3).astype(np.float32)
