"""Exports a trained model:  python -m nem_tf.export --run_dir=runs/NAME --export_dir=DIR

A SavedModel, to be served; or with --format=preset a preset, to be shipped: its settings and its weights alone.
--preset=NAME takes a shipped model in place of a run.
"""

import dataclasses
import os
from pathlib import Path

from absl import flags

from nem_tf import cli
from nem_tf.errors import UserError
from nem_tf.settings import define_flags


def define(options: flags.FlagValues) -> None:
    """Defines the flags of this program."""
    define_flags(options, ["run_dir", "noise_prob"])
    cli.define_trained(options)
    this = {"module_name": cli.OWN_GROUP, "flag_values": options}
    flags.DEFINE_enum("format", "saved_model", ("saved_model", "preset"), "What is written.", **this)
    flags.DEFINE_boolean("half", False, "Keep the weights of a preset in half precision.", **this)
    flags.DEFINE_string(
        "export_dir",
        None,
        "New directory for it; by default FORMAT in the run or preset, of a shipped one in results.",
        **this,
    )


def main(options: flags.FlagValues) -> None:
    trained = cli.given_trained(options)
    settings = cli.with_noise(options, trained.settings)
    if options.export_dir == "":
        raise UserError("--export_dir is empty: expected a new directory")
    export_dir = Path(options.export_dir or trained.output_dir / options.format).expanduser()
    if os.path.lexists(export_dir):
        raise UserError(f"--export_dir={export_dir} exists: choose a new one")
    if options.half and options.format != "preset":
        raise UserError("--half is for --format=preset: a SavedModel holds the weights as they are")
    if options.noise_prob is not None and options.format == "preset":
        raise UserError("--noise_prob is for --format=saved_model: a preset keeps the settings of its training")
    with cli.quiet_start():
        from nem_tf import build
        from nem_tf.pretrained import save_to_preset
        from nem_tf.serving import export
    strategy = build.build_strategy(settings.replace(distribute="none"))
    print(build.described(strategy, settings), flush=True)
    model = build.build_model(settings, trained.image_shape, trained.nr_actions)
    checkpoint, training = build.restore(trained, model)
    if options.format == "preset":
        save_to_preset(export_dir, model, settings, dataclasses.replace(trained, training=training), options.half)
    else:
        export(model, build.alignment_of(settings), export_dir)
    print(f"{checkpoint} exported to {export_dir}")


if __name__ == "__main__":
    cli.run(main, define, "nem_tf.export", __doc__, defaults=False)
