"""Has `data_gen` write, or extend, the file of a published data set."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import data_gen
from data_gen import DataGenError, names
from data_gen.generate import generate
from nem_tf.data.file import identity_of, lengths_of, source_of
from nem_tf.errors import UserError


def generate_missing(
    path: Path,
    dataset: str,
    sizes: Mapping[str, int],
    frames: int,
    source: Mapping[str, Any] | None = None,
    seed: int = 0,
) -> None:
    """Generates what the file of a published data set lacks; says so.

    Arguments:
        path: the file, whole, too small or missing.
        dataset: its published name.
        sizes: sequences of each split, at least; a split that is not named is left as it is.
        frames: of each sequence, at least; static images have one whatever is asked, and balls that are generated their
            usual number or more, because their programs ask for more and more.
        source, seed: of a new file, see `source_of`. An existing one is extended from its own.

    Raises:
        UserError: it is of other rules than the published ones, or cannot be written.
    """
    held: dict[str, tuple[int, int]] = {}
    if path.exists():
        identity, held = identity_of(path), lengths_of(path)
        check_published(path, dataset, identity)
        source, seed = source_of(path), int(identity.get("seed", 0))
    name = names.parse(dataset)
    if name.family.startswith("static"):
        frames = 1
    lacking = {
        split: size for split, size in sizes.items() if held.get(split, (0, 0))[0] < size or held[split][1] < frames
    }
    if not lacking:
        return
    if name.family.startswith("balls"):
        frames = max(frames, name.frames)
    wanted = ", ".join(f"{size} {split}" for split, size in lacking.items())
    print(f"generating {path}: {wanted} sequences", flush=True)
    try:
        generate(path, dataset, lacking, frames, seed=seed, **(source or {}))
    except DataGenError as error:
        raise UserError(str(error)) from error


def check_published(path: Path, dataset: str, identity: Mapping[str, Any]) -> None:
    """Refuses a generated file of other rules than those that its name stands for. A foreign file says no rules.

    Raises:
        UserError: so it is.
    """
    from data_gen import registry  # needs NumPy

    if identity.get("generator") != "data_gen":
        return
    known = identity["version"] == data_gen.__version__ and identity["dataset"] == dataset
    if known and registry.FAMILIES[names.parse(dataset).family].rules:
        settings = registry.generator_of(dataset, 1).settings
        known = identity["settings"] == json.loads(json.dumps(settings))
    if not known:
        raise UserError(
            f"{path} was made by other rules than the published ones of {dataset} (data set {identity['dataset']}, "
            f"version {identity['version']} of the generator, not {data_gen.__version__}): move it away to have it "
            f"generated anew, or name it by its path as --dataset={path.with_name('NAME.h5')} under a name of its own"
        )
