"""Several devices, several cores: a `tf.distribute` strategy, the shares of a batch, and what processes agree on.

The batch is global. Every replica gets all of its frames (bytes), makes the random draws for all of them, as a single
device would, and goes on with its share: the losses are those of one device, whatever the number of replicas. The
cores of a CPU divide the share of a replica once more: two cores at one product as small as the network's wait for
each other, each at half of the batch they do not (`benchmarks.speed`).
"""

import contextlib
import json
import os
from collections.abc import Mapping
from pathlib import Path

import tensorflow as tf

from data_gen.workers import available_cores
from nem_tf.errors import UserError

JOBS = {"worker", "chief"}  # of a cluster that trains together
LONGEST_HOST = 253  # characters of a name
LEAST_SHARE = 8  # sequences: what is gained by not waiting is lost in products of fewer


def make_strategy(distribute: str, batch_size: int, shares: int) -> tf.distribute.Strategy:
    """Returns the strategy that --distribute names. Multi-worker: call it before any other use of TensorFlow.

    Arguments:
        distribute: "none", TensorFlow's default, one device; "mirrored", all GPUs of this host, or, without any, all
            logical CPUs; "multi_worker", all devices of all hosts in TF_CONFIG.
        batch_size: of all devices together.
        shares: parts of a device's batch, of `nr_shares`.

    Raises:
        UserError: TF_CONFIG is missing or not understood, or the batch does not divide into equal parts.
    """
    if distribute == "multi_worker":
        _check_tf_config()
        strategy = tf.distribute.MultiWorkerMirroredStrategy()
    elif distribute == "mirrored":
        devices = tf.config.list_logical_devices("GPU") or tf.config.list_logical_devices("CPU")
        strategy = tf.distribute.MirroredStrategy([device.name for device in devices])
    else:
        strategy = tf.distribute.get_strategy()
    tf.get_logger().addFilter(_is_of_use)
    replicas = strategy.num_replicas_in_sync
    if batch_size % replicas:
        raise UserError(
            f"--batch_size={batch_size} is the batch of all devices together: expected a multiple of the "
            f"{replicas} that --distribute={distribute} finds"
        )
    if batch_size % (replicas * shares):
        raise UserError(f"--shares={shares}: expected a divisor of a device's {batch_size // replicas} sequences")
    return strategy


def nr_shares(shares: int, distribute: str, batch_size: int) -> int:
    """Returns the parts of a replica's batch that the cores of its CPU compute side by side, 1 on a GPU.

    Arguments:
        shares: what the user asked for; 0 leaves it to this function.
        distribute, batch_size: as in `make_strategy`.
    """
    if shares:
        return shares
    if distribute != "none" or has_gpu():
        return 1
    most = min(available_cores(), batch_size // LEAST_SHARE)
    return next((n for n in range(most, 1, -1) if batch_size % n == 0), 1)


def use_cores(shares: int) -> None:
    """Divides the cores among the shares, where TensorFlow is not at work already: then it keeps to what it has."""
    with contextlib.suppress(RuntimeError):
        tf.config.threading.set_intra_op_parallelism_threads(max(1, available_cores() // shares))


def has_gpu() -> bool:
    return bool(tf.config.list_physical_devices("GPU"))


def check_gpus() -> None:
    """Refuses a GPU that adds up wrongly: under another CUDA than TensorFlow's, all it returns may be zeros.

    Raises:
        UserError: there is such a one.
    """
    for gpu in tf.config.list_logical_devices("GPU"):
        try:
            with tf.device(gpu.name):
                total = float(tf.reduce_sum(tf.ones([1000]) + 1.0))
        except tf.errors.OpError as error:
            total = error.message
        if total != 2000.0:
            raise UserError(
                f"{gpu.name} does not compute: 1,000 times 1 + 1 gives {total}. Expected the CUDA libraries that "
                f"TensorFlow {tf.__version__} was built with (pip install tensorflow[and-cuda])"
            )


def has_fast_bfloat16() -> bool:
    """Tells whether bfloat16 is multiplied faster than float32: by a GPU since Ampere, by a CPU whose flags say so.

    AMX does, and AVX-512 with bfloat16 of AMD; that of Intel does not (docs/measurements.md), nor does a CPU without
    such instructions. What cannot be known counts as no.
    """
    if gpus := tf.config.list_physical_devices("GPU"):
        details = [tf.config.experimental.get_device_details(gpu) for gpu in gpus]
        return all(each.get("compute_capability", (0, 0)) >= (8, 0) for each in details)
    try:
        words = Path("/proc/cpuinfo").read_text().split()
    except OSError:  # another system
        return False
    return "amx_bf16" in words or {"avx512_bf16", "AuthenticAMD"} <= {*words}


def use_xla(jit: str) -> bool:
    """Tells whether to compile with XLA: "on", "off", or "auto", on a GPU only.

    On a CPU it makes a loop around convolutions many times slower.
    """
    return jit == "on" or (jit == "auto" and has_gpu())


def keep_compiled(directory: str) -> None:
    """Has XLA keep what it compiles, and take what it finds there; call it before anything asks for the devices.

    Arguments:
        directory: where to; it is made. Nowhere if empty. Another TensorFlow has another place in it; another kind of
            device wants another directory.

    Raises:
        UserError: it cannot be made.
    """
    if not directory:
        return
    place = Path(directory).expanduser().absolute() / f"tensorflow-{tf.__version__}"
    try:
        place.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"cannot write to --compiled_dir={directory}: {error.strerror}") from error
    # TensorFlow reads them when it looks for devices; those of the user stay.
    flags = [*os.environ.get("TF_XLA_FLAGS", "").split(), f"--tf_xla_persistent_cache_directory={place}"]
    os.environ["TF_XLA_FLAGS"] = " ".join(flags)


def described(strategy: tf.distribute.Strategy, shares: int, precision: str, jit: str) -> str:
    """Returns one line on what computes: devices, precision, compilation."""
    kind = "GPU" if has_gpu() else "CPU"
    replicas = strategy.num_replicas_in_sync
    where = f"{replicas} {kind}s" if replicas > 1 else f"one {kind}"
    where += f", {available_cores()} cores, {shares} share{'s' * (shares > 1)} of a batch" if kind == "CPU" else ""
    compiled = "compiled by XLA" if use_xla(jit) else "not compiled by XLA"
    return f"{where}; {precision}; {compiled}; TensorFlow {tf.__version__}"


def _check_tf_config() -> None:
    """Refuses what TensorFlow would crash over, or wait for without end.

    Raises:
        UserError: TF_CONFIG is missing or not understood.
    """
    try:
        tf_config = json.loads(os.environ["TF_CONFIG"])
        cluster, task = dict(tf_config["cluster"]), tf_config["task"]
        addresses = [address for job in cluster.values() for address in job if isinstance(job, list)]
        understood = (
            {*cluster} <= JOBS
            and int(task["index"]) in range(len(cluster[task["type"]]))
            and all(map(_is_address, addresses))
            and len({*addresses}) == len(addresses) == sum(map(len, cluster.values()))
        )
        if not understood:
            raise ValueError
    except (KeyError, ValueError, TypeError, OverflowError, RecursionError) as error:
        raise UserError(
            "--distribute=multi_worker expects in the environment "
            'TF_CONFIG={"cluster": {"worker": ["host:port", ...]}, "task": {"type": "worker", "index": 0}}, '
            "the index of this process in that list"
        ) from error


def _is_address(address):
    host, _, port = address.rpartition(":") if isinstance(address, str) else ("", "", "")
    return 0 < len(host) <= LONGEST_HOST and port.isdecimal() and 0 < int(port) < 2**16


def is_chief(strategy: tf.distribute.Strategy) -> bool:
    """Tells whether this process is the one that writes."""
    return strategy.extended.should_checkpoint


def is_multi_worker(strategy: tf.distribute.Strategy) -> bool:
    return isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy)


def _is_of_use(record):
    """False for the advice to put into a graph what `agree` does eagerly, with a few numbers."""
    return "eagerly has significant overhead" not in record.getMessage()


def agree(strategy: tf.distribute.Strategy, values: Mapping[str, float]) -> dict[str, float]:
    """Returns the mean of the values over all replicas, the same in every process. Waits for all of them."""
    mean = strategy.run(
        lambda local: tf.distribute.get_replica_context().all_reduce(tf.distribute.ReduceOp.MEAN, local),
        args=(tf.constant(list(values.values()), tf.float64),),
    )
    return dict(zip(values, strategy.experimental_local_results(mean)[0].numpy().tolist()))


def part(strategy: tf.distribute.Strategy) -> None:
    """Waits until every process is here: one that ends while others still `agree` would be lost to them.

    Of those who meet, one may end before another has heard that it came, which loses nothing any more.
    """
    if is_multi_worker(strategy):
        with contextlib.suppress(tf.errors.OpError):
            agree(strategy, {"is done": 1.0})
