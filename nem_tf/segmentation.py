"""The model side of `nem_tf.segment`: masks of frames as they come, overlays, the picture of the components."""

import contextlib
import errno
import itertools
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np
import tensorflow as tf
from PIL import Image
from tqdm import tqdm

from data_gen.frames import ANIMATIONS, VIDEOS, Clip, composed
from data_gen.from_files import MEDIAN_OF
from data_gen.signals import ended_later
from nem_tf import media
from nem_tf.drawing import FRAME, TILE, component_colours, enlarged, explained, framed, labelled, rgb
from nem_tf.errors import UserError
from nem_tf.files import partial_of
from nem_tf.layers import BernoulliMixture
from nem_tf.scoring import doctor
from nem_tf.scoring.doctor import Finding, Symptoms
from nem_tf.serving import Served

CHUNK, CHUNK_PIXELS = 16, 2**24  # frames, and pixels of them, that are held at once
TINT = 0.7  # how much of an overlay is the colour of a component that explains a pixel alone
COLUMNS = 8  # frames that the picture of the components shows, beside the last one
WITHIN_A_FRAME = ("certainty", "components", "idle")  # symptoms of single frames
FULL_DISK = (errno.ENOSPC, errno.EDQUOT)


class Seen(NamedTuple):
    """What a model makes of n frames."""

    labels: np.ndarray  # uint8 [n, H, W], the component that explains a pixel best
    gamma: np.ndarray  # float32 [n, K, H, W], responsibilities
    psi: np.ndarray  # float32 [n, K, H, W, C], predictions


class Watcher:
    """A model that sees a sequence a few frames at a time; see `Served` for what belongs to which frame.

    Arguments:
        served: the model.
        k: number of components.
        seed: of the initial responsibilities and the noise.
    """

    def __init__(self, served: Served, k: int, seed: int = 0):
        self.served, self.k, self._seed = served, k, seed
        self._steps = self._traced()
        self.restart()

    def restart(self) -> None:
        """Forgets what it saw."""
        self._state = self.served.init(1, self.k, self._seed)

    def __call__(self, frames: np.ndarray) -> Seen:
        """Looks at the next frames, float32 [n, H, W, C] in [0, 1]."""
        (masks, psi), self._state = self._steps(tf.constant(frames), self._state)
        gamma = masks.numpy()
        return Seen(gamma.argmax(axis=1).astype(np.uint8), gamma, psi.numpy())

    def _traced(self):
        def steps(frames, state):
            def step(carried, frame):
                outputs = self.served.step(frame[None], **carried[1], seed=self._seed)
                return (outputs["masks"], outputs["predictions"]), {name: outputs[name] for name in carried[1]}

            start = (state["gamma"][..., 0], state["psi"]), state
            shown, states = tf.scan(step, frames, initializer=start)  # [n, 1, K, ..] each
            return [each[:, 0] for each in shown], {name: each[-1] for name, each in states.items()}

        image = self.served.cell.image_shape
        shapes = {"theta": (self.served.cell.units,), "psi": image, "gamma": (*image[:2], 1)}
        state = {name: tf.TensorSpec([1, self.k, *shape], tf.float32) for name, shape in shapes.items()}
        signature = [tf.TensorSpec([None, *image], tf.float32), {**state, "t": tf.TensorSpec([], tf.int32)}]
        function = tf.function(steps, input_signature=signature, autograph=False)
        function.get_concrete_function()  # not at the first frame, whose time is taken
        return function


class Spread:
    """Keeps some items of a stream of unknown length: at most n, evenly spread from the first on, and the last.

    Arguments:
        n: how many; even.
    """

    def __init__(self, n: int):
        self._n, self._stride, self._count, self._kept, self._last = n, 1, 0, {}, {}

    def add(self, item: object) -> None:
        """Takes the next item."""
        if self._count == self._n * self._stride:  # every second one is as good
            self._stride *= 2
            self._kept = {number: kept for number, kept in self._kept.items() if number % self._stride == 0}
        self._last = {self._count: item}
        if self._count % self._stride == 0:
            self._kept.update(self._last)
        self._count += 1

    def kept(self) -> dict[int, object]:
        """Returns what is kept, by its number in the stream."""
        return {**self._kept, **self._last}


class Written(NamedTuple):
    """What was made of a clip."""

    seconds: float
    paths: list[Path]
    findings: list[Finding]  # of the doctor, where the masks tell nothing apart


def segment(
    clip: Clip,
    watcher: Watcher,
    output: Path,
    how: str = "fit",
    keep_gamma: bool = False,
    looks: int = 0,
    say: Callable[[str], None] = print,
    background: np.ndarray | None = None,
) -> Written:
    """Writes overlay, labels, foreground and the picture of the components of a clip; all of them appear, or none.

    The foreground is where the frame that the model sees differs from the image of its prior, black or the mean.

    Arguments:
        clip: the frames.
        watcher: the model.
        output: directory that is there.
        how: one of `media.SIZES`.
        keep_gamma: whether the responsibilities are written beside the labels.
        looks: how often a single frame is shown to a model of still images; its labels are those of the last look.
            0 of a model of moving ones.
        say: is told what is converted, in one line, as soon as that is known.
        background: what the model sees the absolute difference from, of `background_of`.

    Raises:
        UserError: the clip is too short or does not fit the model, or something cannot be written.
        DataGenError: the clip is damaged.
        OSError: the disk is full.
    """
    began = time.perf_counter()
    partial = partial_of(output / clip.stem)
    try:
        _check_alone(clip, output)
        partial.mkdir()
        findings = _write(clip, watcher, partial, how, keep_gamma, looks, say, background)
        made = sorted(partial.iterdir())
        for path in made:  # before the first of them is put in its place
            _check_place(path, output / path.name)
        with ended_later():
            paths = [_put(path, output / path.name) for path in made]
    except OSError as error:
        if getattr(error, "errno", None) in FULL_DISK:
            raise
        reason = getattr(error, "strerror", None) or error
        raise UserError(f"{clip.name}: cannot write to --output={output}: {reason}") from error
    finally:
        clip.close()
        shutil.rmtree(partial, ignore_errors=True)
    return Written(time.perf_counter() - began, paths, findings)


def background_of(clip: Clip, watcher: Watcher, how: str, kind: str) -> np.ndarray:
    """Returns what stays the same in a clip, float32 [h, w, C] of the model's size; the clip is read for it.

    It is found much as `data_gen --background` finds that of the videos of a training, from grey values or colours, but
    not rounded, and from other frames of a long clip, whose length is not known before its end.

    Arguments:
        clip, watcher, how: see `segment`.
        kind: "median", over at most 201 of its frames, or "first", its first frame.

    Raises:
        UserError, DataGenError: see `segment`.
    """
    converter, spread = _converter(clip, watcher, how, binary=False), Spread(MEDIAN_OF)
    try:
        for frame in clip if kind == "median" else itertools.islice(clip, 1):
            spread.add(converter(frame.pixels, clip.name))
    finally:
        clip.close()
    return np.median(list(spread.kept().values()), axis=0).astype(np.float32)


def _converter(clip, watcher, how, binary, background=None):
    *model_size, channels = watcher.served.cell.image_shape
    return media.Converter(media.Fit(how, clip.size, tuple(model_size)), channels, binary, background)


def _write(clip, watcher, directory, how, keep_gamma, looks, say, background):
    """Writes everything into a directory; returns what the doctor finds."""
    mixture = watcher.served.cell.mixture
    converter = _converter(clip, watcher, how, isinstance(mixture, BernoulliMixture), background)
    fit = converter.fit
    watcher.restart()
    spread = Spread(COLUMNS)
    at_once = max(2, min(CHUNK, CHUNK_PIXELS // (clip.size[0] * clip.size[1])))
    values = [f"0..{clip.white} to 0..1"] * (clip.white != 1)
    symptoms: list[Symptoms] = []  # of every chunk
    told = 0
    with contextlib.ExitStack() as stack:
        files = [stack.enter_context(tempfile.TemporaryFile(dir=directory)) for _ in range(3)]
        masks = _Masks(*files, keep_gamma)
        with (
            media.overlay_writer(directory / media.overlay_name(clip), clip) as overlay,
            tqdm(total=clip.length, desc=clip.name, unit="frame", disable=None, leave=False) as bar,
        ):
            frames = iter(clip)
            while chunk := list(itertools.islice(frames, at_once)):
                inputs = np.stack([converter(frame.pixels, clip.name) for frame in chunk])
                notes = [*clip.notes, *values, *converter.notes]
                if masks.count == 0 and len(chunk) == 1:
                    inputs = inputs.repeat(_looks_at_one(clip, watcher, looks), axis=0)
                    notes += [f"shown {len(inputs)} times"] * (len(inputs) > 1)
                if len(notes) > told:
                    say(f"{clip.name}: {', '.join(notes[told:])}")
                    told = len(notes)
                seen = watcher(inputs)
                for look in zip(inputs, seen.gamma, seen.psi):
                    spread.add([each.copy() for each in look])  # not a view, which would hold the chunk
                seen = Seen(*(each[-len(chunk) :] for each in seen))
                over_black = inputs[-len(chunk) :] - np.asarray(mixture.prior_mean)
                symptoms.append(doctor.symptoms(over_black, seen.labels, seen.gamma.max(axis=1), watcher.k))
                for frame, picture in zip(chunk, tinted([frame.pixels for frame in chunk], seen.gamma, fit)):
                    overlay.add(picture, frame.start, frame.duration)
                masks.add(seen, doctor.lit_pixels(over_black))
                bar.update(len(chunk))
        masks.write(directory / f"{clip.stem}.masks.npz", clip.size, fit)
        title = "look" if masks.count == 1 else "frame"
    Image.fromarray(components(spread.kept(), title)).save(directory / f"{clip.stem}.components.png")
    return _findings(symptoms, watcher.k)


class _Masks:
    """The masks of a clip of unknown length, in files, of the model's size since that needs little room."""

    def __init__(self, labels: BinaryIO, foreground: BinaryIO, gamma: BinaryIO, keep_gamma: bool):
        self._labels, self._foreground, self._gamma, self._keep_gamma = labels, foreground, gamma, keep_gamma
        self.count = 0  # of the frames
        self._shape = ()  # [K, h, w]

    def add(self, seen: Seen, lit: np.ndarray) -> None:
        """Takes those of the next frames, with lit bool [n, h, w]."""
        self._labels.write(seen.labels.tobytes())
        self._foreground.write(lit.tobytes())
        if self._keep_gamma:
            self._gamma.write(seen.gamma.astype(np.float16).tobytes())
        self.count += len(seen.labels)
        self._shape = seen.gamma.shape[1:]

    def write(self, path: Path, size: tuple[int, int], fit: media.Fit) -> None:
        """Writes the npz, labels and foreground of the size of the file's frames."""
        with media.LabelsFile(path) as file:
            for name, kept, dtype, outside in (
                ("labels", self._labels, np.uint8, media.NO_LABEL),
                ("foreground", self._foreground, bool, False),
            ):
                own = _parts(kept, (self.count, *self._shape[1:]), dtype)
                file.add(name, (self.count, *size), dtype, (fit.enlarged(each, outside) for each in own))
            if self._keep_gamma:
                shape = (self.count, *self._shape)
                file.add("responsibilities", shape, np.float16, _parts(self._gamma, shape, np.float16))


def _findings(symptoms: Sequence[Symptoms], k: int) -> list[Finding]:
    """What the doctor says of a clip, a mean over its frames, but for what wants frames from chunk to chunk."""
    measured = {name: np.concatenate([getattr(each, name) for each in symptoms]) for name in WITHIN_A_FRAME}
    scores = {f"{name}_last": np.nanmean(each) for name, each in measured.items() if not np.isnan(each).all()}
    return doctor.findings(scores, k)


def _looks_at_one(clip, watcher, looks):
    """How often a model must be shown the only frame there is."""
    if looks or watcher.served.alignment.lag == 0:
        return looks or 1
    raise UserError(
        f"{clip.name} has one frame: expected at least 2, since the model predicts a frame from the one before; one is "
        "enough for a model of still images"
    )


def _parts(file: BinaryIO, shape: tuple[int, ...], dtype: type) -> Iterator[np.ndarray]:
    """Reads an array along its first axis."""
    file.seek(0)
    size = int(np.prod(shape[1:])) * np.dtype(dtype).itemsize
    for _ in range(shape[0]):
        yield np.frombuffer(file.read(size), dtype).reshape(shape[1:])


def tinted(frames: Sequence[np.ndarray], gamma: np.ndarray, fit: media.Fit) -> Iterator[np.ndarray]:
    """Yields a file's frames, every pixel tinted in the colour of who explains it best, uint8 [H, W, 3].

    The surer it is who does, the stronger: what all components explain alike, as black often is, stays as it is, and so
    does what the model did not see.

    Arguments:
        frames: n of them, uint8, or float32 in [0, 1], [H, W, C] of the file's size.
        gamma: responsibilities [n, K, h, w] of the model's size.
        fit: how the two go together.
    """
    k = gamma.shape[1]
    certainty = (k * gamma.max(axis=1) - 1) / (k - 1) if k > 1 else gamma[:, 0]
    share = (256 * TINT * certainty.clip(0, 1)).astype(np.uint16)[..., None]  # [n, h, w, 1], of 256
    palette = (255 * component_colours(k)).round().astype(np.uint16)
    colour = palette[gamma.argmax(axis=1)] * share  # [n, h, w, 3]
    for pixels, added, taken in zip(frames, colour, share):
        frame = composed(pixels)
        frame = frame if frame.dtype == np.uint8 else (255 * frame).round().astype(np.uint8)
        yield ((frame * fit.enlarged(256 - taken, 256) + fit.enlarged(added, 0)) >> 8).astype(np.uint8)


def components(kept: dict[int, list[np.ndarray]], title: str = "frame") -> np.ndarray:
    """Returns a picture, uint8 [h, w, 3], with a column for every frame: it, its masks, what each component predicts.

    Arguments:
        kept: by the number of the frame: it [H, W, C], responsibilities [K, H, W] and predictions [K, H, W, C].
        title: of a column.
    """
    frames, gamma, psi = (np.stack(each) for each in zip(*kept.values()))
    scale = max(1, round(TILE / max(frames.shape[1:3])))
    masks = explained(gamma[..., None], rgb(frames))
    rows = [framed(enlarged(images, scale), 1.0, FRAME) for images in (rgb(frames), masks)]
    rows += [
        framed(enlarged(rgb(psi[:, k]), scale), colour, FRAME)
        for k, colour in enumerate(component_colours(len(psi[0])))
    ]
    titles = ["what the\nmodel sees", "who explains\nwhich pixel"]
    titles += [f"component {k + 1}\npredicts" for k in range(psi.shape[1])]
    (picture,) = labelled(np.stack(rows)[None], [f"{title} {number + 1}" for number in kept], [titles])
    return picture


def outputs_of(clip: Clip, output: Path) -> list[Path]:
    """Returns where `segment` puts what it makes of a clip."""
    names = (media.overlay_name(clip), f"{clip.stem}.masks.npz", f"{clip.stem}.components.png")
    return [output / name for name in names]


def _check_alone(clip: Clip, output: Path) -> None:
    """Refuses a clip beside the overlay of another one, whose masks have the same name."""
    own = media.overlay_name(clip)
    beside = (output / f"{clip.stem}.overlay{suffix}" for suffix in ("", *VIDEOS, *ANIMATIONS))
    others = (path for path in beside if path.name != own and path.exists())
    if (other := next(others, None)) is not None:
        raise UserError(
            f"{other} is the overlay of another {clip.stem}, whose masks {clip.name} would replace: choose another "
            "--output, or remove it"
        )


def _check_place(partial: Path, target: Path) -> None:
    """Refuses to take the place of what is no earlier one of its kind."""
    if partial.is_dir() and target.exists():
        if not target.is_dir() or not all(media.is_of_overlay(path) for path in target.iterdir()):
            raise UserError(
                f"{target} holds more than pictures of an earlier overlay: expected those alone, or nothing"
            )
    elif target.is_dir():
        raise UserError(f"{target} is a folder: expected the file of an earlier run, or nothing")


def _put(partial: Path, target: Path) -> Path:
    """Moves a file, or a folder of pictures, to where it belongs, in place of an earlier one."""
    if partial.is_dir() and target.exists():
        target.rename(partial.with_name(f".{target.name}.earlier"))
    os.replace(partial, target)
    return target
