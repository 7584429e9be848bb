"""The learning rate over a training."""

import keras


@keras.saving.register_keras_serializable("nem_tf")
class HeldCosineDecay(keras.optimizers.schedules.CosineDecay):
    """A linear warm-up, a rate that stays, then a cosine.

    Arguments:
        hold_steps: training steps between warm-up and decay.
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


def learning_rate(
    peak: float, warmup_steps: int = 0, hold_steps: int = 0, decay_steps: int = 0
) -> keras.optimizers.schedules.LearningRateSchedule:
    """Returns a linear warm-up, the peak, then a cosine down to 1 % of it.

    A constant rate is a schedule too: as a number it would be a variable, and a checkpoint would bring back the old
    one where a run goes on with another.
    """
    warmup = {"warmup_target": peak, "warmup_steps": warmup_steps} if warmup_steps else {}
    return HeldCosineDecay(
        0.0 if warmup else peak,
        decay_steps=decay_steps or 1,
        alpha=0.01 if decay_steps else 1.0,
        hold_steps=hold_steps,
        **warmup,
    )
