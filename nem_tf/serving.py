"""A model as a SavedModel, for whole sequences and frame by frame."""

from pathlib import Path

import keras
import tensorflow as tf

from nem_tf.alignment import Alignment
from nem_tf.errors import UserError
from nem_tf.files import whole_directory
from nem_tf.layers import RNNEM, State

TOLERANCE = 1e-3  # by which a value may lie outside [0, 1], as resizing leaves it
SEED = 0  # of initial responsibilities and noise where the caller names none: the same call gives the same masks


class Served:
    """The functions of a SavedModel; they need nothing of this package once exported.

    The components see the frames with the model's `noise`, the E-step sees them clean, as in training and evaluation.
    What is returned for frame t belongs to frame t. Of a model that predicts the next frame this is the prediction
    made from frame t - 1 and its E-step against frame t; frame 0 was not predicted by anyone: its masks are the random
    initial responsibilities, its prediction is the mean of the prior, its representation 0. Of a denoiser it is the
    reconstruction of frame t after it was seen, and its E-step. Frames are taken as they are: a model of binary frames
    wants 0 and 1. Values outside [0, 1], NaN among them, a k below the cell's `smallest_k`, and actions that are not
    finite or not one for each frame are an InvalidArgumentError that says so.

    Arguments:
        model: with weights; its cell's k is the K of the default signature.
        alignment: which frame a step predicts, the next one or the same.
    """

    def __init__(self, model: RNNEM, alignment: Alignment):
        self.model, self.cell, self.alignment = model, model.cell, alignment
        image = self.cell.image_shape
        state = [
            tf.TensorSpec([None, None, self.cell.units], tf.float32, "theta"),
            tf.TensorSpec([None, None, *image], tf.float32, "psi"),
            tf.TensorSpec([None, None, *image[:2], 1], tf.float32, "gamma"),
            _scalar("t"),
        ]
        frames = tf.TensorSpec([None, None, *image], tf.float32, "frames")
        actions, action = (
            [tf.TensorSpec([*lead, self.cell.nr_actions], tf.float32, "actions")] if self.cell.nr_actions else []
            for lead in ([None, None], [None])
        )
        self.signatures = {
            "serving_default": (self.default, [frames, *actions]),
            "with_k_and_seed": (self.sequence, [frames, _scalar("k"), _scalar("seed"), *actions]),
            "init": (self.init, [_scalar("batch_size"), _scalar("k")]),
            "step": (self.step, [tf.TensorSpec([None, *image], tf.float32, "frame"), *state, *action]),
        }

    def default(self, frames: tf.Tensor, actions: tf.Tensor | None = None) -> dict[str, tf.Tensor]:
        """`sequence` with the K of the model and a seed that is always the same."""
        return self.sequence(frames, self.cell.k, SEED, actions)

    def sequence(
        self, frames: tf.Tensor, k: tf.Tensor, seed: tf.Tensor, actions: tf.Tensor | None = None
    ) -> dict[str, tf.Tensor]:
        """A whole sequence from random responsibilities.

        Arguments:
            frames: float32 [B, T, H, W, C], any B and T >= 1.
            k, seed: int32 scalars.
            actions: float32 [B, T, A], of a model that takes actions.

        Returns masks [B, T, K, H, W], predictions [B, T, K, H, W, C] and representations [B, T, K, M]; of R-NEM also
        attention [B, T, K, K], how much each component looks at each other one from where it is in this frame.
        """
        frames, actions = _in_range(frames, "frames"), _fitting(actions, frames)
        initial = self.cell.get_initial_state(tf.shape(frames)[0], k=self._enough(k), seed=tf.stack([seed, 0]))
        states = self.model.sequence(frames, initial, self.alignment.lag, actions, seed)
        return {
            "masks": states["gamma"][..., 0],
            "predictions": states["predictions"],
            **self._of_theta(states["theta"], actions),
        }

    def init(self, batch_size: tf.Tensor, k: tf.Tensor, seed: int = SEED) -> dict[str, tf.Tensor]:
        """The state before the first frame: theta, psi, gamma and t = 0."""
        sizes = _at_least(1, batch_size, "batch_size"), self._enough(k)
        state = self.cell.get_initial_state(sizes[0], k=sizes[1], seed=tf.constant([seed, 0]))
        return {**state._asdict(), "t": tf.constant(0)}

    def step(
        self,
        frame: tf.Tensor,
        theta: tf.Tensor,
        psi: tf.Tensor,
        gamma: tf.Tensor,
        t: tf.Tensor,
        actions: tf.Tensor | None = None,
        seed: int = SEED,
    ) -> dict[str, tf.Tensor]:
        """One frame [B, H, W, C], its actions [B, A] if any: what `sequence` returns of it, and the next state."""
        frame, actions = _in_range(frame, "frame"), _fitting(actions, frame)
        sizes = tf.shape(frame)[0], tf.shape(theta)[0]
        frame = _checked(frame, tf.debugging.assert_equal(*sizes, "expected a frame and a state of as many sequences"))
        if self.alignment.lag > 0:  # the prediction of this frame was made from the one before
            gamma = tf.cond(t > 0, lambda: self.cell.e_step(frame, psi), lambda: gamma)
        seen = State(theta, psi, gamma)
        extra = {} if actions is None else {"actions": actions}
        noisy = self.model.seen(frame, t, seed)
        psi, theta = self.cell.m_step(gamma * (noisy[:, None] - psi), theta, **extra)
        if self.alignment.lag == 0:
            gamma = self.cell.e_step(frame, psi)
        after = State(theta, psi, gamma)
        shown = seen if self.alignment.lag > 0 else after
        outputs = {"masks": shown.gamma[..., 0], "predictions": shown.psi, **self._of_theta(shown.theta, actions)}
        return {**outputs, **after._asdict(), "t": t + 1}

    def _enough(self, k):
        return _at_least(self.cell.smallest_k, k, "k")

    def _of_theta(self, theta, actions):
        """The representations, and the attention of a model that has any."""
        attention = self.cell.attention(theta, actions)
        return {"representations": theta} | ({} if attention is None else {"attention": attention})


def export(model: RNNEM, alignment: Alignment, export_dir: str | Path) -> None:
    """Writes the SavedModel; the directory appears whole.

    Raises:
        UserError: the directory is there already, or cannot be written.
    """
    archive = keras.export.ExportArchive()
    archive.track(model)
    for name, (function, signature) in Served(model, alignment).signatures.items():
        archive.add_endpoint(name, function, input_signature=signature)
    try:
        with whole_directory(Path(export_dir)) as partial:
            archive.write_out(str(partial), verbose=False)
    except (OSError, tf.errors.OpError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UserError(f"cannot write --export_dir={export_dir}: {reason}") from error


def _in_range(frames, name):
    """The frames, once all of their values are found to be from 0 to 1."""
    any_there = tf.debugging.assert_positive(tf.size(frames), f"expected {name}, received none")
    in_range = tf.reduce_all((frames >= -TOLERANCE) & (frames <= 1 + TOLERANCE))  # not so of NaN
    found = tf.reduce_min(frames), "to", tf.reduce_max(frames)
    sentence = f"expected {name} of values from 0 to 1, received values from"
    return _checked(frames, any_there, tf.debugging.Assert(in_range, [sentence, *found]))


def _fitting(actions, frames):
    """The actions, if any, once they are found to be finite, and one for each image of the frames."""
    if actions is None:
        return None
    as_many = tf.reduce_all(tf.shape(actions)[:-1] == tf.shape(frames)[:-3])
    sentence = "expected an action with each frame, received actions and frames of shapes"
    one_each = tf.debugging.Assert(as_many, [sentence, tf.shape(actions), "and", tf.shape(frames)])
    finite = tf.debugging.Assert(tf.reduce_all(tf.math.is_finite(actions)), ["expected actions of finite numbers"])
    return _checked(actions, one_each, finite)


def _at_least(least, number, name):
    return _checked(number, tf.debugging.assert_greater_equal(number, least, f"expected {name} of at least {least}"))


def _checked(value, *checks):
    """The value, after the checks; an eager one that holds is None."""
    with tf.control_dependencies([check for check in checks if check is not None]):
        return tf.identity(value)


def _scalar(name):
    return tf.TensorSpec([], tf.int32, name)
