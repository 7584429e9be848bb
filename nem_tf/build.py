"""From settings to objects: the one bridge between what a user sets and everything that knows no settings."""

import functools
import inspect
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from nem_tf import datasets
from nem_tf.alignment import ALIGNMENTS, Alignment
from nem_tf.data import Split, identity_of, load_split, source_of
from nem_tf.data.generate import check_digits, generate_missing
from nem_tf.errors import UserError
from nem_tf.layers import RNNEM, EMCell, EMLoss, LossTerms, SpatialMixture, static_n_em
from nem_tf.layers.mixture import IMAGE
from nem_tf.layers.noise import check_noise
from nem_tf.layers.system import System
from nem_tf.registry import MIXTURES, NETWORKS, NOISES
from nem_tf.run import Run
from nem_tf.scoring import doctor
from nem_tf.scoring.passes import SCORES, mask_scores
from nem_tf.scoring.summary import means
from nem_tf.settings import Settings
from nem_tf.settings.groups import Model
from nem_tf.trained import WEIGHTS, Trained, check_weights, read_trained
from nem_tf.training import devices
from nem_tf.training.checkpoints import Checkpoints, latest_progress, progress_of, restore_weights
from nem_tf.training.feed import Call, Feed
from nem_tf.training.progress import Progress
from nem_tf.training.reporting import Reporter
from nem_tf.training.schedule import learning_rate
from nem_tf.training.step import Adam, StepResult, TrainStep
from nem_tf.training.trainer import Limits, Trainer
from nem_tf.training.validation import Validation
from nem_tf.unrolling import parse_curriculum, step_weights

COLUMNS = (  # settings that its table of runs shows beside their scores
    "dataset", "k", "network", "nr_steps", "noise_prob", "batch_size", "curriculum", "learning_rate",
    "precision", "seed",
)  # fmt: skip


def build_mixture(settings: Settings) -> SpatialMixture:
    """Returns the pixel model that the settings name.

    Raises:
        UserError: it cannot be loaded, or takes no prior or no e_sigma where the settings have one.
    """
    model, mixture = settings.model, MIXTURES.load(settings.model.mixture)
    takes = _parameters(mixture)
    for name in ("prior", "e_sigma"):
        value = getattr(model, name)
        if value != getattr(Model(), name) and name not in takes:
            raise UserError(f"--{name}={value} expects a mixture that takes {name}; --mixture={model.mixture} does not")
    chosen = {"e_sigma": model.e_sigma, "prior": {"black": 0.0, "mean": IMAGE}[model.prior]}
    return mixture(**{name: value for name, value in chosen.items() if name in takes})


def _parameters(function: Callable) -> set[str]:
    """The parameters of a function or a class, with those of the classes that it hands its **kwargs on to."""
    names: set[str] = set()
    for each in inspect.getmro(function) if inspect.isclass(function) else (function,):
        parameters = inspect.signature(each).parameters
        names |= {*parameters}
        if all(parameter.kind is not parameter.VAR_KEYWORD for parameter in parameters.values()):
            break
    return names


def takes_actions(settings: Settings) -> bool:
    """Tells whether the network of the settings can take an action with every frame."""
    return "nr_actions" in inspect.signature(NETWORKS.load(settings.model.network)).parameters


def precision_of(settings: Settings) -> str:
    """Returns the dtype policy of the network's products."""
    if settings.execution.precision != "auto":
        return settings.execution.precision
    may_round = NETWORKS.load(settings.model.network) is not static_n_em  # which refuses all but float32
    return "mixed_bfloat16" if may_round and devices.has_fast_bfloat16() else "float32"


def build_cell(settings: Settings, image_shape: tuple[int, int, int], nr_actions: int = 0) -> EMCell:
    """Returns the cell of the settings for frames of shape (H, W, C) and actions of A entries, not yet built.

    Raises:
        UserError: the network does not fit the frames, the actions or the settings.
    """
    model, chosen = settings.model, {"nr_actions": nr_actions} if nr_actions else {}
    network = NETWORKS.load(model.network)
    if model.widths:
        chosen["widths"] = _widths(model.widths)
    try:
        cell = network(
            image_shape,
            build_mixture(settings),
            precision_of(settings),
            k=model.k,
            gamma_gradient=model.gamma_gradient,
            seed=settings.seed,
            **chosen,
        )
    except (ValueError, TypeError) as error:
        raise _misfit(settings, error) from error
    if not isinstance(cell, EMCell):
        raise UserError(f"--network={model.network} returns {cell!r:.60}: expected an EMCell")
    return cell


def _widths(text):
    try:
        return tuple(int(width) for width in text.split(",")) if text else None
    except ValueError:
        raise UserError(f"--widths={text}: expected whole numbers, as in 32,64") from None


def _misfit(settings, error):
    return UserError(
        f"--network={settings.model.network} does not fit --dataset={settings.data.dataset} or its settings: {error}"
    )


def build_model(
    settings: Settings, image_shape: tuple[int, int, int], nr_actions: int = 0, unroll: bool = False
) -> RNNEM:
    """Returns the model of the settings for frames of shape (H, W, C), with its weights, for sequences of any length.

    Arguments:
        settings, image_shape: see above.
        nr_actions: A, entries of the action that comes with every frame; 0 for none.
        unroll: see `RNNEM`; the length must then be known.

    Raises:
        UserError: the network does not fit the frames, the actions or the settings; see also `build_noise`.
    """
    noise = build_noise(settings) if settings.data.noise_prob > 0 else None
    model = RNNEM(build_cell(settings, image_shape, nr_actions), unroll, noise, alignment_of(settings).lag)
    try:
        model.build((None, None, *image_shape))
    except ValueError as error:
        raise _misfit(settings, error) from error
    return model


def build_noise(settings: Settings) -> keras.Layer:
    """Returns the noise of the settings.

    Raises:
        UserError: it takes no rate, or cannot be called with frames and a seed.
    """
    make = NOISES.load(settings.data.noise)
    try:
        noise = make(settings.data.noise_prob)
        check_noise(noise)
    except (TypeError, ValueError) as error:
        raise UserError(
            f"--noise={settings.data.noise} with --noise_prob={settings.data.noise_prob}: {error}"
        ) from error
    return noise


def build_system(settings: Settings, model: RNNEM) -> System:
    """Returns a model with the loss and the alignment of the settings."""
    objective = settings.objective
    loss = EMLoss(model.cell.mixture, objective.loss_inter_weight, objective.loss_step_weights)
    return System(model, loss, alignment_of(settings))


def alignment_of(settings: Settings) -> Alignment:
    return ALIGNMENTS[settings.model.target]


def weights_of_steps(settings: Settings, em_steps: int | None = None) -> np.ndarray:
    """Returns the weights of the EM steps in the loss, [T]."""
    return np.array(step_weights(settings.objective.loss_step_weights, em_steps or settings.data.nr_steps))


def provide(settings: Settings, splits: tuple[str, ...], source: dict[str, Any] | None = None, seed: int = 0) -> None:
    """Generates what is missing of a published data set; leaves a file of one's own alone.

    Arguments:
        settings: of the data.
        splits: that are wanted.
        source, seed: of a new file, see `generate_missing`; a source that the settings name comes first.

    Raises:
        UserError: it cannot be done, or the file is of other rules or of other digits than the settings name.
    """
    path = datasets.locate(settings.data.dataset, settings.paths.data_dir)
    if settings.paths.mnist:
        published = datasets.names.parse(settings.data.dataset)
        if published and not published.shows_digits:
            raise UserError(
                f"--mnist={settings.paths.mnist} is for data with digits, and --dataset={settings.data.dataset} shows "
                "none: leave it out"
            )
        check_digits(path, settings.paths.mnist)
    if datasets.is_published(settings.data.dataset):
        flat = settings.flat()
        sizes = {split: flat[datasets.SPLITS[split]] for split in splits}
        frames = alignment_of(settings).frames_for(settings.data.nr_steps)
        generate_missing(path, settings.data.dataset, sizes, frames, source, seed, settings.paths.mnist)


def load(settings: Settings, split: str, collisions: bool = False, nr_actions: int | None = None) -> Split:
    """Reads a split of the data set of the settings, where objects collide too if that is asked for and said.

    Arguments:
        settings, split, collisions: see `load_split`.
        nr_actions: A of the actions that a model takes; by default those that are there, if the network takes any.

    Raises:
        UserError: the file cannot be read, or does not fit the settings.
    """
    size = settings.flat()[datasets.SPLITS[split]]
    path = datasets.locate(settings.data.dataset, settings.paths.data_dir)
    frames = alignment_of(settings).frames_for(settings.data.nr_steps)
    if nr_actions is None and not takes_actions(settings):
        nr_actions = 0
    return load_split(path, split, size, frames, settings.model.mixture == "bernoulli", collisions, nr_actions)


def shares_of(settings: Settings) -> int:
    """Returns the parts of a batch that the cores of a CPU compute side by side."""
    execution = settings.execution
    return devices.nr_shares(execution.shares, execution.distribute, settings.optimisation.batch_size)


def build_strategy(settings: Settings) -> tf.distribute.Strategy:
    """Returns the devices of the settings; call it before any other use of TensorFlow.

    Raises:
        UserError: see `make_strategy`.
    """
    devices.keep_compiled(settings.paths.compiled_dir)
    shares = shares_of(settings)
    devices.use_cores(shares)
    strategy = devices.make_strategy(settings.execution.distribute, settings.optimisation.batch_size, shares)
    devices.check_gpus()
    return strategy


def restore(trained: Trained, model: RNNEM) -> tuple[str, dict[str, Any]]:
    """Gives a model of the same network and frames its weights: those that are scored, averages where a run keeps any.

    Returns the file they were read from, and how they were trained, as a `Record` has it.

    Raises:
        UserError: there are none, or they cannot be read.
    """
    if not trained.is_run:
        check_weights(trained)
        try:
            model.functional().load_weights(trained.directory / WEIGHTS)
        except (OSError, ValueError, KeyError) as error:
            network = trained.settings.model.network
            raise UserError(
                f"{trained.directory} is a damaged preset: {WEIGHTS} holds no weights of its network, {network}"
            ) from error
        if not all(np.isfinite(weight).all() for weight in model.get_weights()):
            raise UserError(f"{trained.directory} is a damaged preset: {WEIGHTS} holds NaN or infinity")
        return f"{trained.name}/{WEIGHTS}", dict(trained.training)
    run, settings = Run(trained.directory), trained.settings
    checkpoint = restore_weights(run.path, trained.which, settings.optimisation.ema_momentum > 0, model)
    progress, latest = progress_of(checkpoint), latest_progress(run.path)
    position = ("epoch", "step", "stale_epochs")
    finished = limits_of(settings).reached(*(latest[name] for name in position)) if latest else None
    return checkpoint, {
        **{name: progress[name] for name in ("step", "epoch", "wall_time")},
        "finished": finished,
        "history": run.history,
        "origin": run.origin,
    }


def described(strategy: tf.distribute.Strategy, settings: Settings) -> str:
    """Returns one line on what computes, of `build_strategy` and its settings."""
    return devices.described(strategy, shares_of(settings), precision_of(settings), settings.execution.jit)


def limits_of(settings: Settings) -> Limits:
    budget = settings.budget
    return Limits(budget.max_epochs, budget.max_steps, budget.patience)


def first_weights(place: str, settings: Settings, image_shape: tuple[int, int, int] | None = None) -> Trained:
    """Returns what a new run takes its first weights from, which are not yet read.

    Arguments:
        place: a run, or a preset.
        settings: of the new run.
        image_shape: (H, W, C) of its frames, where they are known.

    Raises:
        UserError: it is neither, or its weights are of another network or for other frames.
    """
    other = read_trained(place, own_code=True)  # none is run: its weights go into the new run's network
    both = (other.settings.model, other.image_shape), (settings.model, image_shape or other.image_shape)
    theirs, ours = (
        {
            "network": model.network,
            "widths": _widths(model.widths) or "by default",
            "prior": model.prior,
            "frames": shape,
        }
        for model, shape in both
    )
    differing = [f"{name} {theirs[name]}, not {ours[name]}" for name in ours if theirs[name] != ours[name]]
    if differing:
        raise UserError(f"--init_from={place} does not fit: its weights are of {'; of '.join(differing)}")
    return other


class Training:
    """All that a training needs, built from settings and data; nothing is written before `fit`.

    Arguments:
        settings: of the run.
        training, validation: its data.
        strategy: its devices, of `build_strategy`.
        stop: see `Trainer`.

    Raises:
        UserError: the settings do not fit the data.
    """

    def __init__(
        self,
        settings: Settings,
        training: Split,
        validation: Split,
        strategy: tf.distribute.Strategy | None = None,
        stop: Callable[[], int] = lambda: 0,
    ):
        self.settings, self.strategy = settings, strategy or tf.distribute.get_strategy()
        self.run = Run(settings.paths.run_dir)
        path = datasets.locate(settings.data.dataset, settings.paths.data_dir)
        self.data, self.source = identity_of(path), source_of(path)
        self.chief = devices.is_chief(self.strategy)
        optimisation, execution = settings.optimisation, settings.execution
        keras.utils.set_random_seed(settings.seed)  # of the weights; all else is drawn statelessly
        averaged = optimisation.ema_momentum > 0
        self.shares, self.jit = shares_of(settings), devices.use_xla(execution.jit)
        unroll = execution.unroll == "on" or (execution.unroll == "auto" and self.jit)
        self.image_shape, self.nr_actions = shapes = training.image_shape, training.nr_actions
        self.is_static = training.is_static
        with self.strategy.scope():
            self.model = build_model(settings, *shapes, unroll)
            self.optimizer = Adam(
                learning_rate(
                    optimisation.learning_rate,
                    optimisation.warmup_steps,
                    optimisation.hold_steps,
                    optimisation.decay_steps,
                ),
                epsilon=1e-8,
                use_ema=averaged,
                ema_momentum=optimisation.ema_momentum,
                ema_overwrite_frequency=None,
            )
            self.optimizer.build(self.model.trainable_variables)
            # The moving averages, in a model of their own: what is validated and scored.
            self.scored = build_model(settings, *shapes) if averaged else self.model
            self._background = training.mean_frame() if settings.model.prior == "mean" else None
            self._assign_background()
        self.system = build_system(settings, self.model)

        names = LossTerms._fields + (SCORES if training.has_groups else ())
        reduced = means({name: np.zeros((1, 1)) for name in names}, np.ones(1))
        losses = [name for name in reduced if name.removesuffix("_last") in LossTerms._fields]
        self.progress = Progress(losses, [name for name in reduced if name not in losses])
        tracked = {"averages": self.scored} if averaged else {}
        self.checkpoints = Checkpoints(
            self.run.path, self.data, writes=self.chief, before_save=self._refresh_averages, model=self.model,
            optimizer=self.optimizer, progress=self.progress, **tracked,
        )  # fmt: skip
        self.validation = Validation(
            build_system(settings, self.scored),
            validation,
            weights_of_steps(settings),
            batch_size=optimisation.batch_size,
            seed=settings.seed,
            strategy=self.strategy,
            shares=self.shares,
            jit=self.jit,
        )
        self.reporter = Reporter(
            self.run, settings.flat(), self.validation.pictured, functools.partial(doctor.findings, k=settings.model.k),
            silent=not self.chief, columns=COLUMNS,
        )  # fmt: skip
        self.step = TrainStep(
            self.system,
            self.optimizer,
            clip_norm=optimisation.clip_norm,
            strategy=self.strategy,
            shares=self.shares,
            jit=self.jit,
        )
        feed = Feed(
            training,
            self.system.alignment,
            parse_curriculum(optimisation.curriculum, settings.data.nr_steps),
            settings.data.nr_steps,
            batch_size=optimisation.batch_size,
            seed=settings.seed,
            passes=optimisation.passes,
            steps_per_call=execution.steps_per_call,
        )
        self.trainer = Trainer(
            step=self.step,
            reduce=self._reduced,
            score=self._score if training.has_groups else lambda result, call: {},
            validate=self._validated,
            feed=feed,
            progress=self.progress,
            checkpoints=self.checkpoints,
            reporter=self.reporter,
            limits=limits_of(settings),
            stop=stop,
            part=functools.partial(devices.part, self.strategy),
        )

    def start_from(self, place: str) -> dict[str, Any]:
        """Takes the first weights from another run, the best of it, or from a preset; returns what is recorded of them.

        Raises:
            UserError: it is neither, or its weights are of another network or for other frames.
        """
        other = first_weights(place, self.settings, self.image_shape)
        if other.nr_actions != self.nr_actions:
            raise UserError(
                f"--init_from={place} does not fit: it takes actions of {other.nr_actions} entries, and the data have "
                f"{self.nr_actions}"
            )
        _, training = restore(other, self.model)
        self._assign_background()  # in place of that of the other run's data
        return {
            "run_dir": other.name,
            "trained": other.settings.to_dict(),
            "data": dict(other.data),
            "step": training["step"],
            "origin": training["origin"],
        }

    def _assign_background(self):
        if self._background is not None:
            for model in (self.model, self.scored):
                model.cell.mixture.background.assign(self._background)

    def _refresh_averages(self):
        if self.scored is not self.model:
            self.optimizer.finalize_variable_values(self.scored.trainable_variables)

    def _reduced(self, terms):
        """Losses of n training steps, [n] each: of the means over a batch as of a sequence."""
        weights = weights_of_steps(self.settings, terms["loss"].shape[1])
        each = [
            means({name: term[i : i + 1] for name, term in terms.items()}, weights) for i in range(len(terms["loss"]))
        ]
        return {name: np.array([losses[name] for losses in each]) for name in each[0]}

    def _score(self, result: StepResult, call: Call):
        masks = self.step.gathered(result.masks)
        scores = mask_scores(masks, self.system.alignment.predicted(call.groups))
        return means(scores, np.ones(masks.assignment.shape[1]))

    def _validated(self, after_batch: Callable[[], None]) -> dict[str, float]:
        self._refresh_averages()
        return self.validation(after_batch, self.reporter.bar)
