"""Collects evaluated runs into the paper's tables:  python -m nem_tf.results runs/*"""

import dataclasses
import json
import re
import sys
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from absl import flags

from nem_tf import cli
from nem_tf.config import FLAGFILE, RESUMABLE, Config, preset
from nem_tf.errors import UserError
from nem_tf.evaluation import special, title
from nem_tf.experiments import PUBLISHED, tested_on, trained_as
from nem_tf.figures import Curve, next_step_prediction, score_over_time
from nem_tf.run_dir import write_whole

FLAGS = flags.FLAGS
# Runs that differ in these alone are repetitions of one experiment.
REPEATED = RESUMABLE | {"seed", "init_from", "jit"}
AMI_COLUMNS = ("experiment", "tested on", "runs", "training steps", "AMI", "AMI, published", "AMI, last step", "ARI",
               "ARI of the video", "mBO")  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """One JSON file of `nem_tf.evaluate`."""

    trained: Config
    settings: Config
    result: Mapping[str, Any]

    @property
    def step(self) -> int:
        """Training steps of the checkpoint."""
        return int(self.result["checkpoint"].rpartition("-")[2])

    @property
    def group(self) -> tuple:
        """What repetitions have in common."""
        settings = [value for name, value in dataclasses.asdict(self.trained).items() if name not in REPEATED]
        return (*settings, bool(self.trained.init_from), title(self.result))

    @property
    def as_trained(self) -> bool:
        """Whether the test differs from the training in nothing but the split."""
        return tested_on(self.trained) == tested_on(self.settings) and not special(self.result)

    def score(self, name: str) -> float:
        return self.result["scores"][name]["mean"]


def read_evaluations(run_dirs: Iterable[Path]) -> list[Evaluation]:
    """The evaluations of the test split in some run directories; says on stderr what it leaves out.

    Raises:
        UserError: a damaged file.
    """
    evaluations = []
    for run_dir in run_dirs:
        files = sorted(run_dir.glob("evaluation_test*.json"))
        if not (run_dir / FLAGFILE).exists():
            print(f"{run_dir} is not a run directory: left out", file=sys.stderr)
        elif not files:
            print(f"{run_dir} has no test scores: python -m nem_tf.evaluate --run_dir={run_dir}", file=sys.stderr)
        for path in files:
            try:
                result = json.loads(path.read_text())
                evaluations.append(Evaluation(Config(**result["trained"]), Config(**result["settings"]), result))
            except (OSError, ValueError, KeyError, TypeError) as error:
                raise UserError(f"{path} is not a file of nem_tf.evaluate: {error!r}") from error
    return evaluations


def repetitions(evaluations: Iterable[Evaluation]) -> list[list[Evaluation]]:
    """Evaluations of one experiment together, sorted by data set, system and test."""
    groups = defaultdict(list)
    for evaluation in evaluations:
        groups[evaluation.group].append(evaluation)

    def order(group):
        return trained_as(group[0].trained), not group[0].as_trained, tested_on(group[0].settings)

    return sorted(groups.values(), key=order)


def grouping_table(evaluations: Iterable[Evaluation]) -> list[Sequence[str]]:
    """Rows of AMI_COLUMNS, one per experiment with more than one component."""
    rows = []
    for group in repetitions(evaluations):
        first = group[0]
        if first.settings.k == 1:
            continue
        published = PUBLISHED.get((trained_as(first.trained), tested_on(first.settings)))
        published = None if special(first.result) else published
        steps = sorted({evaluation.step for evaluation in group})
        last = [evaluation.result["per_step"]["ami"]["mean"][-1] for evaluation in group]
        rows.append(
            (
                _experiment(first.trained),
                title(first.result),
                str(len(group)),
                f"{steps[0]:,}" if len(steps) == 1 else f"{steps[0]:,} to {steps[-1]:,}",
                _over_runs([evaluation.score("ami") for evaluation in group]),
                f"{published.mean:.3f} ± {published.std:.3f}" if published else "",
                _over_runs(last),
                *(_over_runs([e.score(name) for e in group]) for name in ("ari", "ari_video", "mbo")),
            )
        )
    return rows


def cross_entropies(evaluations: Iterable[Evaluation]) -> dict[str, dict[int, list[float]]]:
    """Fig. 6: system -> number of objects -> cross entropy at the last step, a value per run.

    Of the runs on flying shapes tested as trained. For RNN-EM it is the upper bound of method section 5, for the
    autoencoder (K = 1) the cross entropy itself.
    """
    losses = defaultdict(lambda: defaultdict(list))
    for evaluation in evaluations:
        trained = evaluation.trained
        match = re.fullmatch(r"flying_shapes(?:_(\d+))?", trained.dataset)
        nr_objects = int(match[1] or 3) if match else 0
        if not evaluation.as_trained or trained.k not in (1, nr_objects) or not nr_objects:
            continue
        system = "recurrent autoencoder" if trained.k == 1 else "RNN-EM (upper bound)"
        task = "next step" if trained.target == "next_frame" else "denoising"
        losses[f"{system}, {task}"][nr_objects].append(evaluation.score("upper_bound"))
    return {system: dict(sorted(losses[system].items())) for system in sorted(losses)}


def longer_sequences(evaluations: Iterable[Evaluation]) -> list[Curve]:
    """Fig. 7: AMI over time of the longest test of every run that goes on after its trained length."""
    longest = {}
    for evaluation in evaluations:
        trained, tested = tested_on(evaluation.trained), tested_on(evaluation.settings)
        same_task = tested == trained._replace(nr_steps=tested.nr_steps) and evaluation.result["rollout_from"] is None
        best = longest.get(evaluation.result["run_dir"])
        if same_task and trained.k > 1 and tested.nr_steps > (best.settings if best else trained).nr_steps:
            longest[evaluation.result["run_dir"]] = evaluation
    return [
        Curve(f"{run_dir}\n{title(e.result)}", e.result["per_step"]["ami"], e.trained.nr_steps)
        for run_dir, e in longest.items()
    ]


def _experiment(config: Config) -> str:
    """The trained system, and in brackets the settings that are not the experiment's own."""
    own = dataclasses.replace(Config(), dataset=config.dataset, **preset(config.dataset))
    ignored = REPEATED | {"k", "network", "target", "test_size"}
    changed = [
        f"{name} {getattr(config, name)}"
        for name in dataclasses.asdict(config)
        if name not in ignored and getattr(config, name) != getattr(own, name)
    ]
    system = "N-EM" if config.network == "static_n_em" else "RNN-EM"
    staged = ", in stages" if config.init_from else ""
    return f"{config.dataset}, {system}, K {config.k}{staged}" + (f" ({', '.join(changed)})" if changed else "")


def _over_runs(values):
    spread = f" ± {np.std(values, ddof=1):.3f}" if len(values) > 1 else ""
    return f"{np.mean(values):.3f}{spread}"


def _markdown(header, rows):
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def write_results(evaluations: Sequence[Evaluation], output_dir: Path) -> str:
    """Writes results.md, and fig6.png and fig7.png where there are runs for them. Returns the Markdown."""
    sections = [
        "# Results",
        "Means over runs, ± the standard deviation over them where there are several. AMI is normalised by the "
        "maximum of the entropies, as in the paper; `published` is its mean ± standard deviation of five runs.",
    ]
    rows = grouping_table(evaluations)
    if rows:
        sections += ["## Grouping", _markdown(AMI_COLUMNS, rows)]
    losses = cross_entropies(evaluations)
    output_dir.mkdir(parents=True, exist_ok=True)
    if losses:
        objects = sorted({n for by_objects in losses.values() for n in by_objects})
        rows = [[system, *(_over_runs(by[n]) if n in by else "" for n in objects)] for system, by in losses.items()]
        sections += [
            "## Next-step prediction (paper, Fig. 6)",
            "Binomial cross entropy of the last step, summed over the pixels, test split. The paper draws it without "
            "printing numbers.",
            _markdown(["system", *(f"{n} objects" for n in objects)], rows),
            "![Fig. 6](fig6.png)",
        ]
        bars = {
            s: {n: (np.mean(v), np.std(v, ddof=1) if len(v) > 1 else np.nan) for n, v in by.items()}
            for s, by in losses.items()
        }
        next_step_prediction(bars).savefig(output_dir / "fig6.png")
    curves = longer_sequences(evaluations)
    if curves:
        score_over_time(curves).savefig(output_dir / "fig7.png")
        sections += [
            "## Longer sequences (paper, Fig. 7)",
            "AMI after every step, with quartiles.",
            "![Fig. 7](fig7.png)",
        ]
    text = "\n\n".join(sections) + "\n"
    write_whole(output_dir / "results.md", text)
    return text


def main(*run_dirs: str) -> None:
    if not run_dirs:
        raise UserError("expected run directories, e.g. python -m nem_tf.results runs/*")
    evaluations = read_evaluations(map(Path, run_dirs))
    if not evaluations:
        raise UserError(f"none of the {len(run_dirs)} directories has test scores: run python -m nem_tf.evaluate first")
    output_dir = Path(FLAGS.output_dir)
    try:
        print(write_results(evaluations, output_dir))
    except OSError as error:
        raise UserError(f"cannot write --output_dir={output_dir}: {error.strerror or error}") from error
    print(f"written to {output_dir}", file=sys.stderr)


if __name__ == "__main__":
    this = {"module_name": cli.OWN_GROUP}
    flags.DEFINE_string("output_dir", "results", "Where results.md, fig6.png and fig7.png are written.", **this)
    cli.run(main, "nem_tf.results", __doc__, positional="RUN_DIR")
