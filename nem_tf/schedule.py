"""What changes while a model is trained: the number of unrolled EM steps and the learning rate."""

import re
from typing import NamedTuple

import keras

from nem_tf.config import Config
from nem_tf.errors import UserError


class Stage(NamedTuple):
    """A part of a training."""

    start: int  # the first training step of it
    nr_steps: int  # EM steps of its sequences


def resolve_curriculum(config: Config) -> list[Stage]:
    """The stages of --curriculum, at least one; the first starts at 0.

    Raises:
        UserError: text that is no curriculum, stages that do not rise, or more EM steps than --nr_steps.
    """
    spec = config.curriculum or str(config.nr_steps)
    parts = [re.fullmatch(r"([1-9]\d*)(?:@(\d+))?", part) for part in spec.split(",")]
    if all(parts):
        stages = [Stage(int(part[2] or 0), int(part[1])) for part in parts]
        starts = [stage.start for stage in stages]
        longest = max(stage.nr_steps for stage in stages)
        if starts[0] == 0 and starts == sorted(set(starts)) and longest <= config.nr_steps:
            return stages
    raise UserError(
        f"--curriculum={spec}: expected EM steps, at most --nr_steps={config.nr_steps}, then @ and the training step "
        "that each further stage starts at, e.g. 6,10@4000,20@8000"
    )


def stage_at(stages: list[Stage], step: int) -> tuple[int, int | None]:
    """EM steps of a training step, and how many training steps the stage still has (None: no end)."""
    ends = [stage.start for stage in stages[1:]] + [None]
    nr_steps, end = next((stage.nr_steps, end) for stage, end in zip(stages, ends) if end is None or step < end)
    return nr_steps, end and end - step


@keras.saving.register_keras_serializable("nem_tf")
class HeldCosineDecay(keras.optimizers.schedules.CosineDecay):
    """A linear warm-up, a rate that stays, then a cosine.

    Arguments:
        hold_steps: between warm-up and decay.
        **kwargs: of `CosineDecay`; `warmup_steps` among them counts the warm-up alone.
    """

    def __init__(self, *args, hold_steps: int = 0, **kwargs):
        super().__init__(*args, **kwargs)
        self.hold_steps = hold_steps

    def __call__(self, step):
        step = keras.ops.cast(step, "float32")
        return super().__call__(step - keras.ops.clip(step - self.warmup_steps, 0, self.hold_steps))

    def get_config(self) -> dict:
        return {**super().get_config(), "hold_steps": self.hold_steps}


def learning_rate(config: Config) -> float | keras.optimizers.schedules.LearningRateSchedule:
    """Linear warm-up, the full rate, then a cosine down to 1 %; a number where none of it is asked for."""
    if not (config.warmup_steps or config.decay_steps):
        return config.learning_rate
    warmup = {"warmup_target": config.learning_rate, "warmup_steps": config.warmup_steps} if config.warmup_steps else {}
    return HeldCosineDecay(
        0.0 if warmup else config.learning_rate,
        decay_steps=config.decay_steps or 1,
        alpha=0.01 if config.decay_steps else 1.0,
        hold_steps=config.hold_steps,
        **warmup,
    )
