"""Settings as absl flags and flagfiles.

A setting comes from, first to last: the command line, a --flagfile, the data set's preset, the default.
"""

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from absl import flags

from nem_tf import datasets
from nem_tf.errors import UserError
from nem_tf.reading import read_text
from nem_tf.registry import Registry
from nem_tf.settings.groups import FIELDS, RESUMABLE, Settings

SEED_GROUP = "seed"  # of --help


def resolve(given: Mapping[str, Any]) -> Settings:
    """Returns the settings of a run from those that its user gave, by the names of their flags.

    Raises:
        UserError: unknown data set, or values that do not fit.
    """
    dataset = given.get("dataset", Settings().data.dataset)
    chosen = {**datasets.preset(dataset), **given}
    settings = Settings().replace(**chosen)
    if not settings.paths.run_dir:
        settings = settings.replace(run_dir=f"runs/{Path(dataset).stem}_k{settings.model.k}")
    return settings


def define_flags(flag_values: flags.FlagValues, names: Collection[str] = tuple(FIELDS)) -> None:
    """Defines the flags of the named settings. Their default is None, so that `given_flags` can tell what was given."""
    for name in names:
        group, field = FIELDS[name]
        bounds = field.metadata
        options = {
            "default": None,
            "help": bounds["help"] + _names_of(bounds.get("registry")),
            "flag_values": flag_values,
            "module_name": group or SEED_GROUP,
        }
        if "choices" in bounds:
            flags.DEFINE_enum(name, enum_values=bounds["choices"], **options)
        elif field.type is bool:
            flags.DEFINE_boolean(name, **options)
        elif field.type is str:
            flags.DEFINE_string(name, **options)
        else:
            define = flags.DEFINE_integer if field.type is int else flags.DEFINE_float
            define(name, lower_bound=bounds.get("lower"), upper_bound=bounds.get("upper"), **options)


def given_flags(flag_values: flags.FlagValues) -> dict[str, Any]:
    """Returns the settings given on the command line or in a flagfile."""
    return {name: flag_values[name].value for name in FIELDS if name in flag_values and flag_values[name].present}


def to_flagfile(settings: Settings) -> str:
    """Returns the settings as an absl flagfile: fed back, it gives the same ones."""
    return "".join(f"--{name}={_as_text(value)}\n" for name, value in settings.flat().items())


def from_flagfile(path: Path) -> Settings:
    """Returns the settings that a run directory keeps.

    Raises:
        UserError: no such file, or not one that `to_flagfile` wrote.
    """
    flag_values = flags.FlagValues()
    define_flags(flag_values)
    try:
        # What is no flag would end them, for absl: a comment or a blank line that somebody added.
        lines = [line for line in read_text(path).split("\n") if line.strip() and not line.startswith("#")]
        included = [line for line in lines if line.lstrip("-").startswith("flagfile")]
        if included:  # a run is what its own directory says, and nothing beyond it
            raise UserError(f"{path} is not a flagfile of this program: it includes another, {included[0]!r}")
        _, *others = flag_values(["", *lines])
    except OSError as error:
        raise UserError(f"{path.parent} is not a run directory: cannot read {path.name} ({error.strerror})") from error
    except (flags.Error, ValueError) as error:
        raise UserError(f"{path} is not a flagfile of this program: {error}") from error
    if others:
        raise UserError(f"{path} is not a flagfile of this program: {others[0]!r} is no flag")
    given = given_flags(flag_values)
    # What another version added since has its default, which is what was before. The file ends with the seed.
    missing = [name for name in FIELDS if name not in given] if "seed" not in given else []
    settings = Settings().replace(**given)
    datasets.locate(settings.data.dataset, "")
    if missing:
        raise UserError(f"{path} is damaged or cut: it has no --{missing[0]}")
    return settings


def differences(old: Settings, new: Settings) -> dict[str, tuple[Any, Any]]:
    """Returns the settings that keep `new` from resuming a run of `old`: name -> old and new value."""
    before, after = old.flat(), new.flat()
    return {
        name: (before[name], after[name])
        for name, (group, _) in FIELDS.items()
        if group not in RESUMABLE and before[name] != after[name]
    }


def check_resume(where: Path, old: Settings, new: Settings, amend: bool = False) -> dict[str, tuple[Any, Any]]:
    """Refuses to resume a run with other settings than those that make it what it is; returns what is amended.

    Arguments:
        where: the run directory, for the message.
        old, new: its settings, and those asked for.
        amend: whether the user asked to change what may be changed on the way.

    Raises:
        UserError: the settings differ, in more than what is amended.
    """
    found = differences(old, new)
    refused = {name: values for name, values in found.items() if not (amend and _is_amendable(name))}
    if refused:
        listed = "; ".join(f"--{name}={_as_text(a)}, not {_as_text(b) or 'empty'}" for name, (a, b) in refused.items())
        hint = ", or --amend the run" if all(map(_is_amendable, refused)) else ""
        raise UserError(f"{where} holds a run with {listed}: choose another --run_dir{hint}")
    return found


def _is_amendable(name: str) -> bool:
    return FIELDS[name][1].metadata.get("amendable", False)


def _names_of(registry: Registry | None) -> str:
    return f" One of {', '.join(registry.names)}, or module:attribute." if registry else ""


def _as_text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
