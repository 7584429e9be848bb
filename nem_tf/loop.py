"""Training: one `tf.function` step, epochs with validation, early stopping, and checkpoints to go on from."""

import contextlib
import itertools
import signal
import time
from collections.abc import Iterator
from typing import NamedTuple

import keras
import numpy as np
import tensorflow as tf
from tqdm import tqdm

from nem_tf.config import Config
from nem_tf.data import Batch, Split
from nem_tf.distribution import agree, is_chief, make_strategy, nr_shares
from nem_tf.errors import UserError
from nem_tf.losses import LossTerms, resolve_step_weights
from nem_tf.metrics import GroupingScores
from nem_tf.model import build_model
from nem_tf.run_dir import Checkpoints, append_metrics, has_checkpoint, open_run, restore_initial_weights
from nem_tf.schedule import learning_rate, resolve_curriculum, stage_at
from nem_tf.scoring import (
    Masks,
    build_setup,
    forward,
    make_scorer,
    mask_scores,
    masks_of,
    means,
    per_sequence,
    score_batches,
    sequence_seeds,
    use_xla,
)
from nem_tf.summaries import Summaries

SCORE_EVERY = 10  # training steps between two scorings of the training masks
CHECKPOINT_SECONDS = 600  # between two checkpoints inside an epoch
PICTURED = 2  # validation sequences that TensorBoard shows


class Interrupted(Exception):
    """SIGTERM or Ctrl-C; the checkpoint is written. `signum` says which."""

    def __init__(self, signum: int, step: int):
        super().__init__(f"interrupted at step {step}; the same command goes on from there")
        self.signum = signum


class Call(NamedTuple):
    """The data of n training steps, made in one call."""

    frames: tf.Tensor  # [n, B, T+1, H, W, C]
    seeds: tf.Tensor  # [n, 2]
    groups: np.ndarray  # [B, T+1, H, W], of the last step


class Differentiated(NamedTuple):
    """What a part of a batch gives."""

    gradients: list[tf.Tensor]
    terms: LossTerms  # [1, T] each: means over the part
    masks: Masks


class StepResult(NamedTuple):
    """What a training step returns; what a call of n of them returns has n before every shape."""

    terms: LossTerms  # [1, T] each: means over the batch
    masks: Masks
    gradient_norm: tf.Tensor  # scalar, global, before clipping


RESULT_DTYPES = StepResult(LossTerms(*[tf.float32] * 4), Masks(tf.uint8, tf.float32), tf.float32)


class Progress(tf.Module):
    """Where training stands: all that a checkpoint keeps beside weights and optimizer."""

    LOSSES = LossTerms._fields
    SCORES = (*GroupingScores._fields, "confidence")

    def __init__(self):
        super().__init__()
        with tf.device("CPU"):  # where they are read and added to
            self.epoch = tf.Variable(0, dtype=tf.int64)  # finished ones
            self.epoch_step = tf.Variable(0, dtype=tf.int64)  # steps taken in the present one: the data position
            self.best_loss = tf.Variable(np.inf, dtype=tf.float64)
            self.stale_epochs = tf.Variable(0, dtype=tf.int64)  # since the best validation loss
            self.wall_time = tf.Variable(0.0, dtype=tf.float64)  # seconds, all sessions together
            # Sums over the present epoch, so that an interrupted one reports what an uninterrupted one does.
            self.loss_sums = tf.Variable(tf.zeros(len(self.LOSSES), tf.float64))
            self.score_sums = tf.Variable(tf.zeros(len(self.SCORES), tf.float64))
            self.nr_scored = tf.Variable(0, dtype=tf.int64)
            self.train_seconds = tf.Variable(0.0, dtype=tf.float64)

    def start_epoch(self) -> None:
        """Forgets the sums and the position of the epoch before."""
        for variable in (self.epoch_step, self.loss_sums, self.score_sums, self.nr_scored, self.train_seconds):
            variable.assign(tf.zeros_like(variable))

    def epoch_means(self) -> dict[str, float]:
        """Losses over the steps of the present epoch, scores over those of them that were scored."""
        losses = self.loss_sums / tf.cast(tf.maximum(self.epoch_step, 1), tf.float64)
        averages = dict(zip(self.LOSSES, losses.numpy().tolist()))
        if self.nr_scored > 0:
            scores = self.score_sums / tf.cast(self.nr_scored, tf.float64)
            averages |= zip(self.SCORES, scores.numpy().tolist())
        return averages


class Trainer:
    """Trains a model on a data set into a run directory, from wherever that stands.

    Arguments:
        config: all settings.
        training, validation: the data.
        strategy: the devices, of `make_strategy`, which is also the default.

    Raises:
        UserError: the settings do not fit the data, or the run directory is not this run's.
    """

    def __init__(
        self, config: Config, training: Split, validation: Split, strategy: tf.distribute.Strategy | None = None
    ):
        self.config = config
        self.strategy = strategy or make_strategy(config)
        self.chief = is_chief(self.strategy)  # the others train and score alike, and write nothing
        self.training, self.validation = training, validation
        keras.utils.set_random_seed(config.seed)  # of the weights; all else is drawn statelessly
        self.jit = use_xla(config)
        self.shares = nr_shares(config)
        with self.strategy.scope():
            self.model = build_model(config, training.image_shape)
            self.optimizer = keras.optimizers.Adam(
                learning_rate(config),
                epsilon=1e-8,
                use_ema=config.ema_momentum > 0,
                ema_momentum=config.ema_momentum,
                ema_overwrite_frequency=None,
            )
            self.optimizer.build(self.model.trainable_variables)
        self.setup = build_setup(config, self.model)
        self.stages = resolve_curriculum(config)
        self.step_weights = {  # by the number of EM steps
            nr_steps: np.array(_step_weights(config, nr_steps))
            for nr_steps in {config.nr_steps, *(stage.nr_steps for stage in self.stages)}
        }
        self.progress = Progress()
        origin = None
        if config.init_from and not has_checkpoint(config):
            origin = restore_initial_weights(config, training.image_shape, model=self.model)
            self._say(f"weights of {origin['checkpoint']}")
        self.run_dir = open_run(config, training.image_shape, origin, read_only=not self.chief)
        self.checkpoints = Checkpoints(self.run_dir, model=self.model, optimizer=self.optimizer, progress=self.progress)
        self.summaries = Summaries(self.run_dir) if self.chief else None
        self.scorer = make_scorer(self.setup, self.jit, shares=self.shares)
        self._caught: list[int] = []  # signals
        # Nothing here branches or loops on tensors in Python: AutoGraph would take seconds of the start for nothing.
        if self.jit and config.distribute == "none":
            # The whole step, Adam's hundreds of small operations too. What replicas tell each other is not for XLA.
            self._replica_step = tf.function(self._replica_step, jit_compile=True, autograph=False)
        self._differentiate = tf.function(self._differentiate, jit_compile=self.jit, autograph=False)
        self._train_steps = tf.function(self._train_steps, autograph=False)

    @property
    def step(self) -> int:
        """Training steps taken."""
        return int(self.optimizer.iterations.numpy())

    def fit(self) -> None:
        """Trains until the early stop, --max_epochs or --max_steps.

        Raises:
            Interrupted: on SIGTERM or Ctrl-C, after writing a checkpoint.
            UserError: the loss is not finite, or a checkpoint cannot be read or written.
        """
        resumed = self.checkpoints.resume()
        self._say(f"resuming from {resumed}" if resumed else f"training into {self.run_dir}")
        if self.chief:
            self.summaries.hyperparameters(self.config)
        with contextlib.ExitStack() as stack:
            if self.chief:
                stack.callback(self.summaries.flush)
            self._caught = stack.enter_context(_caught_signals())
            try:
                while not self._finished():
                    self._train_epoch()
                    self._save_latest()  # so that nothing is trained twice if the validation is interrupted
                    with self._averaged_weights():
                        self._finish_epoch(self._validate())
                    self._save_latest()
            except Interrupted:
                self._save_latest()
                raise

    @contextlib.contextmanager
    def _averaged_weights(self) -> Iterator[None]:
        """Has the model hold the moving averages, if there are any, and gives it the trained weights back."""
        if not self.config.ema_momentum:
            yield
            return
        variables = self.model.trainable_variables
        trained = [variable.numpy() for variable in variables]
        self.optimizer.finalize_variable_values(variables)
        try:
            yield
        finally:
            for variable, value in zip(variables, trained):
                variable.assign(value)

    def _finished(self) -> bool:
        config, progress = self.config, self.progress
        reasons = {
            f"--max_epochs={config.max_epochs} reached": progress.epoch >= config.max_epochs,
            f"--max_steps={config.max_steps} reached": 0 < config.max_steps <= self.step,
            f"no better validation loss in {config.patience} epochs": progress.stale_epochs >= config.patience,
        }
        for reason, holds in reasons.items():
            if holds:
                self._say(f"finished at step {self.step}: {reason}")
                return True
        return False

    def _steps_per_epoch(self) -> int:
        return len(self.training) // self.config.batch_size

    def _train_steps(self, frames: tf.Tensor, seeds: tf.Tensor) -> StepResult:
        """n training steps on frames [n, B, T+1, H, W, C] with seeds [n, 2]."""
        one_by_one = {"parallel_iterations": 1, "fn_output_signature": RESULT_DTYPES}
        return tf.map_fn(lambda each: self._train_step(*each), (frames, seeds), **one_by_one)

    def _train_step(self, frames: tf.Tensor, seed: tf.Tensor) -> StepResult:
        result = self.strategy.run(self._replica_step, args=(frames, seed))
        return tf.nest.map_structure(lambda x: self.strategy.experimental_local_results(x)[0], result)

    def _replica_step(self, frames: tf.Tensor, seed: tf.Tensor) -> StepResult:
        replica, replicas = tf.distribute.get_replica_context(), self.strategy.num_replicas_in_sync
        first = replica.replica_id_in_sync_group * self.shares
        parts = [self._differentiate(frames, seed, tf.constant(i) + first) for i in range(self.shares)]
        gradients, terms = tf.nest.map_structure(
            lambda *each: tf.add_n(each) / self.shares, *((part.gradients, part.terms) for part in parts)
        )
        masks = tf.nest.map_structure(lambda *each: tf.concat(each, 0), *(part.masks for part in parts))
        if replicas > 1:
            gradients, terms = replica.all_reduce(tf.distribute.ReduceOp.MEAN, (gradients, terms))
            assignment, certainty = replica.all_gather((tf.cast(masks.assignment, tf.int32), masks.certainty), axis=0)
            masks = Masks(tf.cast(assignment, tf.uint8), certainty)  # collectives know no bytes
        norm = tf.linalg.global_norm(gradients)
        if self.config.clip_norm:
            gradients, _ = tf.clip_by_global_norm(gradients, self.config.clip_norm, use_norm=norm)
        # Keras sums over the replicas again. It clips before it sums, so clipping cannot be left to it.
        shares = [gradient / replicas for gradient in gradients]
        self.optimizer.apply_gradients(zip(shares, self.model.trainable_variables))
        return StepResult(terms, masks, norm)

    def _differentiate(self, frames: tf.Tensor, seed: tf.Tensor, share: tf.Tensor) -> Differentiated:
        """What the share of that number gives, out of those of all replicas."""
        nr_shares = self.strategy.num_replicas_in_sync * self.shares
        with tf.GradientTape() as tape:
            result = forward(self.setup, frames, seed, share=(share, nr_shares))
            loss = self.setup.loss.total(result.terms)
        gradients = tape.gradient(loss, self.model.trainable_variables)
        batch_means = LossTerms(*(tf.reduce_mean(term, axis=0, keepdims=True) for term in result.terms))
        return Differentiated(gradients, batch_means, masks_of(result.outputs["gamma"]))

    def _train_epoch(self) -> None:
        config, progress = self.config, self.progress
        total, done = self._steps_per_epoch(), int(progress.epoch_step)
        shuffled = self.training.shuffled_batches(config.batch_size, config.seed, int(progress.epoch), skip=done)
        batches = shuffled.as_numpy_iterator()  # cutting windows out of tensors takes 1 ms a step
        saved = started = time.monotonic()
        with tqdm(
            total=total * config.batch_size, initial=done * config.batch_size, unit="seq", disable=self._no_bar,
            leave=False, desc=f"epoch {int(progress.epoch) + 1}",
        ) as bar:  # fmt: skip
            while call := self._next_call(batches):
                first, result = self.step, self._train_steps(call.frames, call.seeds)
                nr_taken, weights = len(call.frames), self.step_weights[call.frames.shape[2] - 1]
                terms = {name: np.asarray(term, float)[:, 0] for name, term in result.terms._asdict().items()}  # [n, T]
                losses = per_sequence(terms, weights)  # [n]: of the means over a batch as of a sequence
                finite = np.isfinite(losses["loss"]) & np.isfinite(result.gradient_norm)
                if not finite.all():
                    raise UserError(
                        f"the loss or its gradient is not finite at step {first + 1 + np.argmin(finite)}; the last "
                        f"good checkpoint, {self.checkpoints.latest.latest_checkpoint or 'none yet'}, is kept"
                    )
                progress.epoch_step.assign_add(nr_taken)
                progress.loss_sums.assign_add([losses[name].sum() for name in progress.LOSSES])
                if (first + nr_taken) // SCORE_EVERY > first // SCORE_EVERY:
                    last = {name: float(values[-1]) for name, values in losses.items()}
                    masks = Masks(*(part[-1] for part in result.masks))
                    bar.set_postfix(self._score_step(last, masks, call.groups, weights), refresh=False)
                bar.update(nr_taken * config.batch_size)
                now = time.monotonic()
                progress.train_seconds.assign_add(now - started)
                progress.wall_time.assign_add(now - started)
                started = now
                self._stop_if_interrupted()
                if now - saved > CHECKPOINT_SECONDS:
                    self._save_latest()
                    saved = now

    def _next_call(self, batches: Iterator[Batch]) -> Call | None:
        """What the device works on next: no further than the end of the epoch, the stage or --max_steps."""
        config, step = self.config, self.step
        nr_steps, left = stage_at(self.stages, step)
        limits = (config.steps_per_call, left, config.max_steps - step if config.max_steps else None)
        taken = list(itertools.islice(batches, max(0, min(limit for limit in limits if limit is not None))))
        if not taken:
            return None
        frames = []
        for i, batch in enumerate(taken):
            # A window of the sequence, drawn from the number of the step: the same one after an interruption.
            start = np.random.default_rng((config.seed, step + i)).integers(config.nr_steps - nr_steps + 1)
            window = slice(start, start + nr_steps + 1)
            frames.append(batch.frames[:, window])
        seeds = [[config.seed, step + i] for i in range(len(taken))]
        return Call(tf.constant(np.stack(frames)), tf.constant(seeds), batch.groups[:, window])

    def _score_step(
        self, losses: dict[str, float], masks: Masks, groups: np.ndarray, weights: np.ndarray
    ) -> dict[str, str]:
        """Adds the scores of a training batch to the epoch's and to TensorBoard; returns what the bar shows."""
        scores = means(mask_scores(masks, self.setup.targets(groups)), weights)
        self.progress.score_sums.assign_add([scores[name] for name in Progress.SCORES])
        self.progress.nr_scored.assign_add(1)
        if self.chief:
            self.summaries.scalars("train", losses | scores, self.step)
        return {"loss": f"{losses['loss']:.0f}", "ARI": f"{scores['ari']:.3f}"}

    def _validate(self) -> dict[str, float]:
        started = time.monotonic()
        batches = self.validation.batches(self.config.batch_size)
        with tqdm(total=len(batches), desc="validation", unit="batch", disable=self._no_bar, leave=False) as bar:

            def after_batch():
                bar.update()
                self._stop_if_interrupted()

            scores = score_batches(self.scorer, batches, self.config.seed, after_batch)
        self.progress.wall_time.assign_add(time.monotonic() - started)
        validated = means(scores, self.step_weights[self.config.nr_steps])
        # The mean is held down by the first steps, where the components still settle who takes what.
        validated["ami_last_step"] = float(scores["ami"][:, -1].mean())
        return agree(self.strategy, validated)

    def _finish_epoch(self, validated: dict[str, float]) -> None:
        progress = self.progress
        improved = validated["loss"] < progress.best_loss
        complete = bool(progress.epoch_step == self._steps_per_epoch())
        if complete:
            progress.epoch.assign_add(1)
            progress.stale_epochs.assign(0 if improved else progress.stale_epochs + 1)
            if improved:
                progress.best_loss.assign(validated["loss"])
            self._report(validated, complete)
            progress.start_epoch()
        else:  # --max_steps fell inside the epoch: a longer run goes on here, so `progress` concludes nothing
            self._report(validated, complete)
        if improved:
            self._save(self.checkpoints.best)

    def _report(self, validated: dict[str, float], complete: bool) -> None:
        """metrics.jsonl, TensorBoard and one line for the reader."""
        if not self.chief:
            return
        progress = self.progress
        trained = progress.epoch_means()
        speed = int(progress.epoch_step) * self.config.batch_size / max(float(progress.train_seconds), 1e-9)
        epoch = int(progress.epoch) + (not complete)
        line = {"epoch": epoch, "complete": complete, "step": self.step, "train": trained, "validation": validated,
                "sequences_per_second": speed, "wall_time": float(progress.wall_time)}  # fmt: skip
        append_metrics(self.run_dir, line)
        self.summaries.scalars("validation", validated, self.step)
        self.summaries.scalars("train", {"sequences_per_second": speed}, self.step)
        self.summaries.pictures(self._pictured(), PICTURED, self.step)
        print(
            f"epoch {epoch}  step {self.step}  loss {trained['loss']:.1f}  validation loss {validated['loss']:.1f}  "
            f"AMI {validated['ami']:.3f}  ARI {validated['ari']:.3f}  {speed:.1f} sequences/s  "
            f"{float(progress.wall_time) / 60:.1f} min",
            flush=True,
        )

    def _pictured(self):
        batch = next(iter(self.validation.batches(PICTURED)))
        return forward(self.setup, batch.frames, sequence_seeds(self.config.seed, 0, len(batch.frames)))

    def _save_latest(self) -> None:
        """Writes a checkpoint to the latest chain."""
        self._save(self.checkpoints.latest)

    def _save(self, manager: tf.train.CheckpointManager) -> None:
        if self.chief:
            self.checkpoints.save(manager, self.step)

    def _say(self, line: str) -> None:
        if self.chief:
            print(line, flush=True)

    @property
    def _no_bar(self) -> bool | None:
        return None if self.chief else True  # None: tqdm's own choice, a bar on terminals only

    def _stop_if_interrupted(self) -> None:
        if self._caught:
            raise Interrupted(self._caught[0], self.step)


def _step_weights(config: Config, nr_steps: int) -> list[float]:
    try:
        return resolve_step_weights(config.loss_step_weights, nr_steps)
    except ValueError as error:
        raise UserError(f"--curriculum={config.curriculum}, stage of {nr_steps} steps: {error}") from error


@contextlib.contextmanager
def _caught_signals() -> Iterator[list[int]]:
    """Collects SIGINT and SIGTERM instead of dying; a second one dies as usual."""
    caught: list[int] = []
    previous = {}

    def catch(signum, _):
        caught.append(signum)
        signal.signal(signum, previous[signum])

    for signum in (signal.SIGINT, signal.SIGTERM):
        previous[signum] = signal.signal(signum, catch)
    try:
        yield caught
    finally:
        for signum, handler in previous.items():
            signal.signal(signum, handler)
