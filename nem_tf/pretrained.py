"""Trained models as presets: read in one line, and written."""

from pathlib import Path

import h5py
import numpy as np

from nem_tf import build
from nem_tf.errors import UserError
from nem_tf.files import whole_directory
from nem_tf.layers import RNNEM
from nem_tf.settings import Settings
from nem_tf.trained import CONFIG, WEIGHTS, Trained, digest, preset_config, read_trained


def from_preset(preset: str | Path) -> tuple[RNNEM, Settings]:
    """Returns a trained model and the settings it was trained with.

    Arguments:
        preset: the name of a shipped model, a directory that `save_to_preset` wrote, or that of a run, whose best
            weights it takes.

    Raises:
        UserError: there is no such model, or it cannot be read.
    """
    trained = read_trained(preset)
    model = build.build_model(trained.settings, trained.image_shape, trained.nr_actions)
    build.restore(trained, model)
    return model, trained.settings


def save_to_preset(
    directory: str | Path, model: RNNEM, settings: Settings, trained: Trained | None = None, half: bool = False
) -> None:
    """Writes a model so that `from_preset` reads it.

    Arguments:
        directory: where to, a new one; it appears whole.
        model: with weights.
        settings: that it was trained with, whose noise is that of the model that is read. Where and on what it ran is
            not kept.
        trained: what is known of its data and its training.
        half: whether the weights are kept in half precision.

    Raises:
        UserError: there is such a directory already, or it cannot be written; or the settings are those of another
            model, with other weights, another mixture, k or lag.
        ValueError: the model was not built.
    """
    directory = Path(directory).expanduser()
    _check_settings(model, settings)
    try:
        with whole_directory(directory) as partial:
            model.functional().save_weights(partial / WEIGHTS)
            if half:
                _halve(partial / WEIGHTS)
            shapes = model.cell.image_shape, model.cell.nr_actions
            config = preset_config(directory.name, settings, *shapes, digest(partial / WEIGHTS), trained)
            (partial / CONFIG).write_text(config)
    except OSError as error:
        raise UserError(f"cannot write a preset to {directory}: {error.strerror or error}") from error


def _check_settings(model, settings):
    """Refuses what would be read as another model than was written."""
    read = build.build_model(settings, model.cell.known_image_shape, model.cell.nr_actions)
    for what, of in (
        ("components", lambda each: each.cell.k),
        ("mixture", lambda each: (type(each.cell.mixture).__name__, each.cell.mixture.settings)),
        ("lag", lambda each: each.lag),
    ):
        if of(read) != of(model):
            raise UserError(f"the settings are not those of the model: {what} {of(read)} in place of {of(model)}")
    if [weight.shape for weight in read.weights] != [weight.shape for weight in model.weights]:
        network = settings.model.network
        raise UserError(f"the settings are not those of the model: --network={network} has other weights")


def _halve(path: Path) -> None:
    """Writes a file of weights anew, in half precision."""
    whole = path.with_name(f".{path.name}.whole")
    path.rename(whole)
    try:
        with h5py.File(whole) as old, h5py.File(path, "w") as new:

            def copy(name, item):
                target = new.require_group(name) if isinstance(item, h5py.Group) else _halved(new, name, item[()])
                target.attrs.update(item.attrs)

            new.attrs.update(old.attrs)
            old.visititems(copy)
    finally:
        whole.unlink()


def _halved(file, name, values):
    floating = isinstance(values, np.ndarray | np.floating) and np.issubdtype(values.dtype, np.floating)
    values = values.astype(np.float16) if floating else values
    # The bytes that hold the exponents come beside each other, which packs: a tenth of the file.
    packed = {"compression": "gzip", "shuffle": True} if values.ndim else {}
    return file.create_dataset(name, data=values, **packed)
