"""Settings: one frozen `Config`, the absl flags made from it, and the flagfile that a run keeps.

A setting comes from, first to last: the command line, a --flagfile, the data set's preset, the default here.
"""

import dataclasses
import re
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from absl import flags

from nem_tf.errors import UserError


def _setting(default: Any, group: str, help: str, **bounds) -> Any:
    """A field of `Config`: bounds are `lower`, `upper` (numbers) or `choices` (strings)."""
    return dataclasses.field(default=default, metadata={"group": group, "help": help, **bounds})


DATASETS = "(flying|static)_shapes[_N] for N objects (3), or (flying|static)_mnist_N[_D] for N digits, D distinct ones"


@dataclasses.dataclass(frozen=True)
class Config:
    """All settings of a run. The defaults are those of flying shapes in the paper."""

    dataset: str = _setting("flying_shapes", "data", f"{DATASETS}.")
    data_dir: str = _setting("data", "data", "Where DATASET.h5 is, or is generated.")
    train_size: int = _setting(50_000, "data", "Training sequences.", lower=1)
    valid_size: int = _setting(10_000, "data", "Validation sequences.", lower=1)
    test_size: int = _setting(10_000, "data", "Test sequences.", lower=1)
    noise: str = _setting("bitflip", "data", "Noise on the input frames.", choices=("bitflip", "masked_uniform"))
    noise_prob: float = _setting(0.2, "data", "Probability that the noise replaces a value.", lower=0.0, upper=1.0)

    k: int = _setting(3, "model", "Components.", lower=1)
    nr_steps: int = _setting(20, "model", "EM steps, one per frame.", lower=1)
    network: str = _setting(
        "flying_shapes", "model", "Encoder, core and decoder of RNN-EM; static_n_em: N-EM.",
        choices=("flying_shapes", "flying_mnist", "static_rnn_em", "static_n_em"),
    )  # fmt: skip
    mixture: str = _setting("bernoulli", "model", "Distribution of a pixel.", choices=("bernoulli", "gaussian"))
    e_sigma: float = _setting(0.25, "model", "Standard deviation in the E-step (gaussian only).", lower=1e-6)
    gamma_gradient: bool = _setting(False, "model", "Let gradients flow through the responsibilities.")
    target: str = _setting(
        "next_frame", "model", "What a step predicts; same_frame: the frame it saw, without the noise (a denoiser).",
        choices=("next_frame", "same_frame"),
    )  # fmt: skip

    loss_inter_weight: float = _setting(1.0, "training", "Lambda, weight of the inter-component loss.", lower=0.0)
    loss_step_weights: str = _setting("all", "training", "Weights of the steps: all, last, or one number per step.")
    batch_size: int = _setting(64, "training", "Sequences per step.", lower=1)
    curriculum: str = _setting("", "training", "EM steps in training, in stages: 6,10@4000 is 10 from step 4000 on.")
    learning_rate: float = _setting(1e-3, "training", "Of Adam.", lower=0.0)
    warmup_steps: int = _setting(0, "training", "Steps over which the learning rate rises.", lower=0)
    hold_steps: int = _setting(0, "training", "Steps for which it then stays.", lower=0)
    decay_steps: int = _setting(0, "training", "Steps over which it at last falls to 1 %.", lower=0)
    ema_momentum: float = _setting(
        0.0, "training", "Of an average of the weights to score and to keep as best; 0: none.",
        lower=0.0, upper=1.0,
    )  # fmt: skip
    clip_norm: float = _setting(0.0, "training", "Clip gradients to this global norm; 0 does not clip.", lower=0.0)
    max_epochs: int = _setting(500, "training", "Stop after so many epochs.", lower=1)
    max_steps: int = _setting(0, "training", "Stop after so many training steps; 0 for no limit.", lower=0)
    patience: int = _setting(10, "training", "Stop after so many epochs without a better validation loss.", lower=1)
    init_from: str = _setting("", "training", "Run directory whose best weights a new run starts from.")
    seed: int = _setting(0, "training", "Of weights, shuffling, noise and initial responsibilities.", lower=0)

    run_dir: str = _setting("", "run", "Where logs and checkpoints go (default runs/DATASET_kK).")
    jit: str = _setting("auto", "run", "Compile with XLA; auto: on a GPU only.", choices=("auto", "on", "off"))
    precision: str = _setting("float32", "run", "Of the networks.", choices=("float32", "mixed_bfloat16"))
    steps_per_call: int = _setting(1, "run", "Training steps that the device makes on its own.", lower=1)
    shares: int = _setting(0, "run", "Parts of a batch that a CPU computes side by side; 0: one a core.", lower=0)
    distribute: str = _setting(
        "none", "run", "One device, this host's, TF_CONFIG's.",
        choices=("none", "mirrored", "multi_worker"),
    )  # fmt: skip


FIELDS = {field.name: field for field in dataclasses.fields(Config)}
# A run may be resumed with other values of these: they say where it stops and where things are, not what it computes.
RESUMABLE = frozenset(
    {"run_dir", "data_dir", "max_epochs", "max_steps", "patience", "distribute", "shares", "steps_per_call"}
)
FLAGFILE = "flags.txt"  # in the run directory


# What the experiments of the paper (method section 4) set, beside K.
STATIC_SHAPES = {
    "nr_steps": 15,
    "noise_prob": 0.1,
    "network": "static_rnn_em",
    "gamma_gradient": True,
    "loss_step_weights": "last",
}
FLYING_MNIST = {
    "noise": "masked_uniform",
    "network": "flying_mnist",
    "mixture": "gaussian",
    "loss_inter_weight": 0.2,
    "learning_rate": 5e-4,
}


def preset(dataset: str) -> dict[str, Any]:
    """What a data set sets, beside the defaults.

    Raises:
        UserError: no such data set.
    """
    shapes = re.fullmatch(r"(flying|static)_shapes(?:_([1-9]\d?))?", dataset)
    if shapes:
        nr_objects = int(shapes[2] or 3)
        return {"k": nr_objects} if shapes[1] == "flying" else STATIC_SHAPES | {"k": nr_objects + 1}
    digits = re.fullmatch(r"(flying|static)_mnist_([1-9])(?:_[1-9]\d*)?", dataset)
    if digits:
        return FLYING_MNIST | {"k": int(digits[2])}
    raise UserError(f"--dataset={dataset} is unknown: expected {DATASETS}")


def resolve(given: Mapping[str, Any]) -> Config:
    """The configuration of a run from the settings its user gave.

    Raises:
        UserError: unknown data set.
    """
    dataset = given.get("dataset", Config.dataset)
    settings = {"dataset": dataset, **preset(dataset), **given}
    settings["run_dir"] = settings.get("run_dir") or f"runs/{dataset}_k{settings['k']}"
    return Config(**settings)


def define_flags(flag_values: flags.FlagValues, names: Collection[str] = tuple(FIELDS)) -> None:
    """Defines the flags of the named settings. Their default is None, so that `given_flags` can tell what was given."""
    for name in names:
        field = FIELDS[name]
        meta = field.metadata
        options = {"default": None, "help": meta["help"], "flag_values": flag_values, "module_name": meta["group"]}
        if "choices" in meta:
            flags.DEFINE_enum(name, enum_values=meta["choices"], **options)
        elif field.type is bool:
            flags.DEFINE_boolean(name, **options)
        elif field.type is str:
            flags.DEFINE_string(name, **options)
        else:
            define = flags.DEFINE_integer if field.type is int else flags.DEFINE_float
            define(name, lower_bound=meta.get("lower"), upper_bound=meta.get("upper"), **options)


def given_flags(flag_values: flags.FlagValues) -> dict[str, Any]:
    """The settings given on the command line or in a flagfile."""
    return {name: flag_values[name].value for name in FIELDS if name in flag_values and flag_values[name].present}


def to_flagfile(config: Config) -> str:
    """The resolved settings as an absl flagfile: fed back, it gives the same configuration."""
    return "".join(f"--{name}={_as_text(value)}\n" for name, value in dataclasses.asdict(config).items())


def from_flagfile(path: Path) -> Config:
    """The configuration that a run directory keeps.

    Raises:
        UserError: no such file, or not one that `to_flagfile` wrote.
    """
    flag_values = flags.FlagValues()
    define_flags(flag_values)
    try:
        flag_values(["", *path.read_text().split("\n")])
    except OSError as error:
        raise UserError(f"{path.parent} is not a run directory: cannot read {path.name} ({error.strerror})") from error
    except (flags.Error, UnicodeDecodeError) as error:
        raise UserError(f"{path} is not a flagfile of this program: {error}") from error
    return resolve(given_flags(flag_values))


def differences(old: Config, new: Config) -> list[str]:
    """The settings that keep `new` from resuming a run of `old`, as "--name=value, not value"."""
    return [
        f"--{name}={_as_text(getattr(old, name))}, not {_as_text(getattr(new, name))}"
        for name in FIELDS
        if name not in RESUMABLE and getattr(old, name) != getattr(new, name)
    ]


def _as_text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
