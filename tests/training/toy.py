"""A training of milliseconds: the real trainer, feed, progress, checkpoints and reports around a step without a graph.

The step is a Python function that moves three numbers by what its frames and its seed say, so that a training whose
frames, seeds, order or weights are not those of another one ends with other numbers.
"""

from typing import NamedTuple

import numpy as np
import tensorflow as tf

from nem_tf.alignment import Alignment
from nem_tf.data.packed import Packed
from nem_tf.data.split import Split
from nem_tf.run import Run
from nem_tf.training.checkpoints import Checkpoints
from nem_tf.training.feed import Feed
from nem_tf.training.progress import Progress
from nem_tf.training.reporting import Reporter
from nem_tf.training.trainer import Limits, Trainer
from nem_tf.unrolling import parse_curriculum

SIZE, BATCH, EM_STEPS = 13, 3, 4  # four training steps an epoch, one sequence left over
STEPS = SIZE // BATCH
DATA = {"file": "toy.h5", "sha256": "0"}


class ToySplit(Split):
    """Without tf.data, whose threads take longer to start than the toy to train."""

    def batches(self, picks):
        return map(self.batch, picks)


def toy_split(size=SIZE, seed=0):
    """Noise, with labels that follow from the frames, so that those of other frames are noticed."""
    frames = np.random.default_rng(seed).integers(0, 2, (size, EM_STEPS + 1, 4, 4, 1))
    features, labels = Packed(size, frames.shape[1:]), Packed(size, frames.shape[1:])
    features.put(0, frames)
    labels.put(0, 3 * frames)
    return ToySplit(features, labels, EM_STEPS + 1)


class Terms(NamedTuple):
    loss: np.ndarray  # [n, T]


class Result(NamedTuple):
    terms: Terms
    gradient_norm: np.ndarray
    masks: np.ndarray  # of the last step


class Toy:
    """All pieces of a toy training, to be replaced at will before `fit`; and what the step was given, in `seen`.

    Arguments:
        losses: of the validations one after the other, in the place of those that follow from the weights.
    """

    def __init__(
        self, run_dir, *, losses=None, stop=lambda: 0, part=lambda: None, pictured=None, steps_per_call=1,
        curriculum="", data=DATA, max_epochs=2, max_steps=0, patience=10, writes=True, scores=("ari",),
    ):  # fmt: skip
        self.run, self.seen = Run(run_dir), []
        self.weights = tf.Variable(np.zeros(3))
        self.losses = losses and dict(enumerate(losses, start=1))
        self.progress = Progress(["loss"], scores)
        self.checkpoints = Checkpoints(
            self.run.path, data, writes=writes, model=Weights(self.weights), progress=self.progress
        )
        self.reporter = Reporter(self.run, {"seed": 1}, pictured, silent=not writes)
        stages = parse_curriculum(curriculum, EM_STEPS)
        self.feed = Feed(
            toy_split(), Alignment(1), stages, EM_STEPS, batch_size=BATCH, seed=1, steps_per_call=steps_per_call
        )
        self.trainer = Trainer(
            step=lambda *args: self.step(*args),
            reduce=lambda terms: {"loss": terms["loss"].mean(1)},
            score=lambda *args: self.score(*args),
            validate=lambda after_batch: self.validate(after_batch),
            feed=self.feed,
            progress=self.progress,
            checkpoints=self.checkpoints,
            reporter=self.reporter,
            limits=Limits(max_epochs, max_steps, patience),
            stop=stop,
            part=part,
        )

    def fit(self):
        """Resumes and trains, as the program does; the directory is that of a run by then."""
        self.run.path.mkdir(parents=True, exist_ok=True)
        self.resumed_from = self.trainer.resume()
        return self.trainer.fit()

    def step(self, frames, seeds, actions):
        losses = []
        for batch, seed in zip(frames, seeds):
            draws = np.random.default_rng(seed).normal(size=3)
            place = np.arange(batch.size) % 7 + 1
            pull = [(batch.ravel() * place**power).mean() for power in (1, 2, 3)]
            losses.append(np.linspace(1, 2, batch.shape[1] - 1) * (1 + np.square(self.weights - pull).mean()))
            self.weights.assign(0.75 * self.weights + 0.125 * np.array(pull) + 0.01 * draws)
            self.seen.append((int(seed[1]), batch.shape[1]))
        return Result(Terms(np.array(losses)), np.ones(len(frames)), frames[-1])

    def score(self, result, call):
        """1 where the labels are those of the masks, and something that tells one batch from another."""
        same = np.array_equal(3 * result.masks[..., 0], call.groups)
        return {"ari": float(same) + result.masks.mean()}

    def validate(self, after_batch):
        for _ in range(2):
            after_batch()
        epoch = -(-int(self.progress.step) // STEPS)
        loss = self.losses[epoch] if self.losses else float(100 - np.sum(self.weights))
        return {"loss": loss, "ami": float(np.sin(self.weights).sum())}

    @property
    def at(self):
        return int(self.progress.step)


class Weights(tf.Module):
    def __init__(self, variable):
        super().__init__()
        self.variable = variable
