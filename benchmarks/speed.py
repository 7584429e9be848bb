"""Speed of training, evaluation and serving, beside the textbook form and the machine's own limit: one table.

    python -m benchmarks.speed                                  # everything, about half an hour on two cores
    python -m benchmarks.speed --k=3 --batch_size=16 --json=speed.json

Every form runs in a process of its own, so that its peak memory is its own; the processes take turns round by round, so
that a noisy machine disturbs all alike. The textbook form is the same function with upsampling and convolution as two
layers, the first convolution as it is written and every product shared by all cores, TensorFlow's default, which
the SavedModel is served with too. Where PyTorch is installed (`pip install torch`), the same network in fifty lines of
it, `benchmarks/torch_rnn_em.py`, trains in turns with them, eager and compiled. Multiplications are those of the fast
form, three times for training; their rate is compared with that of matrix products of 2048 x 2048, one for each share
of the batch, in the same process and round. On a GPU training and evaluation are compiled as the programs compile
them, the products are of 8192 x 8192, and the memory is the device's.
"""

import importlib.util
import itertools
import json
import math
import multiprocessing
import os
import resource
import tempfile
import time
import warnings
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np
import tensorflow as tf
from absl import flags

from nem_tf import build, cli
from nem_tf.layers import UpsampleConv2D
from nem_tf.scoring.passes import make_scorer, sequence_seeds
from nem_tf.serving import export
from nem_tf.settings import Settings, resolve
from nem_tf.training import devices
from nem_tf.training.step import Adam, TrainStep

IMAGES = {"flying_shapes": (28, 28, 1), "flying_mnist": (24, 24, 1)}
DATASETS = {"flying_shapes": "flying_shapes", "flying_mnist": "flying_mnist_2"}
PRECISIONS = ("float32", "mixed_bfloat16")
TASKS = ("train", "evaluate", "serve")
FORMS = ("fast", "textbook", "served")
PEERS = ("eager", "compile")  # of PyTorch, if that is installed


def multiplications(cell) -> int:
    """Of one EM step of one component, forward."""
    total = math.prod(cell.core.cell.dense.kernel.shape)
    shape = (None, *cell.image_shape)
    for part, shape in ((cell.encoder, (None, *cell.image_shape)), (cell.decoder, (None, cell.units))):
        for layer in part.layers:
            before, shape = shape, layer.compute_output_shape(shape)
            if not hasattr(layer, "kernel"):
                continue
            size, positions = math.prod(layer.kernel.shape), math.prod(shape[1:-1])
            if isinstance(layer, UpsampleConv2D):
                size, positions = size // 16 * 36, math.prod(before[1:-1])
            total += size * positions
    return total


def training_step(settings: Settings, system, frames: np.ndarray, steps_per_call: int = 1):
    """The programs' training steps on the same frames again and again; calling it returns their losses."""
    optimizer = Adam(1e-3, epsilon=1e-8)
    optimizer.build(system.model.trainable_variables)
    step = TrainStep(system, optimizer, shares=build.shares_of(settings), jit=devices.use_xla(settings.execution.jit))
    frames = tf.repeat(tf.constant(frames)[None], steps_per_call, axis=0)
    seeds = tf.stack([tf.zeros(steps_per_call, tf.int32), tf.range(steps_per_call)], axis=1)
    return lambda: step(frames, seeds).terms.loss


def worker(pipe: Connection, form: str, network: str, k: int, batch_size: int, precision: str, nr_steps: int) -> None:
    """Sends facts and the names of tasks, then answers each name with the seconds of that task, until None comes."""
    chosen = {"dataset": DATASETS[network], "k": k, "precision": precision, "nr_steps": nr_steps}
    if form == "textbook":  # XLA refuses the gradient of Keras' upsampling inside a loop
        chosen |= {"network": f"benchmarks.textbook:{network}", "jit": "off"}
    settings = resolve({**chosen, "batch_size": batch_size, "shares": 0 if form == "fast" else 1})
    shares = build.shares_of(settings)
    devices.use_cores(shares)
    jit, gpus = devices.use_xla(settings.execution.jit), tf.config.list_logical_devices("GPU")
    model = build.build_model(settings, IMAGES[network])
    system = build.build_system(settings, model)
    shape = (batch_size, nr_steps + 1, *IMAGES[network])
    frames = (np.random.default_rng(0).random(shape) < 0.2).astype(np.float32)

    train = training_step(settings, system, frames)
    scorer, seeds = make_scorer(system, jit, shares=shares), sequence_seeds(0, 0, batch_size)
    size = 8192 if gpus else 2048
    matrices = tf.random.normal((shares, size, size))
    matrices = tf.unstack(tf.cast(matrices, tf.bfloat16 if precision == "mixed_bfloat16" else tf.float32))
    gemm = tf.function(lambda: tf.add_n([tf.matmul(a, a)[0, 0] for a in matrices]))
    tasks = {"train": train, "evaluate": lambda: scorer.step(frames, seeds)[0]["loss"][0, 0], "gemm": gemm}
    built = time.perf_counter()
    train().numpy()
    facts = {
        "multiplications": multiplications(model.cell) if form == "fast" else None,
        "shares": shares,
        "gemm_flop": 2 * size**3 * shares,
        "first_step_seconds": time.perf_counter() - built,
    }
    train().numpy()
    if gpus:
        facts["peak_gib"] = tf.config.experimental.get_memory_info("GPU:0")["peak"] / 2**30
    else:
        facts["peak_gib"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    with tempfile.TemporaryDirectory() as directory:
        if form == "served":
            export(model, system.alignment, Path(directory) / "model")
            served = tf.saved_model.load(Path(directory) / "model").signatures
            tasks = {"serve": lambda: served["serving_default"](frames=tf.constant(frames))["masks"][0, 0, 0, 0, 0]}
        for task in tasks.values():
            task().numpy()
        pipe.send({**facts, "tasks": list(tasks)})
        while name := pipe.recv():
            start = time.perf_counter()
            tasks[name]().numpy()
            pipe.send(time.perf_counter() - start)


def peer(pipe: Connection, mode: str, network: str, k: int, batch_size: int, precision: str, nr_steps: int) -> None:
    """What `worker` does, with PyTorch's training step as the one task; with none if that cannot be compiled here."""
    import torch  # which few have, and no process but this one may load

    from benchmarks import torch_rnn_em

    warnings.filterwarnings("ignore", message="Using padding='same' with even kernel")
    device = "cuda" if torch.cuda.is_available() else "cpu"
    model = torch_rnn_em.RNNEM(network, k, "nhwc").to(device)
    torch_rnn_em.compile_model(model, mode)
    frames = torch.rand(batch_size, nr_steps + 1, 1, model.size, model.size).lt(0.2).float().to(device)
    step = torch_rnn_em.training_step(model, frames, precision == "mixed_bfloat16", capturable=False)

    def train():
        step()
        torch.cuda.synchronize() if device == "cuda" else None

    try:
        train()
    except Exception as error:  # torch.compile without a C++ compiler, among others
        print(f"PyTorch, {mode}: {str(error).strip().splitlines()[0]:.100}")
        pipe.send({"tasks": []})
        return
    train()
    pipe.send({"tasks": ["train"]})
    while pipe.recv():
        start = time.perf_counter()
        train()
        pipe.send(time.perf_counter() - start)


def measure(network: str, k: int, batch_size: int, precision: str, nr_steps: int, rounds: int) -> dict:
    """Facts and seconds of all forms: {form: {fact: .., "seconds": {task: [of each round]}}}."""
    spawn = multiprocessing.get_context("spawn")
    pipes, results = {}, {}
    workers = dict.fromkeys(FORMS, worker) | dict.fromkeys(PEERS if importlib.util.find_spec("torch") else (), peer)
    for form, target in workers.items():  # one starts after the other, so that the first step is measured undisturbed
        pipes[form], theirs = spawn.Pipe()
        arguments = (theirs, form, network, k, batch_size, precision, nr_steps)
        spawn.Process(target=target, args=arguments, daemon=True).start()
        theirs.close()  # so that a worker's end is an error here and not a wait
        results[form] = pipes[form].recv()
        results[form]["seconds"] = {task: [] for task in results[form].pop("tasks")}
    for _ in range(rounds):
        for task in (*TASKS, "gemm"):
            for form, pipe in pipes.items():
                if task in results[form]["seconds"]:
                    pipe.send(task)
                    results[form]["seconds"][task].append(pipe.recv())
    for pipe in pipes.values():
        pipe.send(None)
    return results


def summary(result: dict, k: int, batch_size: int, nr_steps: int) -> dict:
    """The numbers of one line of the table."""
    fast, textbook = result["fast"], result["textbook"]
    seconds = {task: np.array(times) for task, times in (fast["seconds"] | result["served"]["seconds"]).items()}
    flops = 2 * fast["multiplications"] * k * batch_size * nr_steps
    gemm = fast["gemm_flop"] / seconds["gemm"]
    rates = {f"{task}_sequences_per_second": batch_size / np.median(seconds[task]) for task in TASKS}
    ratios = {
        form: np.array(each["seconds"]["train"]) / seconds["train"]
        for form, each in result.items()
        if form in ("textbook", *PEERS) and "train" in each["seconds"]
    }
    return {
        **rates,
        "train_gflop": 3 * flops / 1e9,
        "gemm_gflop_per_second": np.median(gemm) / 1e9,
        "fraction_of_gemm": np.median(3 * flops / seconds["train"] / gemm),
        "ratios": {form: np.quantile(each, [0.25, 0.5, 0.75]).tolist() for form, each in ratios.items()},
        **{name: fast[name] for name in ("shares", "peak_gib", "first_step_seconds")},
        "textbook_peak_gib": textbook["peak_gib"],
    }  # fmt: skip


HEADER = (
    f"{'network':<14}{'K':>2}{'B':>4} {'precision':<15}{'train':>8}{'eval':>8}{'serve':>8}{'GFLOP':>8}{'GEMM':>8}"
    f"{'of it':>7}{'textbook':>18}{'GiB':>6}{'theirs':>7}{'1st step':>9}" + "".join(f"{form:>18}" for form in PEERS)
)


def line(network: str, k: int, batch_size: int, precision: str, row: dict) -> str:
    """One line under `HEADER`: sequences/s three times, then training only."""
    ratios = {form: f"{median:.2f} ({low:.2f}-{high:.2f})" for form, (low, median, high) in row["ratios"].items()}
    rates = "".join(f"{row[f'{task}_sequences_per_second']:8.1f}" for task in TASKS)
    return (
        f"{network:<14}{k:>2}{batch_size:>4} {precision:<15}{rates}{row['train_gflop']:8.0f}"
        f"{row['gemm_gflop_per_second']:8.0f}{row['fraction_of_gemm']:7.2f}{ratios['textbook']:>18}{row['peak_gib']:6.1f}"
        f"{row['textbook_peak_gib']:7.1f}{row['first_step_seconds']:8.1f}s"
        + "".join(f"{ratios.get(form, '-'):>18}" for form in PEERS)
    )


def define(options: flags.FlagValues) -> None:
    """Defines the flags of this program."""
    this = {"module_name": cli.OWN_GROUP, "flag_values": options}
    flags.DEFINE_multi_enum("network", list(IMAGES), list(IMAGES), "Networks.", **this)
    flags.DEFINE_multi_integer("k", [3, 5], "Numbers of components.", lower_bound=1, **this)
    flags.DEFINE_multi_integer("batch_size", [16, 64], "Numbers of sequences in a step.", lower_bound=1, **this)
    flags.DEFINE_multi_enum("precision", list(PRECISIONS), list(PRECISIONS), "Precisions of the networks.", **this)
    flags.DEFINE_integer("nr_steps", 20, "Number of EM steps.", lower_bound=1, **this)
    flags.DEFINE_integer("rounds", 7, "Number of times everything is measured.", lower_bound=1, **this)
    cli.define_output(options, "json", "File for the numbers.")


def main(options: flags.FlagValues) -> None:
    rows = []
    print(f"{options.nr_steps} EM steps, {options.rounds} rounds, {os.cpu_count()} cores: medians, quartiles of ratios")
    print("sequences/s of training, evaluation, SavedModel; of a training step: GFLOP, GFLOP/s of a matrix product,")
    print(
        "fraction of it, time of the textbook form over ours, peak memory of both, seconds of the first step; time of"
    )
    print("PyTorch's training step over ours, if it is installed")
    print(HEADER, flush=True)
    for network, k, batch_size, precision in itertools.product(
        options.network, options.k, options.batch_size, options.precision
    ):
        result = measure(network, k, batch_size, precision, options.nr_steps, options.rounds)
        row = summary(result, k, batch_size, options.nr_steps)
        print(line(network, k, batch_size, precision, row), flush=True)
        rows.append({"network": network, "k": k, "batch_size": batch_size, "precision": precision, **row})
    if options.json:
        Path(options.json).write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    cli.run(main, define, "benchmarks.speed", __doc__)
