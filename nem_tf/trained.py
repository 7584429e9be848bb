"""What was trained, a run or a preset: one and the same to whoever takes its weights.

A preset is a directory with a trained model that is complete without its run:

    config.json         its settings, the shape of its frames and actions, its data, how it was trained, and the
                        SHA-256 of its weights
    model.weights.h5    its weights, Keras' file
    README.md           of a shipped one: the model card
    evaluation_test*    of a shipped one: its test scores
"""

import dataclasses
import errno
import hashlib
import json
import os
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nem_tf import datasets
from nem_tf.errors import UserError
from nem_tf.reading import check_regular, read_text
from nem_tf.registry import MIXTURES, NETWORKS, NOISES
from nem_tf.run import FLAGFILE, Run, is_identity, is_image_shape
from nem_tf.scoring.record import TRAINING
from nem_tf.settings import Settings, from_flagfile
from nem_tf.settings.groups import Execution, Paths

CONFIG, WEIGHTS = "config.json", "model.weights.h5"
SHIPPED = Path(__file__).parent / "presets"
DAMAGED = (OSError, ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError)  # reading raises
UNKNOWN_TRAINING = {"step": 0, "epoch": 0, "wall_time": 0.0, "finished": None, "history": [], "origin": None}


@dataclass(frozen=True)
class Trained:
    """A trained model, its weights not yet read."""

    name: str  # as its user knows it
    which: str  # "best" or "latest" of a run's checkpoints; of a preset "best"
    output_dir: Path  # where what is found out about it goes, unless its user says otherwise
    settings: Settings
    image_shape: tuple[int, int, int]
    nr_actions: int  # A, entries of the actions that it takes, 0 for none
    is_static: bool  # whether it was trained on still images, shown again and again
    data: Mapping[str, Any]  # identity of the data it was trained on, see `nem_tf.data.identity_of`
    source: Mapping[str, Any]  # of those data
    directory: Path
    training: Mapping[str, Any]  # of a preset: how it was trained, as a `Record` has it; a run's checkpoints say it
    weights: str = ""  # of a preset: the digest of its file of weights

    @property
    def is_run(self) -> bool:
        return (self.directory / FLAGFILE).exists()


def preset_names() -> list[str]:
    """Returns the names of the shipped models."""
    return sorted(path.parent.name for path in SHIPPED.glob(f"*/{CONFIG}"))


def preset_directory(preset: str | Path) -> Path:
    """Returns where a preset is.

    Arguments:
        preset: the name of a shipped one, or a directory that `save_to_preset` wrote; a `Path` is a directory.

    Raises:
        UserError: there is no such preset.
    """
    if not isinstance(preset, str | Path):
        raise UserError(f"{preset!r} is no preset: expected its name or its directory, of {', '.join(preset_names())}")
    is_name = isinstance(preset, str) and preset in preset_names()
    directory = SHIPPED / preset if is_name else Path(os.path.expanduser(preset))
    if not os.path.exists(directory / CONFIG):  # unlike pathlib's, False also of a name that no file can have
        raise UserError(
            f"{preset or 'an empty name'} is no preset: expected one of {', '.join(preset_names())}, or a directory "
            f"with {CONFIG}"
        )
    return directory


def read_run(run_dir: str | None, which: str = "best", own_code: bool = False) -> Trained:
    """Returns what was trained in a run directory.

    Arguments:
        run_dir: the directory.
        which: checkpoint, "best" or "latest".
        own_code: whether it may name code that only it knows of.

    Raises:
        UserError: no value, not a run directory, or one that names code of its own.
    """
    if not run_dir:
        raise UserError("--run_dir is missing: expected the directory of a trained run, e.g. runs/flying_shapes_k4")
    run = Run(run_dir)
    settings = from_flagfile(run.flagfile).replace(mnist="")  # as the training's user wrote it; the source says where
    if not own_code:
        _check_code(run.path, settings)
    shapes = run.image_shape, run.nr_actions, run.is_static or datasets.is_static(settings.data.dataset)
    return Trained(str(run.path), which, run.path, settings, *shapes, run.data, run.source, run.path, {})


def read_preset(preset: str | Path, own_code: bool = False) -> Trained:
    """Returns what a preset holds.

    Arguments:
        preset: its name or its directory.
        own_code: whether it may name code that only it knows of.

    Raises:
        UserError: there is no such preset, it is damaged, or it names code of its own.
    """
    directory = preset_directory(preset)
    try:
        config = json.loads(read_text(_own(directory, CONFIG)))
        settings, image_shape = Settings.from_dict(config["settings"]), tuple(config["image_shape"])
        nr_actions = int(config["nr_actions"])
        is_static = bool(config.get("is_static"))  # which an older one does not say
        data, source = dict(config["data"]), dict(config["source"])
        training = dict(config["training"])
        weights = config["weights"]["sha256"]
        if not (is_identity(data) and nr_actions >= 0):
            raise ValueError("what it says of its data or its actions is incomplete")
        if {*training} != {*TRAINING} or not is_image_shape(image_shape):
            raise ValueError("what it says of its training or its frames is incomplete")
        for name, kind in TRAINING.items():
            if not isinstance(training[name], kind):
                raise ValueError(f"{name} of its training is {training[name]!r}")
    except (*DAMAGED, UserError) as error:
        missing = f"{CONFIG} says nothing of {error}" if isinstance(error, KeyError) else error
        missing = f"{CONFIG}: {error.strerror}" if isinstance(error, OSError) else missing
        raise UserError(f"{directory} is a damaged preset: {missing}") from error
    if not own_code:
        _check_code(directory, settings)
    # Where and on what it runs is for its user to say: a stranger's preset names no place to write to or to load from.
    settings = dataclasses.replace(settings, execution=Execution(), paths=Paths(run_dir=f"runs/{directory.name}"))
    shipped = directory.resolve().parent == SHIPPED.resolve()  # its own scores stay as they are
    output_dir = Path("results") / directory.resolve().name if shipped else directory
    shapes = image_shape, nr_actions, is_static or datasets.is_static(settings.data.dataset)
    return Trained(str(preset), "best", output_dir, settings, *shapes, data, source, directory, training, weights)


def digest(path: Path) -> str:
    """Returns the SHA-256 of a file.

    Raises:
        OSError: it cannot be read.
    """
    check_regular(path)
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def check_weights(trained: Trained) -> None:
    """Refuses a preset whose weights are not those that it was written with, or whose file is not to be trusted.

    Raises:
        UserError: the weights are of another digest, damaged, or missing.
    """
    try:
        found = digest(_own(trained.directory, WEIGHTS))
    except OSError as error:
        raise UserError(f"{trained.directory} is a damaged preset: {WEIGHTS}: {error.strerror}") from error
    if found != trained.weights:
        raise UserError(
            f"{trained.directory} is a damaged preset: {WEIGHTS} is not the file that {CONFIG} was written with"
        )
    from nem_tf.claims import check_weights_file  # needs HDF5

    try:
        check_weights_file(trained.directory / WEIGHTS)
    except (OSError, ValueError, RuntimeError, KeyError, TypeError, zlib.error) as error:
        reason = str(error).partition("\n")[0]
        raise UserError(f"{trained.directory} is a damaged preset: {WEIGHTS} holds no weights ({reason})") from error


def _own(directory, name):
    """The path of a file of a preset, which lies in it: a stranger's names no file of its user by a link.

    Raises:
        OSError: it does not, or is no regular file.
    """
    path = directory / name
    check_regular(path)
    if path.resolve().parent != directory.resolve():
        raise OSError(errno.EINVAL, "it is a link out of the directory", str(path))
    return path


def _check_code(directory, settings):
    """Refuses a model that names code: whoever loads a stranger's does not run a stranger's program.

    Raises:
        UserError: it names a network, a mixture or a noise that is not registered.
    """
    named = {
        "NETWORKS": (NETWORKS, settings.model.network),
        "MIXTURES": (MIXTURES, settings.model.mixture),
        "NOISES": (NOISES, settings.data.noise),
    }
    for names, (registry, name) in named.items():
        if not registry.knows(name):
            raise UserError(
                f"{directory} names code of its own, --{registry.setting}={name}, which is not run: if it is yours, "
                f"give --own_code, or in Python register it first: from nem_tf.registry import {names}; "
                f"{names}.register('mine', '{name}')"
            )


def read_trained(place: str | Path, which: str = "best", own_code: bool = False) -> Trained:
    """Returns what was trained in a run directory, or what a preset holds; see `read_run` and `read_preset`.

    The name of a shipped model is that model, wherever the program runs; a directory of that name is `./NAME`, or a
    `Path`.

    Raises:
        UserError: it is neither, or names code of its own.
    """
    if isinstance(place, str) and place in preset_names():
        return read_preset(place, own_code)
    if isinstance(place, str | Path) and place != "":
        directory = Path(os.path.expanduser(place))
        if os.path.exists(directory / FLAGFILE):
            return read_run(str(place), which, own_code)
        if os.path.exists(directory / CONFIG):
            return read_preset(place, own_code)
    shown = "an empty name" if isinstance(place, str) and not place else place
    raise UserError(
        f"{shown} is not a run directory, and no preset: expected a directory with {FLAGFILE}, or "
        f"one of {', '.join(preset_names())}"
    )


def preset_config(
    name: str,
    settings: Settings,
    image_shape: tuple[int, int, int],
    nr_actions: int,
    weights: str,
    trained: Trained | None,
) -> str:
    """Returns the text of a preset's config.json.

    Arguments:
        name: of the preset.
        settings: its own; where and on what it ran is left out.
        image_shape: (H, W, C) of its frames.
        nr_actions: A of its actions.
        weights: the digest of its file of weights.
        trained: what is known of its data and its training; what it does not say is unknown.
    """
    data, source, training = (trained.data, trained.source, trained.training) if trained else ({}, {}, {})
    is_static = trained.is_static if trained else datasets.is_static(settings.data.dataset)
    config = {
        "image_shape": image_shape,
        "nr_actions": nr_actions,
        "is_static": is_static,
        "weights": {"sha256": weights},
        "settings": dataclasses.replace(settings, execution=Execution(), paths=Paths(run_dir=f"runs/{name}")).to_dict(),
        "data": dict(data),
        "source": dict(source),
        "training": {**UNKNOWN_TRAINING, **training},
    }
    return json.dumps(config, indent=1) + "\n"
