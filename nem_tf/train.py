"""Trains RNN-EM:  python -m nem_tf.train --dataset=flying_shapes --k=4"""

from typing import Any

from absl import flags

from nem_tf import cli, datasets
from nem_tf.errors import UserError
from nem_tf.run import Run
from nem_tf.settings import Settings, check_resume, define_flags, from_flagfile, given_flags, resolve, to_flagfile


def define(options: flags.FlagValues) -> None:
    """Defines the flags of this program."""
    define_flags(options)
    flags.DEFINE_boolean(
        "amend",
        False,
        "Resume with another learning rate, schedule, curriculum or clipping than the run has; its history records it.",
        module_name=cli.OWN_GROUP,
        flag_values=options,
    )


def main(options: flags.FlagValues) -> None:
    given = given_flags(options)
    settings = resolve(given)
    path = datasets.locate(settings.data.dataset, settings.paths.data_dir)
    if not datasets.is_published(settings.data.dataset) and not path.exists():
        raise UserError(f"--dataset={settings.data.dataset} is missing: expected an HDF5 file")
    run = Run(settings.paths.run_dir)
    check_run(run, settings, options.amend)
    if settings.execution.distribute != "multi_worker":  # whose hosts share the directory
        with run.lock():  # another process training there is said before TensorFlow is loaded
            pass
    with cli.quiet_start():
        from nem_tf import build
        from nem_tf.training import devices
    strategy = build.build_strategy(settings)
    chief = devices.is_chief(strategy)
    if not chief:
        return train(settings, strategy)
    print(build.described(strategy, settings), flush=True)
    if not datasets.is_published(settings.data.dataset) and not run.exists():
        suited = {name: value for name, value in datasets.preset(settings.data.dataset).items() if name not in given}
        print(f"for {path}, chosen:", *(f"--{name}={value}" for name, value in suited.items()), flush=True)
    with run.lock():
        amended = check_run(run, settings, options.amend)  # another process may have begun it since
        if settings.optimisation.init_from and not run.exists():
            build.first_weights(settings.optimisation.init_from, settings)  # said before data are generated
        build.provide(settings, ("training", "validation"))
        train(settings, strategy, amended)


def check_run(run: Run, settings: Settings, amend: bool) -> dict[str, Any]:
    """Refuses a run directory that is another run's; returns the settings that are amended.

    Raises:
        UserError: the directory is of other settings, data or code.
    """
    if not run.exists():
        return {}
    return check_resume(run.path, from_flagfile(run.flagfile), settings, amend)


def train(settings: Settings, strategy: Any, amended: dict[str, Any] | None = None) -> None:
    """Trains a run from where it stands, on data that are there.

    Arguments:
        settings: of the run.
        strategy: its devices.
        amended: settings that change on the way, name -> old and new value.

    Raises:
        Interrupted: by a signal; the checkpoint is written.
        UserError: settings and data do not fit, or another worker was lost.
    """
    import tensorflow as tf

    from nem_tf import build
    from nem_tf.training import devices
    from nem_tf.training.signals import caught_signals, stop_wish

    with caught_signals() as caught:
        try:
            devices.agree(strategy, {"data is there": 1.0})
            _check_batch(settings)
            sequences = build.load(settings, "training")
            validation = build.load(settings, "validation", nr_actions=sequences.nr_actions)
            if validation.image_shape != sequences.image_shape:
                raise UserError(
                    f"--dataset={settings.data.dataset}: validation/features has frames of {validation.image_shape}, "
                    f"and training/features of {sequences.image_shape}: expected the same"
                )
            if validation.is_static != sequences.is_static:
                shown = {True: "one frame a sequence, a still image", False: "several"}
                raise UserError(
                    f"--dataset={settings.data.dataset}: validation/features has {shown[validation.is_static]}, and "
                    f"training/features {shown[sequences.is_static]}: expected the same"
                )
            training = build.Training(settings, sequences, validation, strategy, stop_wish(caught, strategy))
            begin(training, amended or {})
            if build.takes_actions(settings) and not training.nr_actions:
                dataset, network = settings.data.dataset, settings.model.network
                training.reporter.say(f"--dataset={dataset} has no actions: --network={network} does without them")
            training.trainer.fit()
        except (tf.errors.UnavailableError, tf.errors.InternalError, tf.errors.AbortedError) as error:
            if not devices.is_multi_worker(strategy):
                raise
            place = ("Graph execution error", "Detected at", "  File")  # where it was noticed, of no use to the reader
            reasons = (line for line in error.message.splitlines() if line and not line.startswith(place))
            raise UserError(
                "another worker was lost; start all of them again to resume from the last checkpoint "
                f"({next(reasons, error.message)})"
            ) from error


def _check_batch(settings):
    size, batch = settings.data.train_size, settings.optimisation.batch_size
    if size < batch:
        raise UserError(
            f"--train_size={size} is less than one batch: --batch_size={batch}; expected --batch_size={size} at most, "
            "or more sequences (of videos, shorter --frames of data_gen make more, under another name)"
        )


def begin(training: Any, amended: dict[str, Any]) -> None:
    """Takes up a run from its last checkpoint, or begins it; writes what it is.

    Raises:
        UserError: its data or its first weights do not fit, or its directory cannot be written.
    """
    from nem_tf.training import devices

    run, settings, say = training.run, training.settings, training.reporter.say
    if run.exists() and run.data != training.data:
        raise UserError(
            f"{run.path} was trained on other data ({run.data}) than those given ({training.data}): choose another "
            "--run_dir, or give the data it was trained on"
        )
    if run.exists() and run.nr_actions != training.nr_actions:
        raise UserError(
            f"{run.path} takes actions of {run.nr_actions} entries, and the data have {training.nr_actions}: choose "
            "another --run_dir"
        )
    resumed = training.trainer.resume()
    origin = run.origin if run.exists() else None
    if resumed:
        say(f"resuming from {resumed}")
    elif settings.optimisation.init_from:
        origin = training.start_from(settings.optimisation.init_from)
        say(f"weights of {settings.optimisation.init_from} at step {origin['step']}")
        theirs, ours = origin["trained"]["model"]["k"], settings.model.k
        if theirs != ours:
            say(f"they were trained with --k={theirs}, and go on with --k={ours}")
    devices.agree(training.strategy, {"has read the run": 1.0})  # before the chief writes there
    if not training.chief:
        return
    say(f"training into {run.path}")
    if amended:
        step = int(training.progress.step)
        changes = {name: {"from": old, "to": new} for name, (old, new) in amended.items()}
        run.add_to_history({"step": step, "amended": changes})
        say(f"amended at step {step}: " + ", ".join(f"{name} {old} to {new}" for name, (old, new) in amended.items()))
    shapes = {"nr_actions": training.nr_actions, "is_static": training.is_static}
    run.write(to_flagfile(settings), training.image_shape, training.data, training.source, origin, **shapes)


if __name__ == "__main__":
    cli.run(main, define, "nem_tf.train", __doc__)
