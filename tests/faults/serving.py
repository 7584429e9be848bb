"""The SavedModel under load and with what is no frame: the right answer or a sentence, never a silent wrong one."""

import concurrent.futures
from collections.abc import Iterator

import numpy as np
import tensorflow as tf

from nem_tf import build
from nem_tf.pretrained import from_preset
from nem_tf.serving import export

PRESET, STREAMS, FRAMES, AT_ONCE = "flying_shapes_k5", 64, 6, 1000


def served(directory, count: int, seed: int) -> Iterator[tuple[str, str, str]]:
    """Kind, case and what is wrong with it, "" if nothing.

    Arguments:
        directory: for the SavedModel.
        count: how many frames that are none are tried.
        seed: of the frames.
    """
    rng = np.random.default_rng([seed, 6])
    model, settings = from_preset(PRESET)
    export(model, build.alignment_of(settings), directory / "served")
    signatures = tf.saved_model.load(directory / "served").signatures
    image = model.cell.image_shape

    def init(batch, k):
        return signatures["init"](batch_size=tf.constant(batch), k=tf.constant(k))

    def follow(frames, state):
        """Masks [B, F, K, H, W] of frames [B, F, H, W, C]."""
        masks = []
        for frame in frames.swapaxes(0, 1):
            outputs = signatures["step"](frame=tf.constant(frame), **state)
            masks.append(outputs["masks"].numpy())
            state = {name: outputs[name] for name in state}
        return np.stack(masks, 1)

    def binary(*lead):
        return (rng.random((*lead, *image)) < 0.2).astype(np.float32)

    frames, state = binary(AT_ONCE, 3), init(AT_ONCE, 3)
    whole = follow(frames, state)
    for start in range(0, AT_ONCE, 100):
        part = {name: value if name == "t" else value[start : start + 100] for name, value in state.items()}
        close = np.allclose(follow(frames[start : start + 100], part), whole[start : start + 100], atol=1e-3)
        yield "1,000 sequences at once", f"{start} to {start + 99}", "" if close else "other masks than by themselves"

    streams = [(binary(1, FRAMES), init(1, 2 + number % 5)) for number in range(STREAMS)]
    alone = [follow(*stream) for stream in streams]
    with concurrent.futures.ThreadPoolExecutor(STREAMS) as pool:
        together = list(pool.map(lambda stream: follow(*stream), streams))
    for number, (one, other) in enumerate(zip(alone, together)):
        close = one.shape == other.shape and np.allclose(one, other, atol=1e-4)
        yield "64 concurrent streams", str(number), "" if close else "other masks than alone"

    for number in range(count):
        what, wrong = _no_frame(rng, binary(2, 3), number)
        try:
            given = tf.constant(wrong)
            if number % 2:
                signatures["step"](frame=given[:, 0], **init(2, 3))
            else:
                signatures["serving_default"](frames=given)
            outcome = "no complaint"
        except (tf.errors.InvalidArgumentError, TypeError, ValueError) as error:
            outcome = "" if str(error) else "an error without words"
        yield "no frame, to the SavedModel", what, outcome


def _no_frame(rng, frames, number):
    """What is wrong with it, and frames that are so: a value, a size or a dtype."""
    kind = number % 3
    if kind == 0:
        value = rng.choice([np.nan, np.inf, -np.inf, -1, 2, 255, 1e30, -0.1])
        frames[tuple(rng.integers(frames.shape))] = value
        # Also in the frame that `step` is given.
        frames[0, 0, 0, 0] = value
        return f"{value} in one pixel", frames
    if kind == 1:
        axis = int(rng.integers(2, 5))
        return f"axis {axis} of another size", np.concatenate([frames] * 2, axis)
    dtype = str(rng.choice(["uint8", "int32", "float64", "float16", "bool"]))
    return dtype, frames.astype(dtype)
