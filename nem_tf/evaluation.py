"""Scores of a trained run: on any data set of its image size, with any K, for any length."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from nem_tf.config import Config
from nem_tf.data import load_split
from nem_tf.errors import UserError
from nem_tf.losses import resolve_step_weights
from nem_tf.model import build_model
from nem_tf.run_dir import read_image_shape, restore_weights
from nem_tf.scoring import build_setup, make_evaluation, per_sequence, score_batches, use_xla


def evaluate(
    run_dir: Path,
    trained: Config,
    config: Config,
    split_name: str = "test",
    which: str = "best",
    initialisations: int = 1,
    rollout_from: int | None = None,
) -> dict[str, Any]:
    """Scores every sequence of a split once, or once per initialisation.

    Arguments:
        run_dir: where the weights are.
        trained: the configuration of the run.
        config: the same with the evaluation's own data set, K, number of steps, sizes, batch size and seed.
        split_name: "training", "validation" or "test".
        which: "best" or "latest" checkpoint.
        initialisations: draws of noise and initial responsibilities per sequence, from the seeds seed, seed + 1, ..
        rollout_from: the last frame that the model sees; from there it is fed its own predictions.

    Returns a JSON-serialisable dict: `scores` has for each score its mean, standard deviation and quartiles over the
    sequences, and with several initialisations the standard deviation of their means; `per_step` has mean and
    quartiles at every step.

    Raises:
        UserError: data, weights and settings do not fit together.
    """
    if rollout_from is not None and not (rollout_from < config.nr_steps and config.target == "next_frame"):
        raise UserError(
            f"--rollout_from={rollout_from} expects a run that predicts the next frame, and a frame before the last "
            f"of --nr_steps={config.nr_steps}; this run has --target={config.target}"
        )
    split = load_split(config, split_name)
    if split.image_shape != read_image_shape(run_dir):
        raise UserError(f"{run_dir} was trained on frames of {read_image_shape(run_dir)}, not {split.image_shape}")
    model = build_model(config, split.image_shape)
    checkpoint = restore_weights(run_dir, which, model=model)
    evaluation = make_evaluation(build_setup(config, model), use_xla(config), rollout_from=rollout_from)
    batches = split.batches(config.batch_size)
    with tqdm(
        total=initialisations * len(batches),
        desc=f"{config.dataset} {split_name}",
        unit="batch",
        disable=None,
        leave=False,
    ) as bar:
        draws = [score_batches(evaluation, batches, config.seed + i, bar.update) for i in range(initialisations)]
    scores = {name: np.stack([draw[name] for draw in draws]) for name in draws[0]}  # [initialisations, N, T]
    weights = np.array(resolve_step_weights(config.loss_step_weights, config.nr_steps))
    return {
        "run_dir": str(run_dir),
        "checkpoint": checkpoint,
        "split": split_name,
        "sequences": len(split),
        "initialisations": initialisations,
        "rollout_from": rollout_from,
        "trained": dataclasses.asdict(trained),
        "settings": dataclasses.asdict(config),
        "scores": _over_sequences(scores, weights),
        "per_step": {name: _per_step(values) for name, values in scores.items()},
    }


def file_stem(result: Mapping[str, Any]) -> str:
    """Name of the files of an evaluation: its split, and whatever differs from the run's own settings.

    Two evaluations in one directory never overwrite each other unless they ask the same.
    """
    trained, settings = result["trained"], result["settings"]
    parts = ["evaluation", result["split"]]
    parts += [settings["dataset"]] if settings["dataset"] != trained["dataset"] else []
    parts += [f"{name}{settings[name]}" for name in ("k", "nr_steps", "noise_prob") if settings[name] != trained[name]]
    parts += [f"rollout_from{result['rollout_from']}"] if result["rollout_from"] is not None else []
    parts += [f"initialisations{result['initialisations']}"] if result["initialisations"] > 1 else []
    return "_".join(parts)


def title(result: Mapping[str, Any]) -> str:
    """One line that says what was evaluated."""
    settings = result["settings"]
    text = f"{settings['dataset']}, K {settings['k']}, {settings['nr_steps']} steps"
    return text if result["rollout_from"] is None else f"{text}, seen up to frame {result['rollout_from']}"


def table(result: Mapping[str, Any]) -> str:
    """The scores of `evaluate`, for a terminal."""
    repeated = f" x {result['initialisations']} initialisations" if result["initialisations"] > 1 else ""
    lines = [
        f"{title(result)}: {result['sequences']} {result['split']} sequences{repeated}, {result['checkpoint']}",
        f"{'score':<16}{'mean':>10}{'std':>10}{'q25':>10}{'median':>10}{'q75':>10}{'last step':>12}",
    ]
    for name, spread in result["scores"].items():
        numbers = [spread[key] for key in ("mean", "std", "q25", "median", "q75")]
        last = result["per_step"][name]["mean"][-1]
        lines.append(f"{name:<16}{''.join(f'{number:>10.4f}' for number in numbers)}{last:>12.4f}")
    per_step = result["per_step"]["ami"]["mean"]
    lines.append(f"ami of steps 1 to {len(per_step)}: {' '.join(f'{value:.2f}' for value in per_step)}")
    return "\n".join(lines)


def _over_sequences(scores, weights):
    spreads = {}
    reduced = [
        per_sequence({name: values[i] for name, values in scores.items()}, weights)
        for i in range(len(next(iter(scores.values()))))
    ]
    for name in scores:
        values = np.stack([draw[name] for draw in reduced])  # [initialisations, N]
        spreads[name] = {name: float(value) for name, value in _spread(values.ravel()).items()}
        if len(values) > 1:
            spreads[name]["initialisation_std"] = float(np.std(np.nanmean(values, axis=1), ddof=1))
    return spreads


def _per_step(values):
    """From [initialisations, N, T]."""
    return {key: value.tolist() for key, value in _spread(values.reshape(-1, values.shape[-1])).items()}


def _spread(values):
    """Mean, standard deviation and quartiles over the first axis, leaving out NaN."""
    low, median, high = np.nanquantile(values, [0.25, 0.5, 0.75], axis=0)
    return {
        "mean": np.nanmean(values, axis=0),
        "std": np.nanstd(values, axis=0),
        "q25": low,
        "median": median,
        "q75": high,
    }
