"""What is said about the T steps of an unrolled model: their weights in the loss, their number, where they roll out."""

import re
from collections.abc import Sequence
from typing import NamedTuple

ALIKE = ("all", "mean")  # step weights that are the same for all steps: each counts, or their mean


def step_weights(spec: str | Sequence[float], steps: int) -> list[float]:
    """Returns the weights of the T steps in the loss.

    Arguments:
        spec: "all" (1 each), "mean" (1/T each), "last" (0, .., 0, 1), or a list, as numbers or as comma-separated text.
            A list shorter than T leaves the first steps out: its last weight is that of the last step.
        steps: T.

    Raises:
        ValueError: text that is none of these, more weights than steps, a negative weight, or weights all 0.
    """
    if spec in ALIKE:
        return [1.0 if spec == "all" else 1 / steps] * steps
    weights = parse_step_weights(spec)
    if len(weights) > steps:
        raise ValueError(f"{len(weights)} step weights for {steps} steps: expected at most one per step")
    return [0.0] * (steps - len(weights)) + weights


def parse_step_weights(spec: str | Sequence[float]) -> list[float]:
    """Returns the weights of the last steps that a specification which is not in `ALIKE` names.

    Raises:
        ValueError: see `step_weights`.
    """
    expected = 'step weights are "all", "mean", "last" or comma-separated numbers, one per step'
    if isinstance(spec, str) and spec == "last":  # an array is equal to no text
        return [1.0]
    try:
        weights = [float(weight) for weight in (spec.split(",") if isinstance(spec, str) else spec)]
    except (TypeError, ValueError):
        raise ValueError(f"{expected}; received {spec!r}") from None
    if not weights or not all(0 <= weight < float("inf") for weight in weights) or sum(weights) == 0:
        raise ValueError(f"{expected}, finite, not negative, not all zero; received {spec!r}")
    return weights


FORMS = ("draw", "soft")  # of a roll-out


class Rollout(NamedTuple):
    """How a model goes on without frames.

    What it predicts from the last frame that it sees is the last prediction that is one; `imagined` says which steps
    come after it. Two forms:

        "draw"  The strongest prediction, `SpatialMixture.strongest`, takes the place of the target from the step of the
                last frame on, and a draw of it that of the input: what the model sees is a frame as the data have them.
        "soft"  That of R-NEM. The step of the last frame still has its true target, the next frame, which so comes in
                through gamma. Then the input is sum_k gamma_k psi_k, as grey as it is, and gamma is that of the E-step
                against the strongest prediction, of binary frames against where that is above 0.1. The losses of these
                steps are those of the responsibilities for the true next frame, as everywhere else; in "draw" they are
                those of the responsibilities that the model carries on.
    """

    last_seen: int  # number of the last frame that the model sees
    form: str = "draw"
    noise: bool = True  # whether there is noise, as ever, on the inputs that it imagines

    @property
    def seen(self) -> slice:
        """The steps whose prediction is made from a frame."""
        return slice(self.last_seen + 1)

    @property
    def imagined(self) -> slice:
        """The steps after them."""
        return slice(self.last_seen + 1, None)


class Stage(NamedTuple):
    """A part of a training in which sequences have one length."""

    start: int  # its first training step
    em_steps: int


def parse_curriculum(spec: str, em_steps: int) -> list[Stage]:
    """Returns the stages of a curriculum, at least one; the first starts at training step 0.

    Arguments:
        spec: EM steps, then for each further stage its EM steps, @ and the training step it starts at, as in
            "6,10@4000,20@8000"; empty for one stage of all EM steps.
        em_steps: EM steps of the whole sequences, which no stage may exceed.

    Raises:
        ValueError: text that is no curriculum, stages that do not rise, or too many EM steps.
    """
    parts = [re.fullmatch(r"([1-9]\d*)(?:@(\d+))?", part) for part in (spec or str(em_steps)).split(",")]
    if all(parts):
        stages = [Stage(int(part[2] or 0), int(part[1])) for part in parts]
        starts = [stage.start for stage in stages]
        longest = max(stage.em_steps for stage in stages)
        if starts[0] == 0 and starts == sorted(set(starts)) and longest <= em_steps:
            return stages
    raise ValueError(
        f"{spec!r} is no curriculum: expected EM steps, at most {em_steps}, then @ and the training step that each "
        "further stage starts at, e.g. 6,10@4000,20@8000; or nothing, --curriculum=, for whole sequences from the first"
    )


def stage_at(stages: Sequence[Stage], training_step: int) -> tuple[int, int | None]:
    """Returns the EM steps of a training step, and how many training steps its stage still has (None: no end)."""
    ends = [stage.start for stage in stages[1:]] + [None]
    em_steps, end = next((s.em_steps, end) for s, end in zip(stages, ends) if end is None or training_step < end)
    return em_steps, end and end - training_step
