"""Several devices and several processes; see `test_step` for the step itself on two devices and in shares."""

import json
import logging
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import tensorflow as tf
from conftest import tiny, two_cpus
from run_files import checkpoint_names, kept_in, lines_of
from two_workers import PATIENCE, start_server, start_workers

from nem_tf import build
from nem_tf.errors import UserError
from nem_tf.settings import resolve
from nem_tf.training import devices

LOSSES = ("loss", "intra", "inter", "upper_bound", "loss_last")


def assert_same_losses(lines, expected, rtol=1e-3):
    for line, other in zip(lines, expected, strict=True):
        assert (line["epoch"], line["step"]) == (other["epoch"], other["step"])
        for part in ("train", "validation"):
            losses = [[each[part][name] for name in LOSSES] for each in (line, other)]
            np.testing.assert_allclose(*losses, rtol=rtol)
        assert line["validation"]["mbo"] == pytest.approx(other["validation"]["mbo"], abs=0.02)
        assert line["train"]["mbo"] == pytest.approx(other["train"]["mbo"], abs=0.02)  # of the masks of all devices


def squares_in(run_dir):
    """Adam's second moments, without what the number of steps says: the squares of the gradients."""
    kept = kept_in(run_dir, "latest")
    steps = kept["optimizer/_iterations"]
    slots = [name for name in kept if name.startswith("optimizer/_variables/")]
    squares = [np.sum(kept[f"optimizer/_variables/{number}"]) for number in range(2, len(slots) + 1, 2)]
    assert len(squares) > 6
    assert min(squares) > 0
    return np.array(squares) / (1 - 0.999**steps)


COMPILES = """
import sys
import tensorflow as tf
from nem_tf.training.devices import keep_compiled
keep_compiled(sys.argv[1])
tf.function(lambda x: x + 1, jit_compile=True)(tf.zeros(3))
"""


def test_xla_keeps_what_it_compiled(tmp_path):
    """In a process of its own: TensorFlow reads its flags once."""
    subprocess.run([sys.executable, "-c", COMPILES, str(tmp_path / "kept")], check=True, capture_output=True)
    (kept,) = (path for path in tmp_path.rglob("*") if path.is_file())
    assert kept.parent == tmp_path / "kept" / f"tensorflow-{tf.__version__}"
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=r"cannot write to --compiled_dir=.*: Not a directory"):
        devices.keep_compiled(str(tmp_path / "file" / "kept"))


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="forks")
def test_two_workers(tiny_data, tiny_run, tmp_path, monkeypatch):
    """One of two is killed, and later one of two is asked to stop: nothing is lost, and one of them writes."""
    places = [Path(__file__).parents[2], Path(__file__).parents[1], Path(__file__).parent]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(map(str, places)))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    run_dir = tmp_path / "run"
    settings = {**tiny(tiny_data, run_dir), "distribute": "multi_worker", "max_epochs": 10_000, "patience": 10_000}
    args = [f"--{name}={value}" for name, value in settings.items()]
    context = start_server()

    def wait_for(step, workers):
        deadline = time.monotonic() + PATIENCE
        while not any(int(name.split("-")[1]) >= step for name in checkpoint_names(run_dir)):
            assert time.monotonic() < deadline
            assert all(worker.process.is_alive() for worker in workers), [worker.end() for worker in workers]
            time.sleep(0.05)

    workers = start_workers(context, "killed", args, tmp_path)
    wait_for(4, workers)
    workers[1].process.kill()
    status, out, err = workers[0].end()
    assert status == 1
    assert "Traceback" not in err
    (sentence,) = [line for line in err.splitlines() if line.startswith("nem_tf.train: ")]
    assert "another worker was lost; start all of them again to resume from the last checkpoint" in sentence
    assert "Graph execution error" not in sentence  # TensorFlow's first line, which names no reason
    assert "training into" in out

    workers = start_workers(context, "asked", args, tmp_path)
    wait_for(12, workers)
    workers[1].process.terminate()
    (*chief, chief_said), (*other, other_said) = (worker.end() for worker in workers)
    assert [chief[0], other[0]] == [128 + signal.SIGTERM] * 2
    assert f"resuming from {run_dir}/latest/ckpt-" in chief[1]
    assert other[1] == ""
    step = int(kept_in(run_dir, "latest")["progress/step"])
    for said in (chief_said, other_said):
        assert said.endswith(f"nem_tf.train: interrupted at step {step}; the same command resumes from there\n")
    assert len(list(run_dir.glob("events.out.tfevents.*"))) == 2  # one of each start
    lines = lines_of(run_dir)
    assert [line["step"] for line in lines] == list(range(4, step + 1, 4))[: len(lines)]
    assert_same_losses(lines[:2], lines_of(tiny_run))
    assert squares_in(run_dir).sum() == pytest.approx(squares_in(tiny_run).sum(), rel=0.3)  # of other steps


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"batch_size": 64}, 4),
        ({"batch_size": 16}, 2),  # no share of fewer than 8
        ({"batch_size": 7}, 1),
        ({"batch_size": 33}, 3),
        ({"batch_size": 64, "distribute": "mirrored"}, 1),  # the devices may be cores themselves
        ({"batch_size": 64, "shares": 16}, 16),
    ],
)
def test_every_core_has_a_share(monkeypatch, settings, expected):
    monkeypatch.setattr(devices, "available_cores", lambda: 4)
    monkeypatch.setattr(devices, "has_gpu", lambda: False)
    assert build.shares_of(resolve(settings)) == expected
    monkeypatch.setattr(devices, "has_gpu", lambda: True)
    assert build.shares_of(resolve(settings)) == settings.get("shares", 1)


@pytest.mark.parametrize(
    ("processor", "expected"),
    [
        ("flags : fpu amx_bf16 amx_tile", True),
        ("vendor_id : AuthenticAMD\nflags : avx512_bf16", True),
        ("vendor_id : GenuineIntel\nflags : avx512_bf16", False),
        ("flags : avx2 avx512f", False),
        (None, False),
    ],
)
def test_a_processor_says_whether_it_multiplies_bfloat16(monkeypatch, processor, expected):
    def read_text(path):
        if processor is None:
            raise FileNotFoundError(path)
        return processor

    monkeypatch.setattr(devices.Path, "read_text", read_text)
    assert devices.has_fast_bfloat16() is expected


@pytest.mark.parametrize(("details", "expected"), [([(9, 0)], True), ([(9, 0), (7, 5)], False), ([None], False)])
def test_a_gpu_since_ampere_multiplies_bfloat16(monkeypatch, details, expected):
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind: details)
    answer = lambda gpu: {"compute_capability": gpu} if gpu else {}  # noqa: E731
    monkeypatch.setattr(tf.config.experimental, "get_device_details", answer)
    assert devices.has_fast_bfloat16() is expected


@pytest.mark.parametrize(("jit", "gpu", "expected"), [("on", False, True), ("auto", False, False), ("auto", True, True),
                                                      ("off", True, False)])  # fmt: skip
def test_xla_is_for_gpus_unless_asked_for(monkeypatch, jit, gpu, expected):
    monkeypatch.setattr(devices, "has_gpu", lambda: gpu)
    assert devices.use_xla(jit) == expected


def test_a_gpu_that_adds_up_wrongly_is_refused(monkeypatch):
    """Here a CPU in its place: of the kernels of a TensorFlow of another CUDA come zeros, or errors."""
    monkeypatch.setattr(tf.config, "list_logical_devices", lambda kind: tf.config.get_visible_devices("CPU")[:0])
    devices.check_gpus()
    cpu = SimpleNamespace(name="/device:CPU:0")
    monkeypatch.setattr(tf.config, "list_logical_devices", lambda kind: [cpu])
    devices.check_gpus()
    monkeypatch.setattr(tf, "reduce_sum", tf.zeros_like)
    monkeypatch.setattr(tf, "ones", lambda shape: tf.zeros([]))
    with pytest.raises(UserError, match=r"/device:CPU:0 does not compute: 1,000 times 1 . 1 gives 0.0"):
        devices.check_gpus()


def test_the_advice_on_what_runs_eagerly_is_left_out_and_no_other_warning():
    devices.make_strategy("none", 8, 1)
    sentences = "Using MirroredStrategy eagerly has significant overhead currently.", "out of memory"
    said = [logging.LogRecord("tensorflow", logging.WARNING, "", 0, each, None, None) for each in sentences]
    assert [bool(tf.get_logger().filter(record)) for record in said] == [False, True]


def cluster(index=0, **jobs):
    return json.dumps({"cluster": jobs, "task": {"type": "worker", "index": index}})


@pytest.mark.parametrize(
    "tf_config",
    [
        None, "{}", "no json", '{"cluster": {"worker": ["a:1"]}, "task": {"index": 0}}', 10_000 * "[",
        cluster(-1, worker=["a:1"]), cluster(1e400, worker=["a:1"]), cluster(worker=["a:-1"]), cluster(worker=["a"]),
        cluster(worker=["a:99999"]), cluster(worker=["a:1", "a:1"]), cluster(worker="a:1"), cluster(worker=[None]),
        cluster(worker=["a:1"], ps=["b:1"]), cluster(worker=["a:1"], chief="b:1"),
    ],
)  # fmt: skip
def test_a_bad_cluster_is_named(monkeypatch, tf_config):
    monkeypatch.delenv("TF_CONFIG", raising=False)
    if tf_config is not None:
        monkeypatch.setenv("TF_CONFIG", tf_config)
    with pytest.raises(UserError, match="TF_CONFIG"):
        devices.make_strategy("multi_worker", 8, 1)


def test_all_devices_of_this_host(monkeypatch):
    logical = {"GPU": [], "CPU": [tf.config.LogicalDevice(f"/device:CPU:{number}", "CPU") for number in range(2)]}
    asked, pair = [], two_cpus()
    monkeypatch.setattr(tf.config, "list_logical_devices", lambda kind: logical[kind])
    monkeypatch.setattr(tf.distribute, "MirroredStrategy", lambda names: asked.append(names) or pair)
    strategy = devices.make_strategy("mirrored", 8, 2)
    assert asked == [["/device:CPU:0", "/device:CPU:1"]]
    assert strategy.num_replicas_in_sync == 2
    assert devices.is_chief(strategy)
    assert not devices.is_multi_worker(strategy)
    assert devices.agree(strategy, {"a": 1.0, "b": float("inf")}) == {"a": 1.0, "b": float("inf")}
    line = devices.described(strategy, 2, "float32", "off")
    assert line.startswith("2 ")
    assert "float32; not compiled by XLA; TensorFlow" in line
    with pytest.raises(UserError, match=r"--batch_size=7 is the batch of all devices .* multiple of the 2 that"):
        devices.make_strategy("mirrored", 7, 1)
    with pytest.raises(UserError, match="--shares=3: expected a divisor of a device's 4 sequences"):
        devices.make_strategy("mirrored", 8, 3)
    with pytest.raises(UserError, match="--shares=3: expected a divisor of a device's 64 sequences"):
        devices.make_strategy("none", 64, 3)
