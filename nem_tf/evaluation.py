"""Scores of a trained run: on any data set of its image size, with any K, for any length."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from nem_tf.config import Config
from nem_tf.data import SPLITS, load_split
from nem_tf.distribution import nr_shares
from nem_tf.errors import UserError
from nem_tf.losses import resolve_step_weights
from nem_tf.model import build_model
from nem_tf.run_dir import read_image_shape, restore_weights
from nem_tf.scoring import build_setup, make_scorer, per_sequence, score_batches, use_xla


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
    scorer = make_scorer(build_setup(config, model), use_xla(config), rollout_from, nr_shares(config))
    batches = split.batches(config.batch_size)
    with tqdm(
        total=initialisations * len(batches),
        desc=f"{config.dataset} {split_name}",
        unit="batch",
        disable=None,
        leave=False,
    ) as bar:
        draws = [score_batches(scorer, batches, config.seed + i, bar.update) for i in range(initialisations)]
    weights = np.array(resolve_step_weights(config.loss_step_weights, config.nr_steps))
    reduced = [per_sequence(draw, weights) for draw in draws]
    return {
        "run_dir": str(run_dir),
        "checkpoint": checkpoint,
        "split": split_name,
        "sequences": len(split),
        "initialisations": initialisations,
        "rollout_from": rollout_from,
        "trained": dataclasses.asdict(trained),
        "settings": dataclasses.asdict(config),
        "scores": {name: _over_sequences(np.stack([draw[name] for draw in reduced])) for name in reduced[0]},
        "per_step": {name: _spread(np.concatenate([draw[name] for draw in draws])) for name in draws[0]},
    }


def special(result: Mapping[str, Any]) -> dict[str, Any]:
    """What makes an evaluation another one than the plain test of the run on that data set, K and number of steps."""
    trained, settings = result["trained"], result["settings"]
    names = ("noise_prob", "seed", SPLITS[result["split"]])
    found = {name: settings[name] for name in names if settings[name] != trained[name]}
    found |= {"initialisations": result["initialisations"]} if result["initialisations"] > 1 else {}
    found |= {"rollout_from": result["rollout_from"]} if result["rollout_from"] is not None else {}
    return found | ({"checkpoint": "latest"} if Path(result["checkpoint"]).parent.name == "latest" else {})


def file_stem(result: Mapping[str, Any]) -> str:
    """Name of the files of an evaluation: its split, and whatever differs from the run's own settings, so that no
    evaluation of a run takes the place of another one.
    """
    trained, settings = result["trained"], result["settings"]
    parts = ["evaluation", result["split"]]
    parts += [settings["dataset"]] if settings["dataset"] != trained["dataset"] else []
    parts += [f"{name}{settings[name]}" for name in ("k", "nr_steps") if settings[name] != trained[name]]
    return "_".join(parts + [f"{name}{value}" for name, value in special(result).items()])


def title(result: Mapping[str, Any]) -> str:
    """What was evaluated, in one line."""
    settings = result["settings"]
    parts = [settings["dataset"], f"K {settings['k']}", f"{settings['nr_steps']} steps"]
    return ", ".join(parts + [f"{name} {value}" for name, value in special(result).items()])


def table(result: Mapping[str, Any]) -> str:
    """The scores of `evaluate`, for a terminal."""
    lines = [
        f"{title(result)}: {result['sequences']} {result['split']} sequences, {result['checkpoint']}",
        f"{'score':<16}{'mean':>10}{'std':>10}{'q25':>10}{'median':>10}{'q75':>10}{'last step':>12}",
    ]
    for name, spread in result["scores"].items():
        numbers = [spread[key] for key in ("mean", "std", "q25", "median", "q75")]
        last = result["per_step"][name]["mean"][-1]
        lines.append(f"{name:<16}{''.join(f'{number:>10.4f}' for number in numbers)}{last:>12.4f}")
    per_step = result["per_step"]["ami"]["mean"]
    lines.append(f"ami of steps 1 to {len(per_step)}: {' '.join(f'{value:.2f}' for value in per_step)}")
    return "\n".join(lines)


def _over_sequences(values):
    """The spread of [initialisations, N], and that of the initialisations' means."""
    spread = _spread(values.ravel())
    if len(values) > 1:
        spread["initialisation_std"] = float(np.std(np.nanmean(values, axis=1), ddof=1))
    return spread


def _spread(values):
    """Mean, standard deviation and quartiles over the first axis, leaving out NaN; as JSON has numbers and lists."""
    low, median, high = np.nanquantile(values, [0.25, 0.5, 0.75], axis=0)
    mean, std = np.nanmean(values, axis=0), np.nanstd(values, axis=0)
    return {
        "mean": mean.tolist(),
        "std": std.tolist(),
        "q25": low.tolist(),
        "median": median.tolist(),
        "q75": high.tolist(),
    }
