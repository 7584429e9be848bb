"""Where training stands: all that a checkpoint keeps beside weights and optimizer."""

from collections.abc import Iterable, Mapping

import numpy as np
import tensorflow as tf


class Progress(tf.Module):
    """Counters, and sums over the present epoch, so that an interrupted one reports what an uninterrupted one does.

    Arguments:
        losses: names of what every training step gives.
        scores: names of what the scored ones among them give beside.
    """

    def __init__(self, losses: Iterable[str], scores: Iterable[str]):
        super().__init__()
        self.losses, self.scores = tuple(losses), tuple(scores)
        with tf.device("CPU"):  # where they are read and added to
            self.step = tf.Variable(0, dtype=tf.int64)  # training steps taken
            self.epoch = tf.Variable(0, dtype=tf.int64)  # finished ones
            self.epoch_step = tf.Variable(0, dtype=tf.int64)  # steps taken in the present one: the data position
            self.validated_step = tf.Variable(0, dtype=tf.int64)  # the last step whose weights were validated
            self.best_loss = tf.Variable(np.inf, dtype=tf.float64)  # of the validations that ended an epoch
            self.stale_epochs = tf.Variable(0, dtype=tf.int64)  # since then
            self.kept_loss = tf.Variable(np.inf, dtype=tf.float64)  # of the checkpoint kept as the best
            self.wall_time = tf.Variable(0.0, dtype=tf.float64)  # seconds, all sessions together
            self.train_seconds = tf.Variable(0.0, dtype=tf.float64)  # in the present epoch
            self.nr_scored = tf.Variable(0, dtype=tf.int64)
            self.loss_sums = tf.Variable(tf.zeros(len(self.losses), tf.float64))
            self.score_sums = tf.Variable(tf.zeros(len(self.scores), tf.float64))

    def start_epoch(self) -> None:
        """Forgets the sums and the position of the epoch before."""
        for variable in (self.epoch_step, self.loss_sums, self.score_sums, self.nr_scored, self.train_seconds):
            variable.assign(tf.zeros_like(variable))

    def add_steps(self, losses: Mapping[str, np.ndarray], seconds: float) -> None:
        """Counts training steps with their losses, [n] each, and the time they took."""
        taken = len(next(iter(losses.values())))
        self.step.assign_add(taken)
        self.epoch_step.assign_add(taken)
        self.loss_sums.assign_add([losses[name].sum() for name in self.losses])
        self.add_seconds(seconds)
        self.train_seconds.assign_add(seconds)

    def add_scores(self, scores: Mapping[str, float]) -> None:
        """Counts the scores of one training step; NaN, where a batch has no labelled pixel, counts nothing."""
        values = [scores[name] for name in self.scores]
        if np.isfinite(values).all():
            self.score_sums.assign_add(values)
            self.nr_scored.assign_add(1)

    def add_seconds(self, seconds: float) -> None:
        self.wall_time.assign_add(seconds)

    def epoch_means(self) -> dict[str, float]:
        """Returns losses over the steps of the present epoch, scores over those of them that were scored."""
        losses = self.loss_sums / tf.cast(tf.maximum(self.epoch_step, 1), tf.float64)
        averages = dict(zip(self.losses, losses.numpy().tolist()))
        if self.nr_scored > 0:
            scores = self.score_sums / tf.cast(self.nr_scored, tf.float64)
            averages |= zip(self.scores, scores.numpy().tolist())
        return averages
