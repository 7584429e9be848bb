"""Scores a trained run:  python -m nem_tf.evaluate --run_dir=runs/NAME"""

import dataclasses
import json
from pathlib import Path

import numpy as np
from absl import flags
from tqdm import tqdm

from nem_tf import cli
from nem_tf.config import Config, define_flags, given_flags
from nem_tf.data import SPLITS, generate_missing, load_split
from nem_tf.errors import UserError
from nem_tf.losses import EMLoss, resolve_step_weights
from nem_tf.model import build_model
from nem_tf.noise import NOISES
from nem_tf.run_dir import read_image_shape, read_run, restore_weights, write_whole
from nem_tf.scoring import make_evaluation_step, per_sequence, score_batches, use_xla

FLAGS = flags.FLAGS
SETTINGS = ("run_dir", "data_dir", *SPLITS.values(), "batch_size", "seed")


def evaluate(config: Config, run_dir: Path, split_name: str, which: str) -> dict:
    """Scores every sequence of a split once.

    Arguments:
        config: that of the run, with the evaluation's own data, batch size and seed.
        run_dir: where the weights are.
        split_name: "training", "validation" or "test".
        which: "best" or "latest" checkpoint.

    Returns a JSON-serialisable dict: for each score its mean, std and quartiles over the sequences, and its mean at
    every step.
    """
    split = load_split(config, split_name)
    if split.image_shape != read_image_shape(run_dir):
        raise UserError(f"{run_dir} was trained on frames of {read_image_shape(run_dir)}, not {split.image_shape}")
    model = build_model(config, split.image_shape)
    checkpoint = restore_weights(run_dir, which, model=model)
    loss = EMLoss(model.cell.mixture, config.loss_inter_weight, config.loss_step_weights)
    step = make_evaluation_step(model, NOISES[config.noise](config.noise_prob), loss, use_xla(config))
    batches = split.batches(config.batch_size)
    with tqdm(total=len(batches), desc=split_name, unit="batch", disable=None, leave=False) as bar:
        scores = score_batches(step, batches, config.seed, bar.update)
    weights = np.array(resolve_step_weights(config.loss_step_weights, config.nr_steps))
    return {
        "run_dir": str(run_dir),
        "checkpoint": checkpoint,
        "split": split_name,
        "sequences": len(split),
        "settings": dataclasses.asdict(config),
        "scores": {name: _spread(values) for name, values in per_sequence(scores, weights).items()},
        "per_step": {name: np.nanmean(values, axis=0).tolist() for name, values in scores.items()},
    }


def table(result: dict) -> str:
    """The scores of `evaluate`, for a terminal."""
    lines = [f"{result['sequences']} {result['split']} sequences, {result['checkpoint']}",
             f"{'score':<16}{'mean':>10}{'std':>10}{'last step':>12}"]  # fmt: skip
    for name, spread in result["scores"].items():
        lines.append(f"{name:<16}{spread['mean']:>10.4f}{spread['std']:>10.4f}{result['per_step'][name][-1]:>12.4f}")
    return "\n".join([*lines, "ami: normalised by the maximum of the entropies, as in the paper"])


def _spread(values):
    low, median, high = np.nanquantile(values, [0.25, 0.5, 0.75])
    numbers = {"mean": np.nanmean(values), "std": np.nanstd(values), "q25": low, "median": median, "q75": high}
    return {name: float(value) for name, value in numbers.items()}


def main() -> None:
    run_dir, config = read_run(FLAGS.run_dir)
    config = dataclasses.replace(config, **given_flags(FLAGS))
    generate_missing(config)
    result = evaluate(config, run_dir, FLAGS.split, FLAGS.checkpoint)
    output = Path(FLAGS.output or run_dir / f"evaluation_{FLAGS.split}.json")
    try:
        write_whole(output, json.dumps(result, indent=2) + "\n")
    except OSError as error:
        raise UserError(f"cannot write --output={output}: {error.strerror or error}") from error
    print(table(result), f"written to {output}", sep="\n")


if __name__ == "__main__":
    define_flags(FLAGS, SETTINGS)
    this = {"module_name": cli.OWN_GROUP}
    flags.DEFINE_enum("split", "test", tuple(SPLITS), "What is scored.", **this)
    flags.DEFINE_enum("checkpoint", "best", ("best", "latest"), "By validation loss, or the last.", **this)
    flags.DEFINE_string("output", None, "JSON file to write (default RUN_DIR/evaluation_SPLIT.json).", **this)
    cli.run(main, "nem_tf.evaluate", __doc__)
