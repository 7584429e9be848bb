"""One GPU in ten minutes: exactness, speed beside PyTorch, time of the first step, and what a short training gives.

    python -m benchmarks.gpu --json=gpu.json

1. Agreement: outputs, losses and gradients of known weights on the GPU beside those of the CPU, TF32 on and off.
2. Speed: the programs' training step (noise, EM steps, gradients, Adam) beside the best form of the same network in
   PyTorch, `benchmarks/torch_rnn_em.py`, if that is installed. Ours are compiled side by side, one process each, and
   then measured one after the other; the peer's follow. A round takes about a second.
3. Start: a process of its own from its start to the end of its first training step, with an empty --compiled_dir and
   again with what the first one left there.
4. Training: `flags/flying_shapes_fast.flags` for --minutes_of_training, AMI over the minutes.

Where time runs out (--minutes), lines are left out and said to be. Without a GPU it runs on the CPU, which shows that
it works; name smaller sizes then.
"""

import contextlib
import itertools
import json
import multiprocessing
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np
import tensorflow as tf
from absl import flags

from benchmarks.speed import training_step
from benchmarks.time_to_quality import read_epochs
from nem_tf import build, cli
from nem_tf.errors import UserError
from nem_tf.layers import EMLoss
from nem_tf.settings import resolve
from nem_tf.training import devices

IMAGE = (28, 28, 1)
STEPS_PER_CALL = 10  # of training, without coming back to Python
PEER = Path(__file__).with_name("torch_rnn_em.py")
PEER_MODES = {True: ("eager", "compile-step", "cudagraph-step", "cudagraph-eager"), False: ("eager",)}  # with a GPU
RECIPE = Path(__file__).parents[1] / "flags/flying_shapes_fast.flags"
SPAWN = multiprocessing.get_context("spawn")


def binary_frames(*shape: int) -> np.ndarray:
    return (np.random.default_rng(0).random(shape) < 0.2).astype(np.float32)


def forward(k: int, nr_steps: int, device: str) -> dict[str, np.ndarray]:
    """What known weights make of known frames on a device: predictions, responsibilities, loss terms, gradients."""
    with tf.device(device):
        model = build.build_model(resolve({"dataset": "flying_shapes", "k": k}), IMAGE)
        rng = np.random.default_rng(0)
        for variable in model.trainable_variables:
            size = 0.1 if len(variable.shape) == 1 else np.prod(variable.shape[:-1]) ** -0.5
            variable.assign(size * rng.standard_normal(variable.shape) + variable.path.endswith("gamma"))
        frames, loss = tf.constant(binary_frames(8, nr_steps + 1, *IMAGE)), EMLoss(model.cell.mixture)
        state = model.cell.get_initial_state(8, seed=tf.constant([0, 0]))

        def differentiate():
            with tf.GradientTape() as tape:
                outputs = model(frames[:, :-1], frames[:, 1:], initial_state=state)
                terms = loss.terms(outputs, frames[:, 1:])
                total = loss.total(terms)
            gradients = tape.gradient(total, model.trainable_variables)
            norms = tf.stack([tf.norm(gradient) for gradient in gradients])
            return {name: outputs[name] for name in ("predictions", "gamma")} | {"loss": terms.loss, "gradients": norms}

        compiled = tf.function(differentiate, jit_compile="GPU" in device, autograph=False)
        return {name: value.numpy() for name, value in compiled().items()}


def agreement(pipe: Connection, k: int, nr_steps: int) -> None:
    """Sends the largest errors relative to the largest value: {"TF32" or "float32": {name: error}}."""
    device = "/GPU:0" if devices.has_gpu() else "/CPU:0"
    expected = forward(k, nr_steps, "/CPU:0")
    errors = {}
    for name, allowed in (("TF32", True), ("float32", False)):
        tf.config.experimental.enable_tensor_float_32_execution(allowed)
        found = forward(k, nr_steps, device)
        errors[name] = {
            what: float(np.abs(found[what] - true).max() / np.abs(true).max()) for what, true in expected.items()
        }
    pipe.send(errors)


def ours(pipe: Connection, k: int, batch_size: int, precision: str, nr_steps: int, compiled_dir: str) -> None:
    """Sends the seconds of its first call, then answers every number with so many calls' seconds, until 0 comes."""
    settings = resolve({"dataset": "flying_shapes", "k": k, "batch_size": batch_size, "precision": precision,
                        "nr_steps": nr_steps, "compiled_dir": compiled_dir})  # fmt: skip
    build.build_strategy(settings)
    jit = devices.use_xla(settings.execution.jit)
    system = build.build_system(settings, build.build_model(settings, IMAGE, unroll=jit))
    step = training_step(settings, system, binary_frames(batch_size, nr_steps + 1, *IMAGE), STEPS_PER_CALL)

    def seconds(calls):
        start = time.perf_counter()
        for _ in range(calls):
            loss = step()
        loss.numpy()
        return time.perf_counter() - start

    pipe.send(seconds(1))
    seconds(1)
    while calls := pipe.recv():
        pipe.send(seconds(calls))


@contextlib.contextmanager
def process(target: Callable[..., None], *args: object) -> Iterator[Connection]:
    """Starts a process, and yields the pipe to it."""
    pipe, theirs = SPAWN.Pipe()
    worker = SPAWN.Process(target=target, args=(theirs, *args), daemon=True)
    worker.start()
    theirs.close()  # so that its end is an error here and not a wait
    try:
        yield pipe
    finally:
        worker.terminate()
        worker.join()


def measured(pipe: Connection, rounds: int) -> dict[str, object]:
    """Milliseconds of a training step: median and range of the rounds."""

    def seconds(calls):
        pipe.send(calls)
        return pipe.recv() / calls

    calls = max(1, round(1 / seconds(1)))
    taken = 1e3 / STEPS_PER_CALL * np.array([seconds(calls) for _ in range(rounds)])
    return {"ms": float(np.median(taken)), "ms_range": [float(taken.min()), float(taken.max())]}


def peer(k: int, batch_size: int, precision: str, nr_steps: int, rounds: int, seconds: float) -> list[dict]:
    """What the peer's modes take, those that got done in so many seconds; [] without PyTorch."""
    gpu = devices.has_gpu()
    layouts = ("nhwc", "nchw") if gpu else ("nhwc",)
    with tempfile.TemporaryDirectory() as directory:
        rows = Path(directory) / "rows.json"
        command = [sys.executable, str(PEER), "--bench", "--k", str(k), "--batch", str(batch_size), "--steps",
                   str(nr_steps), "--precision", precision.removeprefix("mixed_"), "--rounds", str(rounds), "--mode",
                   *PEER_MODES[gpu], "--layout", *layouts, "--json", str(rows)]  # fmt: skip
        with contextlib.suppress(subprocess.TimeoutExpired):
            subprocess.run(command, timeout=max(seconds, 1), capture_output=True, check=False)
        found = json.loads(rows.read_text()) if rows.exists() else []
    return [row for row in found if "ms" in row]


def row_of(mine: dict | None, theirs: Sequence[dict], batch_size: int) -> str:
    """The columns of the table after what is measured."""
    if mine is None:
        return "no time left"
    low, high = mine["ms_range"]
    text = f"{mine['ms']:9.1f} {f'{low:.1f}-{high:.1f}':<14}{1e3 * batch_size / mine['ms']:9.0f}{mine['first']:9.1f}"
    if not theirs:
        return f"{text}{'-':>10}"
    best = min(theirs, key=lambda row: row["ms"])
    return f"{text}{best['ms']:10.1f}{best['ms'] / mine['ms']:7.2f}  {best['mode']}, {best['layout']}"


def speed(configurations: Sequence[tuple[int, int, str]], nr_steps: int, rounds: int, deadline: float) -> list[dict]:
    """Prints the table; returns its rows."""
    rows = []
    print(f"{'K':>2}{'B':>5} {'precision':<15}{'ms/step':>9} {'range':<14}{'seq/s':>9}{'1st, s':>9}{'peer ms':>10}"
          f"{'ratio':>7}  its form", flush=True)  # fmt: skip
    side_by_side = max(1, min(len(configurations), (os.cpu_count() or 2) // 2)) if devices.has_gpu() else 1
    for first in range(0, len(configurations), side_by_side):
        some = configurations[first : first + side_by_side]
        with contextlib.ExitStack() as stack:
            pipes = [
                stack.enter_context(process(ours, *configuration, nr_steps, ""))
                for configuration in some
                if time.monotonic() < deadline
            ]
            for pipe, configuration in itertools.zip_longest(pipes, some):
                mine = None
                if pipe is not None and pipe.poll(max(deadline - time.monotonic(), 0)):
                    mine = {"first": pipe.recv(), **measured(pipe, rounds)}
                    pipe.send(0)
                left = deadline - time.monotonic()
                theirs = peer(*configuration, nr_steps, rounds, left) if mine and left > 0 else []
                k, batch_size, precision = configuration
                print(f"{k:>2}{batch_size:>5} {precision:<15}{row_of(mine, theirs, batch_size)}", flush=True)
                rows.append({"k": k, "batch_size": batch_size, "precision": precision, "ours": mine, "peer": theirs})
    return rows


def starts(configuration: tuple[int, int, str], nr_steps: int, deadline: float) -> list[float]:
    """Seconds from the start of a process to its first training step: first without anything compiled, then with it."""
    taken = []
    with tempfile.TemporaryDirectory() as directory:
        for _ in range(2):
            begun = time.perf_counter()
            with process(ours, *configuration, nr_steps, directory) as pipe:
                if not pipe.poll(max(deadline - time.monotonic(), 0)):
                    break
                pipe.recv()
                taken.append(time.perf_counter() - begun)
    return taken


def training(minutes: float, options: Sequence[str]) -> list[tuple[float, float, float]]:
    """Minutes, AMI as a mean over the steps and of the last step, after every epoch of the fast recipe."""
    with tempfile.TemporaryDirectory() as directory:
        where = [f"--data_dir={directory}/data", f"--run_dir={directory}/run"]
        program = [sys.executable, "-m", "nem_tf.train", f"--flagfile={RECIPE}", *options, *where]
        # Once for the data.
        subprocess.run([*program, "--max_steps=1", f"--run_dir={directory}/none"], check=True, capture_output=True)
        with subprocess.Popen(program, stdout=subprocess.DEVNULL) as running:
            try:
                running.wait(60 * minutes)
            except subprocess.TimeoutExpired:
                running.send_signal(signal.SIGTERM)
        try:
            curves = [read_epochs(Path(directory) / "run", score) for score in ("ami", "ami_last")]
        except UserError:  # not one epoch
            return []
    return [(mean.minutes, mean.ami, last.ami) for mean, last in zip(*curves, strict=True)]


def define(options: flags.FlagValues) -> None:
    """Defines the flags of this program."""
    this = {"module_name": cli.OWN_GROUP, "flag_values": options}
    precisions = ["mixed_bfloat16", "float32"]
    flags.DEFINE_multi_integer("k", [3, 5], "Numbers of components.", lower_bound=1, **this)
    flags.DEFINE_multi_integer("batch_size", [64, 256], "Numbers of sequences in a step.", lower_bound=1, **this)
    flags.DEFINE_multi_enum("precision", precisions, precisions, "Precisions of the networks.", **this)
    flags.DEFINE_integer("nr_steps", 20, "Number of EM steps.", lower_bound=1, **this)
    flags.DEFINE_integer("rounds", 5, "Number of times everything is measured.", lower_bound=1, **this)
    flags.DEFINE_float("minutes", 10.0, "Minutes for all of it.", lower_bound=0.1, **this)
    flags.DEFINE_float("minutes_of_training", 5.0, "Minutes of them for the training.", lower_bound=0.0, **this)
    flags.DEFINE_multi_string("training", [], "Further options of the training, e.g. --batch_size=64.", **this)
    cli.define_output(options, "json", "File for the numbers.")


def main(options: flags.FlagValues) -> None:
    deadline = time.monotonic() + 60 * (options.minutes - options.minutes_of_training)
    os.environ.setdefault("TF_FORCE_GPU_ALLOW_GROWTH", "true")  # several processes share the GPU
    details = [tf.config.experimental.get_device_details(gpu) for gpu in tf.config.list_physical_devices("GPU")]
    name = details[0].get("device_name", "a GPU") if details else f"no GPU, {os.cpu_count()} cores of a CPU"
    print(f"{name}; TensorFlow {tf.__version__}; flying shapes, {options.nr_steps} EM steps, {options.rounds} rounds")

    print("\nlargest errors beside the CPU, relative to the largest value")
    with process(agreement, options.k[0], options.nr_steps) as pipe:
        errors = pipe.recv()
    for mode, each in errors.items():
        print(f"{mode:<9}" + ", ".join(f"{what} {error:.1e}" for what, error in each.items()), flush=True)

    print("\ntraining steps beside PyTorch's; ratio = the peer's best form over ours")
    # What is asked for first is measured first: small batches of both precisions.
    configurations = list(itertools.product(options.k, options.batch_size, options.precision))
    started = starts(configurations[0], options.nr_steps, deadline)
    rows = speed(configurations, options.nr_steps, options.rounds, deadline)

    print("\nfrom the start of a process to its first training step, and again with what XLA kept")
    print(", ".join(f"{seconds:.1f} s" for seconds in started) or "no time left", flush=True)

    epochs = training(options.minutes_of_training, options.training) if options.minutes_of_training else []
    if options.minutes_of_training:
        print(f"\n{options.minutes_of_training:g} minutes of {RECIPE.name}: AMI of 1,000 sequences, mean and last step")
        for minutes, ami, ami_last in epochs:
            print(f"{minutes:6.1f} min{ami:8.3f}{ami_last:8.3f}")
        print("" if epochs else "not one epoch", flush=True)
    if options.json:
        found = {"device": name, "errors": errors, "rows": rows, "starts": started, "training": epochs}
        Path(options.json).write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    cli.run(main, define, "benchmarks.gpu", __doc__)
