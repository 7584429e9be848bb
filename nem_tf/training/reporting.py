"""What a training tells: metrics.jsonl, TensorBoard, the printed line, the progress bar."""

import json
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from tqdm import tqdm

from nem_tf.files import write_whole
from nem_tf.layers.system import Forward
from nem_tf.run import Run, append_line, read_lines
from nem_tf.scoring.doctor import Finding
from nem_tf.scoring.tables import fixed
from nem_tf.training.tensorboard import HYPERPARAMETERS, LAYOUT, Summaries, keep_events

TRAIN = "train/"  # what training steps report; all else is reported with a validation


class Reporter:
    """Reports of a run. Constructing it writes nothing.

    Arguments:
        run: its directory.
        settings: by name, for TensorBoard's HParams tab.
        pictured: makes the pass whose sequences are drawn after a validation; None draws nothing.
        examine: says what a validation's scores tell of the masks.
        silent: whether this process leaves all reporting to another one.
        columns: names of the settings that the table of the HParams tab has.
    """

    def __init__(
        self,
        run: Run,
        settings: Mapping[str, Any],
        pictured: Callable[[], Forward] | None = None,
        examine: Callable[[Mapping[str, float]], Sequence[Finding]] = lambda scores: (),
        silent: bool = False,
        columns: Sequence[str] = (),
    ):
        self._run, self._settings, self._columns = run, settings, columns
        self._pictured, self._examine, self._silent = pictured, examine, silent
        self._summaries: Summaries | None = None
        self._told: set[str] = set()  # findings whose sentence was printed: it is long

    def start(self, step: int, validated_step: int) -> None:
        """Takes up the reports of a run where its checkpoint stands, so that each step is reported once."""
        if self._silent:
            return
        lines = read_lines(self._run.metrics)
        kept = [line for line in lines if isinstance(line.get("step"), int) and line["step"] <= validated_step]
        if self._run.metrics.exists():
            write_whole(self._run.metrics, "".join(json.dumps(line) + "\n" for line in kept))
        tags = keep_events(self._run.path, lambda tag, at: at <= (step if tag.startswith(TRAIN) else validated_step))
        self._summaries = Summaries(self._run.path)
        if HYPERPARAMETERS not in tags:
            self._summaries.hyperparameters(self._settings, self._columns)
        if LAYOUT not in tags:
            self._summaries.layout()

    def say(self, line: str) -> None:
        """Prints a line."""
        if not self._silent:
            print(line, flush=True)

    def bar(self, title: str, total: int, initial: int = 0, unit: str = "seq") -> tqdm:
        """Returns a progress bar, drawn on terminals only."""
        off = True if self._silent else None  # None: tqdm's own choice
        return tqdm(desc=title, total=total, initial=initial, unit=unit, disable=off, leave=False)

    def trained(self, step: int, values: Mapping[str, float]) -> None:
        """Reports losses and scores of one training step."""
        if self._summaries:
            self._summaries.scalars("train", finite(values), step)

    def validated(self, line: Mapping[str, Any]) -> None:
        """Reports a validation, all of it on disk when this returns.

        Arguments:
            line: epoch, complete, step, train and validation (losses and scores), sequences_per_second, wall_time.
        """
        if not self._summaries:
            return
        step, scores = line["step"], line["validation"]
        findings = self._examine(scores)
        seen = {"doctor": [finding.name for finding in findings]} if findings else {}
        append_line(self._run.metrics, {**line, "train": _nulls(line["train"]), "validation": _nulls(scores), **seen})
        self._summaries.scalars("validation", finite(scores), step)
        self._summaries.scalars("speed", {"sequences_per_second": line["sequences_per_second"]}, step)
        if self._pictured:
            self._summaries.pictures(self._pictured(), step)
        if findings:
            self._summaries.text(
                "doctor/findings", "\n\n".join(f"**{each.name}**: {each.sentence}" for each in findings), step
            )
        self._summaries.flush()
        shown = {"AMI": "ami", "AMI of the last step": "ami_last", "ARI": "ari"}
        grouping = "".join(f"  {name} {fixed(scores[key], 3)}" for name, key in shown.items() if key in scores)
        self.say(
            f"epoch {line['epoch']}  step {step}  loss {line['train']['loss']:.2f}  validation loss "
            f"{scores['loss']:.2f}{grouping}  {line['sequences_per_second']:.1f} sequences/s  "
            f"{line['wall_time'] / 60:.1f} min"
        )
        for finding in findings:
            if finding.name not in self._told:
                self.say(f"  {finding.name}: {finding.sentence}")
        told = [finding.name for finding in findings if finding.name in self._told]
        if told:
            self.say(f"  still: {', '.join(told)}")
        self._told |= {finding.name for finding in findings}

    def close(self) -> None:
        if self._summaries:
            self._summaries.close()


def finite(values: Mapping[str, float]) -> dict[str, float]:
    """Returns the values without those that are NaN: scores of a batch without a labelled pixel."""
    return {name: value for name, value in values.items() if value is not None and math.isfinite(value)}


def _nulls(values):
    """For JSON, which has no NaN."""
    return {name: value if value is not None and math.isfinite(value) else None for name, value in values.items()}
