"""Scores a trained run:  python -m nem_tf.evaluate --run_dir=runs/NAME [--dataset=D --k=K --nr_steps=T]"""

import dataclasses
import json
from pathlib import Path
from typing import Any

from absl import flags

from nem_tf import cli
from nem_tf.config import Config, define_flags, given_flags
from nem_tf.data import SPLITS, generate_missing
from nem_tf.distribution import use_cores
from nem_tf.errors import UserError
from nem_tf.evaluation import evaluate, file_stem, table, title
from nem_tf.experiments import generalisations
from nem_tf.figures import Curve, rendered, score_over_time
from nem_tf.run_dir import read_run, write_whole
from nem_tf.summaries import Summaries

FLAGS = flags.FLAGS
SETTINGS = ("run_dir", "dataset", "data_dir", *SPLITS.values(), "noise_prob", "k", "nr_steps", "batch_size", "seed")


def _evaluate_and_write(run_dir: Path, trained: Config, config: Config) -> dict[str, Any]:
    """Scores the run, prints the table and writes the JSON file."""
    generate_missing(config, [FLAGS.split])
    result = evaluate(
        run_dir, trained, config, FLAGS.split, FLAGS.checkpoint, FLAGS.initialisations, FLAGS.rollout_from
    )
    output = Path(FLAGS.output or run_dir / f"{file_stem(result)}.json")
    try:
        write_whole(output, json.dumps(result, indent=1) + "\n")
    except OSError as error:
        raise UserError(f"cannot write --output={output}: {error.strerror or error}") from error
    print(table(result), f"written to {output}", sep="\n", flush=True)
    return result


def _draw_over_time(run_dir: Path, trained: Config, results: list[dict[str, Any]]) -> None:
    """AMI over the steps of every result, as a PNG and in TensorBoard."""
    figure = score_over_time([Curve(title(result), result["per_step"]["ami"], trained.nr_steps) for result in results])
    path = run_dir / f"generalisation_{FLAGS.split}.png"
    figure.savefig(path)
    summaries = Summaries(run_dir)
    step = int(results[0]["checkpoint"].rpartition("-")[2])
    summaries.image(f"generalisation/{FLAGS.split}", rendered(figure), step)
    summaries.flush()
    print(f"AMI over time drawn to {path}")


def main() -> None:
    run_dir, trained = read_run(FLAGS.run_dir)
    config = dataclasses.replace(trained, **given_flags(FLAGS))
    use_cores(config)
    if not FLAGS.generalisation:
        _evaluate_and_write(run_dir, trained, config)
        return
    clash = [f"--{name}" for name in ("dataset", "k", "rollout_from", "output") if FLAGS[name].present]
    if clash:
        raise UserError(f"--generalisation chooses what to test on itself: leave out {', '.join(clash)}")
    results = [
        _evaluate_and_write(run_dir, trained, dataclasses.replace(config, **test._asdict()))
        for test in generalisations(config)
    ]
    _draw_over_time(run_dir, trained, results)


if __name__ == "__main__":
    define_flags(FLAGS, SETTINGS)
    this = {"module_name": cli.OWN_GROUP}
    flags.DEFINE_enum("split", "test", tuple(SPLITS), "What is scored.", **this)
    flags.DEFINE_enum("checkpoint", "best", ("best", "latest"), "By validation loss, or the last.", **this)
    flags.DEFINE_integer("initialisations", 1, "Draws of noise and initial gamma per sequence.", lower_bound=1, **this)
    flags.DEFINE_integer(
        "rollout_from", None, "The last frame that the model sees; then it goes on from its own predictions.",
        lower_bound=0, **this,
    )  # fmt: skip
    flags.DEFINE_boolean(
        "generalisation",
        False,
        "Test with other K, other numbers of objects, static and longer sequences; plot.",
        **this,
    )
    cli.define_output("output", "JSON file to write (default RUN_DIR/evaluation_SPLIT[_WHAT_DIFFERS].json).")
    cli.run(main, "nem_tf.evaluate", __doc__)
