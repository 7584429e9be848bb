"""Several devices, several cores: a `tf.distribute` strategy, the shares of a batch, and what training asks of them.

The batch is global. Every replica gets all of its frames (bytes), makes the random draws for all of them, as a single
device would, and goes on with its share: the losses are those of one device, whatever the number of replicas. The
cores of a CPU divide the share of a replica once more: two cores at one product as small as the network's wait for
each other, each at half of the batch they do not (`benchmarks.speed`).
"""

import json
import os
from collections.abc import Mapping

import tensorflow as tf

from nem_tf.config import Config
from nem_tf.errors import UserError

LEAST_SHARE = 8  # sequences: what is gained by not waiting is lost in products of fewer


def make_strategy(config: Config) -> tf.distribute.Strategy:
    """The strategy that --distribute names. Multi-worker: call it before any other use of TensorFlow.

    none: TensorFlow's default, one device. mirrored: all GPUs of this host, or, without any, all logical CPUs.
    multi_worker: all devices of all hosts in TF_CONFIG.

    Raises:
        UserError: TF_CONFIG is missing or not understood, or the batch does not divide into equal parts.
    """
    if config.distribute == "multi_worker":
        _check_tf_config()
        strategy = tf.distribute.MultiWorkerMirroredStrategy()
    elif config.distribute == "mirrored":
        devices = tf.config.list_logical_devices("GPU") or tf.config.list_logical_devices("CPU")
        strategy = tf.distribute.MirroredStrategy([device.name for device in devices])
    else:
        strategy = tf.distribute.get_strategy()
    replicas, shares = strategy.num_replicas_in_sync, nr_shares(config)
    if config.batch_size % replicas:
        raise UserError(
            f"--batch_size={config.batch_size} is the batch of all devices together: expected a multiple of the "
            f"{replicas} that --distribute={config.distribute} finds"
        )
    if config.batch_size % (replicas * shares):
        raise UserError(
            f"--shares={shares}: expected a divisor of a device's {config.batch_size // replicas} sequences"
        )
    return strategy


def nr_shares(config: Config) -> int:
    """Parts of a replica's batch that the cores of its CPU compute side by side, 1 on a GPU."""
    if config.shares:
        return config.shares
    if config.distribute != "none" or tf.config.list_physical_devices("GPU"):
        return 1
    most = min(_nr_cores(), config.batch_size // LEAST_SHARE)
    return next((n for n in range(most, 1, -1) if config.batch_size % n == 0), 1)


def use_cores(config: Config) -> None:
    """Divides the cores among the shares. Call it before any other use of TensorFlow, which then keeps to it."""
    tf.config.threading.set_intra_op_parallelism_threads(max(1, _nr_cores() // nr_shares(config)))


def _nr_cores() -> int:
    affine = getattr(os, "sched_getaffinity", None)  # not on every system
    return len(affine(0)) if affine else os.cpu_count() or 1


def _check_tf_config() -> None:
    try:
        tf_config = json.loads(os.environ["TF_CONFIG"])
        task = tf_config["task"]
        tf_config["cluster"][task["type"]][int(task["index"])]
    except (KeyError, IndexError, ValueError, TypeError) as error:
        raise UserError(
            "--distribute=multi_worker expects in the environment "
            'TF_CONFIG={"cluster": {"worker": ["host:port", ...]}, "task": {"type": "worker", "index": 0}}, '
            "the index of this process in that list"
        ) from error


def is_chief(strategy: tf.distribute.Strategy) -> bool:
    """Whether this process is the one that writes."""
    return strategy.extended.should_checkpoint


def agree(strategy: tf.distribute.Strategy, values: Mapping[str, float]) -> dict[str, float]:
    """The mean of the values over all replicas, the same in every process: what they decide by. Waits for all."""
    mean = strategy.run(
        lambda local: tf.distribute.get_replica_context().all_reduce(tf.distribute.ReduceOp.MEAN, local),
        args=(tf.constant(list(values.values()), tf.float64),),
    )
    return dict(zip(values, strategy.experimental_local_results(mean)[0].numpy().tolist()))
