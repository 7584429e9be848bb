"""Scores a trained model:  python -m nem_tf.evaluate --run_dir=runs/NAME [--dataset=D --k=K --nr_steps=T]

--preset=NAME takes a shipped model in place of a run. Settings that are not given are those it was trained with.
"""

import functools
from pathlib import Path

from absl import flags

from nem_tf import cli, datasets
from nem_tf.datasets import Task
from nem_tf.errors import UserError
from nem_tf.files import write_whole
from nem_tf.scoring.naming import file_stem, title
from nem_tf.scoring.record import Record
from nem_tf.settings import FIELDS, Settings, define_flags, given_flags
from nem_tf.trained import Trained


def define(options: flags.FlagValues) -> None:
    """Defines the flags of this program."""
    define_flags(options, [name for name, (_, field) in FIELDS.items() if field.metadata.get("at_test")])
    this = {"module_name": cli.OWN_GROUP, "flag_values": options}
    flags.DEFINE_enum("split", "test", tuple(datasets.SPLITS), "Split that is scored.", **this)
    flags.DEFINE_integer("initialisations", 1, "Draws of noise and initial gamma per sequence.", lower_bound=1, **this)
    cli.define_rollout(options)
    flags.DEFINE_boolean(
        "generalisation",
        False,
        "Test with other K, other numbers of objects, static and longer sequences; plot AMI over time.",
        **this,
    )
    cli.define_trained(options)
    cli.define_output(
        options, "output",
        "JSON file to write; by default evaluation_SPLIT[_WHAT_DIFFERS].json in RUN_DIR, or in results/PRESET.",
    )  # fmt: skip


def main(options: flags.FlagValues) -> None:
    trained = cli.given_trained(options)
    given = {name: value for name, value in given_flags(options).items() if name != "run_dir"}
    tested = trained.settings.for_test(**{"distribute": "none", **given})
    datasets.locate(tested.data.dataset, tested.paths.data_dir)
    cli.given_rollout(options, trained)
    for split, size in datasets.SPLITS.items():
        if split != options.split and options[size].present:
            raise UserError(f"--{size} is of another split: expected --{datasets.SPLITS[options.split]}")
    if options.generalisation:
        clash = [
            f"--{name}"
            for name in ("dataset", "k", "rollout_from", "rollout", "rollout_noise", "output")
            if options[name].present
        ]
        if clash:
            raise UserError(f"--generalisation chooses what to test on itself: leave out {', '.join(clash)}")
    with cli.quiet_start():
        from nem_tf import build
    strategy = build.build_strategy(tested)
    print(build.described(strategy, tested), flush=True)
    if not options.generalisation:
        _evaluate_and_write(options, trained, tested)
        return
    tasks = datasets.tests(Task(tested.data.dataset, tested.model.k, tested.data.nr_steps))
    records = [_evaluate_and_write(options, trained, tested.replace(**task._asdict())) for task in tasks]
    _draw_over_time(trained, options.split, records)


def _evaluate_and_write(options: flags.FlagValues, trained: Trained, tested: Settings) -> Record:
    """Scores the model, prints the table and writes the record."""
    from nem_tf.evaluation import evaluate
    from nem_tf.scoring.tables import table

    rollout = cli.given_rollout(options, trained)
    say = functools.partial(print, flush=True)
    record = evaluate(trained, tested, options.split, options.initialisations, rollout, say)
    output = Path(options.output) if options.output else trained.output_dir / f"{file_stem(record)}.json"
    try:
        if not options.output:
            output.parent.mkdir(parents=True, exist_ok=True)
        write_whole(output, record.to_json())
    except OSError as error:
        raise UserError(f"cannot write --output={output}: {error.strerror or error}") from error
    print(table(record), f"written to {output}", sep="\n", flush=True)
    return record


def _draw_over_time(trained: Trained, split: str, records: list[Record]) -> None:
    """Draws AMI over the steps of every record, as a PNG and in TensorBoard."""
    from nem_tf.scoring.figures import Curve, as_png, rendered, score_over_time
    from nem_tf.training.tensorboard import Summaries

    drawn = [record for record in records if "ami" in record.per_step]
    if not drawn:
        print("no labels, no AMI over time")
        return
    trained_steps = drawn[0].trained["data"]["nr_steps"]
    figure = score_over_time([Curve(title(record), record.per_step["ami"], trained_steps) for record in drawn])
    path = trained.output_dir / f"generalisation_{split}.png"
    write_whole(path, as_png(figure))
    if trained.is_run:
        summaries = Summaries(trained.directory)
        summaries.image(f"generalisation/{split}", rendered(figure), drawn[0].training["step"])
        summaries.close()
    print(f"AMI over time drawn to {path}")


if __name__ == "__main__":
    cli.run(main, define, "nem_tf.evaluate", __doc__, defaults=False)
