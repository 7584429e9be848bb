"""Exports a trained run as a SavedModel:  python -m nem_tf.export --run_dir=runs/NAME --export_dir=DIR"""

import os
import shutil
from pathlib import Path

import keras
import tensorflow as tf
from absl import flags

from nem_tf import cli
from nem_tf.config import define_flags
from nem_tf.errors import UserError
from nem_tf.model import RNNEM, build_model
from nem_tf.run_dir import read_image_shape, read_run, restore_weights

FLAGS = flags.FLAGS
SEED = 0  # of the initial responsibilities where the caller names none: the same call gives the same masks


class Served:
    """The functions of a SavedModel; they need nothing of this package once exported.

    No noise is added. Frame 0 was not predicted by anyone: its masks are the random initial responsibilities, its
    prediction and representation are 0. The masks of a later frame t are the E-step of the prediction made from
    frame t - 1 against frame t, as in training.

    Arguments:
        model: with weights; its cell's k is the K of the default signature.
    """

    def __init__(self, model: RNNEM):
        self.model, self.cell = model, model.cell
        image = self.cell.image_shape
        state = [
            tf.TensorSpec([None, None, self.cell.units], tf.float32, "theta"),
            tf.TensorSpec([None, None, *image], tf.float32, "psi"),
            tf.TensorSpec([None, None, *image[:2], 1], tf.float32, "gamma"),
            _scalar("t"),
        ]
        frames = tf.TensorSpec([None, None, *image], tf.float32, "frames")
        self.signatures = {
            "serving_default": (lambda frames: self.sequence(frames, self.cell.k, SEED), [frames]),
            "with_k_and_seed": (self.sequence, [frames, _scalar("k"), _scalar("seed")]),
            "init": (self.init, [_scalar("batch_size"), _scalar("k")]),
            "step": (self.step, [tf.TensorSpec([None, *image], tf.float32, "frame"), *state]),
        }

    def sequence(self, frames: tf.Tensor, k: tf.Tensor, seed: tf.Tensor) -> dict[str, tf.Tensor]:
        """A whole sequence from random responsibilities.

        Arguments:
            frames: float32 [B, T, H, W, C], any B and T >= 1.
            k, seed: int32 scalars.

        Returns masks [B, T, K, H, W], predictions [B, T, K, H, W, C] and representations [B, T, K, M].
        """
        initial = self.cell.get_initial_state(tf.shape(frames)[0], k=k, seed=tf.stack([seed, 0]))
        start = {"gamma": initial.gamma, "predictions": initial.psi, "theta": initial.theta}
        start = {name: value[:, None] for name, value in start.items()}  # T = 1

        def several_frames():
            outputs = self.model(frames[:, :-1], frames[:, 1:], initial_state=initial)
            return {name: tf.concat([value, outputs[name]], axis=1) for name, value in start.items()}

        # Keras' RNN looks at its first step even where there is none.
        states = tf.cond(tf.shape(frames)[1] > 1, several_frames, lambda: start)
        return {
            "masks": states["gamma"][..., 0],
            "predictions": states["predictions"],
            "representations": states["theta"],
        }

    def init(self, batch_size: tf.Tensor, k: tf.Tensor) -> dict[str, tf.Tensor]:
        """The state before the first frame: theta, psi, gamma and t = 0."""
        state = self.cell.get_initial_state(batch_size, k=k, seed=tf.constant([SEED, 0]))
        return {**state._asdict(), "t": tf.constant(0)}

    def step(
        self, frame: tf.Tensor, theta: tf.Tensor, psi: tf.Tensor, gamma: tf.Tensor, t: tf.Tensor
    ) -> dict[str, tf.Tensor]:
        """One frame [B, H, W, C]: its masks, predictions and representations, and the state for the next frame."""
        gamma = tf.cond(t > 0, lambda: self.cell.e_step(frame, psi), lambda: gamma)
        next_psi, next_theta = self.cell.m_step(gamma * (frame[:, None] - psi), theta)
        seen = {"masks": gamma[..., 0], "predictions": psi, "representations": theta}
        return {**seen, "theta": next_theta, "psi": next_psi, "gamma": gamma, "t": t + 1}


def export(model: RNNEM, export_dir: Path) -> None:
    """Writes the SavedModel; the directory appears whole.

    Raises:
        UserError: the directory is there already, or cannot be written.
    """
    if export_dir.exists():
        raise UserError(f"--export_dir={export_dir} exists: choose a new one")
    archive = keras.export.ExportArchive()
    archive.track(model)
    for name, (function, signature) in Served(model).signatures.items():
        archive.add_endpoint(name, function, input_signature=signature)
    partial = export_dir.with_name(f".{export_dir.name}.{os.getpid()}.partial")
    try:
        export_dir.parent.mkdir(parents=True, exist_ok=True)
        archive.write_out(str(partial), verbose=False)
        partial.rename(export_dir)
    except (OSError, tf.errors.OpError) as error:
        raise UserError(f"cannot write --export_dir={export_dir}: {error}") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _scalar(name):
    return tf.TensorSpec([], tf.int32, name)


def main() -> None:
    run_dir, config = read_run(FLAGS.run_dir)
    export_dir = Path(FLAGS.export_dir or run_dir / "saved_model")
    model = build_model(config, read_image_shape(run_dir))
    checkpoint = restore_weights(run_dir, FLAGS.checkpoint, model=model)
    export(model, export_dir)
    print(f"{checkpoint} exported to {export_dir}")


if __name__ == "__main__":
    define_flags(FLAGS, ["run_dir"])
    this = {"module_name": cli.OWN_GROUP}
    flags.DEFINE_string("export_dir", None, "New directory for the SavedModel (default RUN_DIR/saved_model).", **this)
    flags.DEFINE_enum("checkpoint", "best", ("best", "latest"), "By validation loss, or the last.", **this)
    cli.run(main, "nem_tf.export", __doc__)
