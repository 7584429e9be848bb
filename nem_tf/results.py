"""Collects evaluated runs into the paper's tables:  python -m nem_tf.results runs/*

--presets adds the shipped models, with the scores that are shipped beside them.
"""

import dataclasses
import os
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from absl import flags

from nem_tf import cli, experiments
from nem_tf.errors import UserError
from nem_tf.files import write_whole
from nem_tf.reading import read_text
from nem_tf.run import FLAGFILE
from nem_tf.scoring import figures, tables
from nem_tf.scoring.naming import experiment_key, training_key
from nem_tf.scoring.record import OtherVersionError, Record
from nem_tf.settings import Settings
from nem_tf.trained import CONFIG, SHIPPED, preset_names


def read_records(run_dirs: Iterable[Path]) -> list[Record]:
    """Reads the evaluations of the test split in some directories, each once even if a run was copied.

    It says on stderr what it leaves out.

    The `run_dir` of a record is where it was found: a run may have been moved since. Of what was found in several
    places, as a run and as the preset that was made of it, it is the first of them.

    Raises:
        UserError: a file is damaged or cannot be read.
    """
    records, known, places = [], {}, {}
    for run_dir in {os.path.realpath(path): path for path in run_dirs}.values():
        files = sorted(run_dir.glob("evaluation_test*.json"))
        # Of a shipped model, or by --output, evaluations lie in a directory of their own.
        if not files and not any((run_dir / name).exists() for name in (FLAGFILE, CONFIG)):
            print(f"{run_dir} is not a run directory, and holds no evaluations: left out", file=sys.stderr)
            continue
        older = []
        for path in files:
            try:
                record = Record.from_json(read_text(path))
                for settings in (record.trained, record.tested):
                    Settings.from_dict(settings)
            except OtherVersionError:
                older.append(path.name)
            except OSError as error:
                raise UserError(f"{path} cannot be read: {error.strerror or error}") from error
            except (ValueError, RecursionError, UserError) as error:
                raise UserError(f"{path} is not a file of nem_tf.evaluate: {error}") from error
            else:
                evaluation = experiment_key(record), training_key(record)
                if evaluation in known:
                    print(f"{path} is the evaluation {known[evaluation]} once more: left out", file=sys.stderr)
                else:
                    known[evaluation] = path
                    place = places.setdefault(training_key(record), str(run_dir))
                    records.append(dataclasses.replace(record, run_dir=place))
        again = f"python -m nem_tf.evaluate --{'run_dir' if (run_dir / FLAGFILE).exists() else 'preset'}={run_dir}"
        if older:
            anew = f": {again}" if any((run_dir / name).exists() for name in (FLAGFILE, CONFIG)) else ""
            print(f"{run_dir}: left out scores of another version ({', '.join(older)}){anew}", file=sys.stderr)
        elif not files:
            print(f"{run_dir} has no test scores: {again}", file=sys.stderr)
    return records


def write_results(records: Sequence[Record], output_dir: Path) -> str:
    """Writes results.md, and fig6.png and fig7.png where there are runs for them. Returns the Markdown.

    Raises:
        OSError: the directory or a file cannot be written.
    """
    output_dir.mkdir(parents=True, exist_ok=True)
    notes = tables.Notes()
    sections = [
        "# Results",
        "Means over runs of the test split, ± the standard deviation over them where there are several.",
    ]
    rows = tables.grouping_table(records, experiments.published, experiments.describe)
    if rows:
        sections += ["## Grouping", tables.GROUPING_NOTE, tables.markdown(tuple(tables.GROUPING_COLUMNS), rows, notes)]
    rows = tables.relational_table(
        records, experiments.relational_part, experiments.describe, experiments.relational_order
    )
    if rows:
        header = tuple(tables.RELATIONAL_COLUMNS)
        sections += ["## R-NEM: bouncing balls", tables.RELATIONAL_NOTE, tables.markdown(header, rows, notes)]
    losses = tables.cross_entropies(records, experiments.nr_objects)
    if losses:
        objects = sorted({n for by_objects in losses.values() for n in by_objects})
        bars = {
            notes.short(system): {n: tables.mean_and_std(values) for n, values in by.items()}
            for system, by in losses.items()
        }
        write_whole(output_dir / "fig6.png", figures.as_png(figures.next_step_prediction(bars)))
        sections += [
            "## Next-step prediction (paper, Fig. 6)",
            "Binomial cross entropy of the last step, summed over the pixels. The paper draws it without printing "
            "numbers.",
            tables.markdown(
                ["system", *(f"{n} objects" for n in objects)],
                [[system, *(tables.over_runs(by.get(n, ())) for n in objects)] for system, by in losses.items()],
                notes,
            ),
            "![Fig. 6](fig6.png)",
        ]
    curves = tables.longer_sequences(records)
    if curves:
        write_whole(output_dir / "fig7.png", figures.as_png(figures.score_over_time(curves)))
        sections += [
            "## Longer sequences (paper, Fig. 7)",
            "AMI after every step, with quartiles over the sequences.",
            "![Fig. 7](fig7.png)",
        ]
    if notes.listed():
        sections += [
            "## Settings",
            "What the numbers in the tables stand for: the settings that are not those of the paper's experiment.",
            notes.listed(),
        ]
    text = "\n\n".join(sections) + "\n"
    write_whole(output_dir / "results.md", text)
    return text


def define(options: flags.FlagValues) -> None:
    """Defines the flags of this program."""
    flags.DEFINE_string(
        "output_dir",
        "results",
        "Directory where results.md, fig6.png and fig7.png are written.",
        module_name=cli.OWN_GROUP,
        flag_values=options,
    )
    flags.DEFINE_boolean(
        "presets", False, "Add the shipped models.", module_name=cli.OWN_GROUP, flag_values=options
    )  # fmt: skip


def main(options: flags.FlagValues, *run_dirs: str) -> None:
    shipped = [SHIPPED / name for name in preset_names()] if options.presets else []
    directories = [*(Path(run_dir).expanduser() for run_dir in run_dirs), *shipped]
    if not directories:
        raise UserError("expected run directories, e.g. python -m nem_tf.results runs/*, or --presets")
    records = read_records(directories)
    if not records:
        many = len(directories)
        raise UserError(f"none of the {many} directories has test scores: run python -m nem_tf.evaluate first")
    for record in records:
        if "ami" not in record.scores:
            print(f"{record.run_dir}: its data have no labels, so that it has no row", file=sys.stderr)
    output_dir = Path(options.output_dir).expanduser()
    try:
        text = write_results(records, output_dir)
    except OSError as error:
        raise UserError(f"cannot write --output_dir={output_dir}: {error.strerror or error}") from error
    print(text)
    print(f"written to {output_dir}", file=sys.stderr)


if __name__ == "__main__":
    cli.run(main, define, "nem_tf.results", __doc__, positional="RUN_DIR")
