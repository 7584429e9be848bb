"""Trained models that are shipped: a directory each, with its settings, its weights and a card that says what it is."""

import json
from pathlib import Path

import keras

from nem_tf import build
from nem_tf.errors import UserError
from nem_tf.layers import RNNEM
from nem_tf.settings import Settings

CONFIG, WEIGHTS = "config.json", "model.weights.h5"


def names() -> list[str]:
    """Returns the names of the shipped models."""
    return sorted(path.parent.name for path in Path(__file__).parent.glob(f"*/{CONFIG}"))


def from_preset(preset: str | Path) -> tuple[RNNEM, Settings]:
    """Returns a trained model and the settings it was trained with.

    Arguments:
        preset: the name of a shipped model, or a directory that `save_to_preset` wrote.

    Raises:
        UserError: there is no such model, or it cannot be read.
    """
    shipped = Path(__file__).parent / preset
    directory = shipped if str(preset) in names() else Path(preset).expanduser()
    if not (directory / CONFIG).exists():
        raise UserError(f"{preset} is no preset: expected one of {', '.join(names())}, or a directory with {CONFIG}")
    try:
        config = json.loads((directory / CONFIG).read_text())
        settings = Settings.from_dict(config["settings"])
        model = build.build_model(settings, tuple(config["image_shape"]))
        _keras_model(model).load_weights(directory / WEIGHTS)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{directory} is a damaged preset: {error}") from error
    return model, settings


def save_to_preset(directory: str | Path, model: RNNEM, settings: Settings) -> None:
    """Writes a model so that `from_preset` reads it.

    Arguments:
        directory: where to; it is made.
        model: with weights.
        settings: that it was trained with. Where it ran is not kept.

    Raises:
        UserError: there is a preset already.
    """
    directory = Path(directory).expanduser()
    if (directory / CONFIG).exists():
        raise UserError(f"{directory} holds a preset: choose another directory")
    directory.mkdir(parents=True, exist_ok=True)
    _keras_model(model).save_weights(directory / WEIGHTS)
    portable = settings.replace(data_dir="data", run_dir=f"runs/{directory.name}")
    config = {"image_shape": model.cell.image_shape, "settings": portable.to_dict()}
    (directory / CONFIG).write_text(json.dumps(config, indent=1) + "\n")


def _keras_model(model: RNNEM) -> keras.Model:
    """The layer as a Keras model, which has a file of weights."""
    noisy, target = (keras.Input((None, *model.cell.image_shape)) for _ in range(2))
    return keras.Model([noisy, target], model(noisy, target))
