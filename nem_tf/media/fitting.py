"""From a file's frames to a model's and back: size, colour, transparency, values."""

import numpy as np
from PIL import Image

from data_gen.frames import composed, is_transparent
from nem_tf.errors import UserError

SIZES = ("fit", "crop", "pad")
NO_LABEL = 255  # of a pixel that the model did not see
LUMA = np.array([0.299, 0.587, 0.114], np.float32)  # of red, green and blue (ITU-R BT.601)
THRESHOLD = 0.5
VISIBLE = 2 / 255  # more than a codec's rounding makes of black, white and grey


class Fit:
    """Which part of a file's frame is which part of a model's.

    Arguments:
        how: "fit", the whole frame, its aspect may change; "crop", the largest central part of the model's aspect;
            "pad", the whole frame between black bars.
        size: (height, width) of the file's frames.
        model_size: (height, width) of the model's.

    Raises:
        ValueError: there is no such way.
    """

    def __init__(self, how: str, size: tuple[int, int], model_size: tuple[int, int]):
        if how not in SIZES:
            raise ValueError(f"expected one of {', '.join(SIZES)}; received {how!r}")
        self.size, self.model_size = size, model_size
        ratios = [whole / part for whole, part in zip(size, model_size)]
        source, target = size, model_size
        if how == "crop":
            source = [max(1, round(part * min(ratios))) for part in model_size]
        elif how == "pad":
            target = [max(1, round(whole / max(ratios))) for whole in size]
        self.source, self.target = _centred(source, size), _centred(target, model_size)

    def shrunk(self, pixels: np.ndarray) -> np.ndarray:
        """[H, W, C] of the file's size -> [h, w, C] of the model's; a pixel is the mean of what it covers."""
        part = pixels[self.source]
        size = tuple(side.stop - side.start for side in self.target)
        if part.shape[:2] != size:
            part = _resized(part, size)
        if size == self.model_size:
            return part
        out = np.zeros((*self.model_size, pixels.shape[-1]), pixels.dtype)
        out[self.target] = part
        return out

    def enlarged(self, values: np.ndarray, outside: np.ndarray | int) -> np.ndarray:
        """[h, w, ..] of the model's size -> [H, W, ..] of the file's, the nearest; `outside` what was not seen."""
        rows, columns = (
            target.start + (np.arange(source.stop - source.start) * 2 + 1) * (target.stop - target.start)
            // (2 * (source.stop - source.start))
            for source, target in zip(self.source, self.target)
        )  # fmt: skip
        part = values[rows][:, columns]
        if part.shape[:2] == self.size:
            return part
        out = np.empty((*self.size, *values.shape[2:]), values.dtype)
        out[:] = outside
        out[self.source] = part
        return out

    def note(self) -> str:
        """Returns what it does in words, "" if it does nothing."""
        source, target = (tuple(side.stop - side.start for side in part) for part in (self.source, self.target))
        is_part, is_resized, has_bars = source != self.size, target != source, target != self.model_size
        words = [f"the central {_size(source)} of {_size(self.size)}"] * is_part
        words += [
            f"resized to {_size(target)}" if is_part else f"resized {_size(source)} to {_size(target)}"
        ] * is_resized
        words += [f"with black bars to {_size(self.model_size)}"] * has_bars
        return " ".join(words)


def _centred(part, whole):
    starts = [(outer - inner) // 2 for inner, outer in zip(part, whole)]
    return tuple(slice(start, start + inner) for start, inner in zip(starts, part))


def _size(size):
    height, width = size
    return f"{width}x{height}"


def _resized(pixels, size):
    """[H, W, C] -> [*size, C] of the same dtype."""
    size = size[::-1]
    if pixels.dtype == np.uint8 and pixels.shape[-1] == 3:
        return np.asarray(Image.fromarray(np.ascontiguousarray(pixels)).resize(size, Image.Resampling.BOX))
    channels = [Image.fromarray(np.ascontiguousarray(channel)) for channel in np.moveaxis(pixels, -1, 0)]
    return np.stack([np.asarray(channel.resize(size, Image.Resampling.BOX)) for channel in channels], axis=-1)


class Converter:
    """Makes a model's frames of a file's, and notes what it does to them.

    Arguments:
        fit: how the sizes go together.
        channels: C of the model's frames.
        binary: whether they hold 0 and 1 only.
        background: float32 [h, w, channels], what the model sees the absolute difference from; by default nothing is
            subtracted.

    Attributes:
        notes: what was converted up to now, each once, in words.
    """

    def __init__(self, fit: Fit, channels: int, binary: bool, background: np.ndarray | None = None):
        self.fit, self.channels, self.binary, self.background = fit, channels, binary, background
        self.notes: list[str] = []

    def __call__(self, pixels: np.ndarray, name: str = "the file") -> np.ndarray:
        """Returns float32 [h, w, channels] in [0, 1] of uint8, or float32 in [0, 1], [H, W, C].

        Raises:
            UserError: C does not become the model's; the message begins with `name`.
        """
        own = pixels.shape[-1]
        if own != self.channels:
            if is_transparent(pixels):
                self._note("transparency over black")
            pixels = composed(pixels)
        self._note(self.fit.note())
        pixels = self.fit.shrunk(pixels)
        frame = np.float32(pixels) / np.float32(255) if pixels.dtype == np.uint8 else pixels
        if (frame.shape[-1], self.channels) == (3, 1):
            if np.ptp(frame, axis=-1).max() > VISIBLE:
                self._note("colour to grey")
            frame = (frame @ LUMA)[..., None]
        elif (frame.shape[-1], self.channels) == (1, 3):
            self._note("grey to colour")
            frame = frame.repeat(3, axis=-1)
        elif frame.shape[-1] != self.channels:
            raise UserError(f"{name} has {own} channels: expected {self.channels}, those of the model's frames")
        if self.background is not None:  # before the threshold, as in the videos of a training
            self._note("its background to black")
            frame = np.abs(frame - self.background)
        if self.binary:
            if np.minimum(frame, 1 - frame).max() > VISIBLE:
                self._note(f"threshold at {THRESHOLD} since the model is of binary frames: what is darker is black")
            frame = np.float32(frame >= THRESHOLD)
        return frame

    def _note(self, note):
        if note and note not in self.notes:
            self.notes.append(note)
