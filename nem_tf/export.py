"""Exports a trained run as a SavedModel:  python -m nem_tf.export --run_dir=runs/NAME --export_dir=DIR"""

from pathlib import Path

from absl import flags

from nem_tf import cli
from nem_tf.errors import UserError
from nem_tf.run import Run
from nem_tf.settings import define_flags, from_flagfile


def define(options: flags.FlagValues) -> None:
    """Defines the flags of this program."""
    define_flags(options, ["run_dir"])
    this = {"module_name": cli.OWN_GROUP, "flag_values": options}
    flags.DEFINE_string("export_dir", None, "New directory for the SavedModel; by default RUN_DIR/saved_model.", **this)
    flags.DEFINE_enum(
        "checkpoint", "best", ("best", "latest"), "Checkpoint: best by validation loss, or latest.", **this
    )


def main(options: flags.FlagValues) -> None:
    if not options.run_dir:
        raise UserError("--run_dir is missing: expected the directory of a trained run, e.g. runs/flying_shapes_k4")
    run = Run(options.run_dir)
    settings = from_flagfile(run.flagfile)
    export_dir = Path(options.export_dir).expanduser() if options.export_dir else run.path / "saved_model"
    if export_dir.exists():
        raise UserError(f"--export_dir={export_dir} exists: choose a new one")
    with cli.quiet_start():
        from nem_tf import build
        from nem_tf.serving import export
        from nem_tf.training import devices
    strategy = build.build_strategy(settings.replace(distribute="none"))
    execution = settings.execution
    print(devices.described(strategy, build.shares_of(settings), execution.precision, execution.jit), flush=True)
    model = build.build_model(settings, run.image_shape)
    checkpoint = build.restore(run, settings, options.checkpoint, model)
    export(model, build.alignment_of(settings), export_dir)
    print(f"{checkpoint} exported to {export_dir}")


if __name__ == "__main__":
    cli.run(main, define, "nem_tf.export", __doc__)
