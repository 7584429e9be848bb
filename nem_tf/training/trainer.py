"""Training: the order of steps, validations, checkpoints and reports. All of them are given to it."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from nem_tf.errors import Interrupted, UserError
from nem_tf.pace import Pace
from nem_tf.training.checkpoints import Checkpoints
from nem_tf.training.feed import Call, Feed
from nem_tf.training.progress import Progress
from nem_tf.training.reporting import Reporter

SCORE_EVERY = 10  # training steps between two scorings of the training masks
CHECKPOINT_SECONDS = 600  # between two checkpoints inside an epoch


@dataclass(frozen=True)
class Limits:
    """Where a training ends; see the settings of the same names."""

    max_epochs: int
    max_steps: int = 0
    patience: int = 10

    def reached(self, epoch: int, step: int, stale_epochs: int) -> str | None:
        """Returns the limit that is reached, as a reader is told; None if there is none."""
        if epoch >= self.max_epochs:
            return f"--max_epochs={self.max_epochs} reached"
        if 0 < self.max_steps <= step:
            return f"--max_steps={self.max_steps} reached"
        if stale_epochs >= self.patience:
            return f"no better validation loss in {self.patience} epochs"
        return None


class Trainer:
    """Trains from wherever the checkpoints stand until a limit is reached. Constructing it writes nothing.

    Arguments:
        step: (frames [n, B, F, H, W, C], seeds [n, 2], actions [n, B, F, A] or None) -> a result with `terms` (named,
            [n, T] each) and `gradient_norm` [n], as `TrainStep` gives.
        reduce: the terms by name, [n, T] each -> losses by name, [n] each; "loss" among them.
        score: (result, call) -> scores of the last step's masks by name; {} where there are none.
        validate: (what to call after each batch) -> losses and scores of the validation split by name.
        feed, progress, checkpoints, reporter, limits: see there.
        stop: which signal asks to stop, 0 for none.
        part: called at the end, when all is written; see `devices.part`.
    """

    def __init__(
        self,
        *,
        step: Callable[[np.ndarray, np.ndarray, np.ndarray | None], Any],
        reduce: Callable[[Mapping[str, np.ndarray]], Mapping[str, np.ndarray]],
        score: Callable[[Any, Call], Mapping[str, float]],
        validate: Callable[[Callable[[], None]], dict[str, float]],
        feed: Feed,
        progress: Progress,
        checkpoints: Checkpoints,
        reporter: Reporter,
        limits: Limits,
        stop: Callable[[], int] = lambda: 0,
        part: Callable[[], None] = lambda: None,
    ):
        self._step, self._reduce, self._score, self._validate = step, reduce, score, validate
        self._feed, self._progress, self._checkpoints, self._reporter = feed, progress, checkpoints, reporter
        self._limits, self._stop, self._part = limits, stop, part
        self._pace = Pace(reporter.say)

    def resume(self) -> str | None:
        """Restores the last checkpoint that can be read; returns its path, None where training begins.

        Raises:
            UserError: there are checkpoints and none can be read, or they were trained on other data.
        """
        return self._checkpoints.resume()

    def fit(self) -> str:
        """Trains; returns the limit that ended it.

        Raises:
            Interrupted: a signal asked to stop; the checkpoint is written.
            UserError: the loss is not finite, or a checkpoint cannot be written.
        """
        progress = self._progress
        self._reporter.start(int(progress.step), int(progress.validated_step))
        try:
            while True:
                if self._validation_is_due():
                    self._conclude(self._validated())
                    self._save("latest")
                reached = self._limits.reached(int(progress.epoch), int(progress.step), int(progress.stale_epochs))
                if reached:
                    self._reporter.say(f"finished at step {int(progress.step)}: {reached}")
                    self._part()
                    return reached
                self._train()
                self._save("latest")  # so that nothing is trained twice if the validation is interrupted
        finally:
            self._reporter.close()

    def _validation_is_due(self):
        """At the end of an epoch and where --max_steps ends the training, unless it was done before an interruption."""
        progress, limits = self._progress, self._limits
        ends = progress.epoch_step == self._feed.steps_per_epoch or 0 < limits.max_steps <= progress.step
        return bool(ends and progress.step > progress.validated_step)

    def _train(self):
        """Trains to the end of the epoch, or to --max_steps."""
        progress, limits, batch = self._progress, self._limits, self._feed.batch_size
        position = (int(progress.epoch), int(progress.epoch_step), int(progress.step))
        most = limits.max_steps - position[2] if limits.max_steps else None
        saved = started = time.monotonic()
        self._pace.begin()
        with self._reporter.bar(
            f"epoch {position[0] + 1}", batch * self._feed.steps_per_epoch, batch * position[1]
        ) as bar:
            for call in self._feed.calls(*position, most):
                result = self._step(call.frames, call.seeds, call.actions)
                losses = self._reduce({name: np.asarray(term) for name, term in result.terms._asdict().items()})
                self._check_finite(losses["loss"], np.asarray(result.gradient_norm))
                before, now = int(progress.step), time.monotonic()
                progress.add_steps(losses, now - started)
                started = now
                if int(progress.step) // SCORE_EVERY > before // SCORE_EVERY:
                    self._report_step(losses, self._score(result, call), bar)
                bar.update(batch * len(call.frames))
                self._tell_pace(bar, int(progress.step) - position[2], most)
                self._stop_if_asked()
                if now - saved > CHECKPOINT_SECONDS:
                    self._save("latest")
                    saved = now

    def _tell_pace(self, bar, steps, most):
        if bar.disable:
            done, of_epoch = int(self._progress.epoch_step), self._feed.steps_per_epoch
            left = min(of_epoch - done, most - steps) if most else of_epoch - done
            self._pace.after(steps, left, f"step {done} of {of_epoch} of this epoch; about {{}} to a validation")

    def _report_step(self, losses, scores, bar):
        last = {name: float(values[-1]) for name, values in losses.items()}
        if scores:
            self._progress.add_scores(scores)
        self._reporter.trained(int(self._progress.step), {**last, **scores})
        shown = {"loss": last["loss"], **({"ARI": scores["ari"]} if "ari" in scores else {})}
        bar.set_postfix({name: f"{value:.3f}" for name, value in shown.items()}, refresh=False)

    def _check_finite(self, loss, norm):
        finite = np.isfinite(loss) & np.isfinite(norm)
        if not finite.all():
            newest = self._checkpoints.newest()
            kept = f"the last good checkpoint, {newest}, is kept: go on from it with --amend and" if newest else "try"
            raise UserError(
                f"the loss or its gradient is not finite at step {int(self._progress.step) + 1 + np.argmin(finite)}; "
                f"{kept} another --learning_rate or --clip_norm; frames that show nothing at all have no gradient "
                "without noise: they want a new run with a --noise_prob above 0"
            )

    def _validated(self):
        started = time.monotonic()
        scores = self._validate(self._stop_if_asked)
        self._progress.add_seconds(time.monotonic() - started)
        return scores

    def _conclude(self, scores):
        """Marks a validation as done, keeps the weights if they are the best, and reports it.

        The mark is on disk with the next of the latest checkpoints: after a crash before it all of this is done again.
        """
        progress = self._progress
        complete = bool(progress.epoch_step == self._feed.steps_per_epoch)
        speed = int(progress.epoch_step) * self._feed.batch_size / max(float(progress.train_seconds), 1e-9)
        line = {
            "epoch": int(progress.epoch) + 1,
            "complete": complete,
            "step": int(progress.step),
            "train": progress.epoch_means(),
            "validation": scores,
            "sequences_per_second": speed,
            "wall_time": float(progress.wall_time),
        }
        progress.validated_step.assign(progress.step)
        if complete:  # else a longer training goes on inside this epoch
            improved = scores["loss"] < progress.best_loss  # NaN is not
            progress.epoch.assign_add(1)
            progress.stale_epochs.assign(0 if improved else progress.stale_epochs + 1)
            progress.best_loss.assign(scores["loss"] if improved else progress.best_loss)
            progress.start_epoch()
        self._keep_if_best(scores["loss"])
        self._reporter.validated(line)

    def _keep_if_best(self, loss):
        """Keeps the weights as the best, unless better ones are kept: what is on disk counts, also after a crash."""
        kept = self._checkpoints.kept_loss()
        if kept is None or loss <= kept:
            self._progress.kept_loss.assign(loss)
            self._save("best")

    def _save(self, which):
        self._checkpoints.save(which, int(self._progress.step))

    def _stop_if_asked(self):
        signum = self._stop()
        if signum:
            self._save("latest")
            self._part()
            step = int(self._progress.step)
            raise Interrupted(f"interrupted at step {step}; the same command resumes from there", signum)
