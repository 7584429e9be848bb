"""Scores of a trained model: on any data set of its image size, with any K, for any length."""

from collections.abc import Callable

from tqdm import tqdm

from data_gen.digits import DIGEST, may_show
from nem_tf import build, datasets
from nem_tf.data import Split, identity_of
from nem_tf.data.generate import digest_of
from nem_tf.errors import UserError
from nem_tf.pace import Pace
from nem_tf.scoring.passes import make_scorer, score_batches
from nem_tf.scoring.record import Record
from nem_tf.scoring.summary import summarise
from nem_tf.settings import Settings
from nem_tf.trained import Trained
from nem_tf.training import devices
from nem_tf.unrolling import Rollout


def evaluate(
    trained: Trained,
    tested: Settings,
    split: str = "test",
    initialisations: int = 1,
    rollout: Rollout | None = None,
    say: Callable[[str], object] = print,
) -> Record:
    """Scores every sequence of a split once, or once per initialisation. Generates what is missing of published data.

    Arguments:
        trained: the run or the preset.
        tested: its settings with the evaluation's own data set, K, number of steps, sizes, batch size and seed.
        split: "training", "validation" or "test".
        initialisations: draws of noise and initial responsibilities per sequence, from the seeds seed, seed + 1, ..
        rollout: from where, and how, the model is fed its own predictions.
        say: prints a line: after a minute how long it will take, where no progress bar does.

    Raises:
        UserError: data, weights and settings do not fit together.
    """
    check_rollout(rollout, tested)
    # Of the same digits and seed as the training: others might lie in what it was trained on.
    sequences = sequences_for(trained, tested, split, int(trained.data.get("seed", 0)), collisions=True)
    path = datasets.locate(tested.data.dataset, tested.paths.data_dir)
    data = identity_of(path)
    model = build.build_model(tested, sequences.image_shape, sequences.nr_actions)
    checkpoint, training = build.restore(trained, model)
    _warn_of_digits(data, training["origin"], say)
    scorer = make_scorer(
        build.build_system(tested, model),
        devices.use_xla(tested.execution.jit),
        rollout,
        build.shares_of(tested),
        not sequences.is_static,
    )
    picks = sequences.in_order(tested.optimisation.batch_size)
    total = initialisations * len(picks)
    pace, done = Pace(say), 0
    with tqdm(total=total, desc=f"{path.stem} {split}", unit="batch", disable=None, leave=False) as bar:

        def advance():
            nonlocal done
            done += 1
            bar.update()
            if bar.disable:
                pace.after(done, total - done, f"batch {done} of {total}; about {{}} to the scores")

        pace.begin()
        draws = [
            score_batches(scorer, sequences.batches(picks), tested.seed + i, advance) for i in range(initialisations)
        ]
    scores, per_step = summarise(draws, build.weights_of_steps(tested), rollout)
    return Record(
        run_dir=trained.name,
        checkpoint=checkpoint,
        which=trained.which,
        split=split,
        sequences=len(sequences),
        initialisations=initialisations,
        rollout_from=None if rollout is None else rollout.last_seen,
        rollout=None if rollout is None else {"form": rollout.form, "noise": rollout.noise},
        trained=trained.settings.to_dict(),
        tested=tested.to_dict(),
        trained_data=dict(trained.data),
        tested_data=data,
        training=training,
        scores=scores,
        per_step=per_step,
    )


def check_rollout(rollout: Rollout | None, tested: Settings) -> None:
    """Refuses a roll-out that there cannot be.

    Raises:
        UserError: the model does not predict, or there is no step for it.
    """
    if rollout is None:
        return
    steps = tested.data.nr_steps - (rollout.form == "soft")  # the first of these is fed what it imagines
    if tested.model.target != "next_frame":
        raise UserError(
            f"--rollout_from={rollout.last_seen} expects a model that predicts the next frame; this one has "
            f"--target={tested.model.target}"
        )
    if steps < 1:
        raise UserError(f"--nr_steps={tested.data.nr_steps} leaves nothing to imagine: expected at least 2")
    if rollout.last_seen >= steps:
        raise UserError(
            f"--rollout_from={rollout.last_seen} leaves nothing to imagine: expected at most {steps - 1} with "
            f"--nr_steps={tested.data.nr_steps}"
        )


def sequences_for(trained: Trained, tested: Settings, split: str, seed: int, collisions: bool = False) -> Split:
    """Returns the sequences that a model is tested on; generates what is missing of published data.

    Arguments:
        trained, tested, split: see `evaluate`.
        seed: of what is generated.
        collisions: whether to read where objects collide, if the file says it.

    Raises:
        UserError: data and model do not fit together, or the data show digits that the model may have been trained on.
    """
    path = datasets.locate(tested.data.dataset, tested.paths.data_dir)
    _check_digits(trained, path, tested.paths.mnist)  # before anything is written
    build.provide(tested, (split,), dict(trained.source), seed)
    _check_digits(trained, path)
    sequences = build.load(tested, split, collisions, trained.nr_actions)
    if sequences.image_shape != trained.image_shape:
        raise UserError(
            f"{path}: {trained.name} was trained on frames of {trained.image_shape}, not {sequences.image_shape}"
        )
    return sequences


def _check_digits(trained, path, mnist=""):
    """Refuses sequences of other digits than those of the training: of a file, or of the source that makes it."""
    digits = _digits_of(trained.data)
    if not digits:
        return
    if path.exists():
        shown, what = _digits_of(identity_of(path)), f"{path} is drawn from"
        hint = "name another --data_dir, where data of the same digits are generated"
    elif mnist:
        shown, what = digest_of(mnist), f"--mnist={mnist} holds"
        hint = "leave it out, or name those of its training"
    else:
        return
    if shown not in (None, digits):
        raise UserError(
            f"{what} other digits than {trained.name} was trained on, and may show those it was trained on: {hint}"
        )


def _warn_of_digits(data, origin, say):
    """Says it if digits of trainings before the last one may be among those that are tested."""
    tested = data.get("settings", {})
    while tested.get(DIGEST) and origin is not None:
        seen = origin["data"].get("settings")
        if isinstance(seen, dict) and may_show(tested, seen):
            say(f"the weights began with {seen.get('digits')}, which may be among the digits that they are tested on")
            return
        origin = origin["origin"]


def _digits_of(identity):
    return identity.get("settings", {}).get(DIGEST)
