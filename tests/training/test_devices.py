"""Several devices: two logical CPUs in one process, two processes on this host and two shares, against one device."""

import dataclasses
import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from nem_tf.config import resolve
from nem_tf.distribution import make_strategy
from nem_tf.loop import Trainer
from nem_tf.model import build_model

from nem_tf import distribution
from nem_tf.data import Batch, load_split
from nem_tf.errors import UserError
from nem_tf.scoring import build_setup, forward, make_scorer, score_batches

TWO_CPUS = """
import runpy
import tensorflow as tf
cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
runpy.run_module("nem_tf.train", run_name="__main__", alter_sys=True)
"""
PATIENCE = 120  # seconds, against a hang


def start(settings, *program, tf_config=None, **changes):
    args = [f"--{name}={value}" for name, value in {**settings, **changes}.items()]
    environment = {**os.environ, "TF_CONFIG": json.dumps(tf_config)} if tf_config else os.environ
    return subprocess.Popen(
        [sys.executable, *(program or ("-m", "nem_tf.train")), *args],
        env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def start_workers(settings, **changes):
    """Two workers; a free port each."""
    with socket.socket() as first, socket.socket() as second:
        for free in (first, second):
            free.bind(("localhost", 0))
        addresses = [f"localhost:{free.getsockname()[1]}" for free in (first, second)]
    configs = [{"cluster": {"worker": addresses}, "task": {"type": "worker", "index": i}} for i in range(2)]
    return [start(settings, tf_config=c, distribute="multi_worker", **changes) for c in configs]


def finish(*processes):
    """Their outputs, once all have ended well."""
    outputs = [process.communicate(timeout=PATIENCE) for process in processes]
    assert [process.returncode for process in processes] == [0] * len(processes), outputs
    return [out for out, _ in outputs]


def metrics_of(directory):
    return [json.loads(line) for line in (Path(directory) / "metrics.jsonl").read_text().splitlines()]


def moment_norms(directory):
    """Norms of Adam's moments: losses alone do not tell, Adam makes the same step of gradients twice as large."""
    reader = tf.train.load_checkpoint(tf.train.latest_checkpoint(directory / "latest"))
    names = [name for name, shape in reader.get_variable_to_shape_map().items() if "optimizer/" in name and shape]
    assert len(names) > 50  # two for each weight, or three with its moving average
    return [np.linalg.norm(reader.get_tensor(name)) for name in sorted(names)]


@pytest.mark.slow
def test_losses_are_those_of_one_device_and_only_the_chief_writes(tiny_settings, tmp_path):
    settings = {**tiny_settings, "ema_momentum": 0.5}
    settings["clip_norm"] = 500.0  # below the first gradients: clipping must see the whole batch
    finish(start(settings, run_dir=tmp_path / "one"))
    finish(start(settings, "-c", TWO_CPUS, distribute="mirrored", run_dir=tmp_path / "two"))
    finish(start(settings, shares=2, run_dir=tmp_path / "shares"))
    outputs = finish(*start_workers(settings, run_dir=tmp_path / "workers"))
    assert "epoch 2" in outputs[0]
    assert outputs[1] == ""
    expected = metrics_of(tmp_path / "one")
    for run in ("two", "shares", "workers"):
        lines = metrics_of(tmp_path / run)
        assert [line["step"] for line in lines] == [line["step"] for line in expected] == [4, 8]
        for line, one in zip(lines, expected):
            for part in ("train", "validation"):
                losses = [[values[part][name] for name in ("loss", "intra", "upper_bound")] for values in (line, one)]
                np.testing.assert_allclose(*losses, rtol=1e-3)
        np.testing.assert_allclose(moment_norms(tmp_path / run), moment_norms(tmp_path / "one"), rtol=0.02)
        assert len(list((tmp_path / run).glob("events.out.tfevents.*"))) == 1


@pytest.mark.slow
def test_a_killed_worker_leaves_a_run_that_resumes(tiny_settings):
    directory = Path(tiny_settings["run_dir"])
    workers = start_workers(tiny_settings, max_epochs=10_000)
    try:
        deadline = time.monotonic() + PATIENCE
        while not (directory / "latest/checkpoint").exists() and time.monotonic() < deadline:
            time.sleep(0.2)
        workers[1].send_signal(signal.SIGKILL)
        _, error = workers[0].communicate(timeout=PATIENCE)
    finally:
        for worker in workers:
            worker.kill()
    assert workers[0].returncode != 0
    assert "Traceback" not in error
    assert "another worker was lost" in error
    assert "Graph execution error" not in error  # TensorFlow's first line, which names no reason
    done = int(tf.train.latest_checkpoint(directory / "latest").rpartition("-")[2])
    outputs = finish(*start_workers(tiny_settings, max_epochs=done // 4 + 1))
    assert f"resuming from {directory / 'latest' / 'ckpt-'}" in outputs[0]
    assert metrics_of(directory)[-1]["epoch"] == done // 4 + 1


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
    monkeypatch.setattr(distribution, "_nr_cores", lambda: 4)
    assert distribution.nr_shares(resolve(settings)) == expected


def test_scores_do_not_depend_on_the_shares(tiny_config, rng):
    setup = build_setup(tiny_config, build_model(tiny_config, (8, 8, 1)))
    frames, groups = (tf.constant(rng.integers(0, n, (5, 4, 8, 8)), tf.uint8) for n in (2, 4))
    batches = [Batch(frames[i : i + 4, ..., None], groups[i : i + 4]) for i in (0, 4)]  # one divides, one does not
    whole, shared = (score_batches(make_scorer(setup, False, shares=n), batches, seed=1) for n in (1, 2))
    for name in whole:
        np.testing.assert_allclose(shared[name], whole[name], rtol=1e-4, err_msg=name)


def test_the_gradient_of_the_shares_is_that_of_the_batch(tiny_config, tmp_path):
    """Neither the losses nor, where every gradient is clipped, Adam's moments would tell a gradient twice as large."""
    training = load_split(tiny_config, "training")
    frames, seeds = training.frames[None, :8], tf.constant([[0, 0]])
    norms = []
    for shares in (1, 2):
        config = dataclasses.replace(tiny_config, shares=shares, run_dir=str(tmp_path / str(shares)))
        norms.append(Trainer(config, training, training)._train_steps(frames, seeds).gradient_norm)
    np.testing.assert_allclose(*norms, rtol=1e-3)


def test_shares_of_a_batch_are_the_batch(tiny_config, rng):
    setup = build_setup(tiny_config, build_model(tiny_config, (8, 8, 1)))
    frames = tf.constant(rng.random((6, 4, 8, 8, 1)) < 0.3, tf.uint8)
    whole = forward(setup, frames, tf.constant([3, 4]))
    shares = [forward(setup, frames, tf.constant([3, 4]), share=(i, 3)) for i in range(3)]
    np.testing.assert_array_equal(tf.concat([share.noisy for share in shares], 0), whole.noisy)
    np.testing.assert_allclose(tf.concat([share.terms.loss for share in shares], 0), whole.terms.loss, rtol=1e-5)


def test_a_traced_share_has_a_known_size(tiny_config):
    setup = build_setup(tiny_config, build_model(tiny_config, (8, 8, 1)))
    frames = tf.zeros((6, 4, 8, 8, 1))
    share = tf.function(lambda i: forward(setup, frames, tf.constant([3, 4]), share=(i, 3)).noisy, autograph=False)
    traced = share.get_concrete_function(tf.TensorSpec((), tf.int32))
    assert traced.output_shapes == (2, 3, 8, 8, 1)


@pytest.mark.parametrize("tf_config", [None, "{}", "no json", '{"cluster": {"worker": ["a:1"]}, "task": {"index": 0}}'])
def test_a_bad_cluster_is_named(monkeypatch, tf_config):
    monkeypatch.delenv("TF_CONFIG", raising=False)
    if tf_config is not None:
        monkeypatch.setenv("TF_CONFIG", tf_config)
    with pytest.raises(UserError, match="TF_CONFIG"):
        make_strategy(resolve({"distribute": "multi_worker"}))


@pytest.mark.slow
def test_a_batch_that_does_not_divide_is_named(tiny_settings):
    process = start(tiny_settings, "-c", TWO_CPUS, distribute="mirrored", batch_size=7)
    _, error = process.communicate(timeout=PATIENCE)
    assert process.returncode == 1
    assert "--batch_size=7" in error
    assert "Traceback" not in error


def test_shares_that_do_not_divide_are_named():
    with pytest.raises(UserError, match="--shares=3: expected a divisor of a device's 64 sequences"):
        make_strategy(resolve({"shares": 3}))
