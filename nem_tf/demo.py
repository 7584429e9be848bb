"""Shows a trained model at work:  python -m nem_tf.demo [--preset=NAME --sequences=N --output_dir=DIR]

It takes new sequences, by the rules of the model's data set, and writes how the model takes them apart: an animation of
all of them, and a picture of the first. Settings that are not given are those it was trained with.
"""

from pathlib import Path

from absl import flags

from nem_tf import cli, datasets
from nem_tf.errors import UserError
from nem_tf.files import write_whole
from nem_tf.settings import define_flags, given_flags
from nem_tf.trained import read_trained

MOST_SEQUENCES = 8  # rows of an animation that still fits a screen


def define(options: flags.FlagValues) -> None:
    """Defines the flags of this program."""
    define_flags(options, ["k", "nr_steps", "mnist"])
    this = {"module_name": cli.OWN_GROUP, "flag_values": options}
    flags.DEFINE_string("preset", "flying_shapes_k5", "Shipped model, or directory of a preset or of a run.", **this)
    flags.DEFINE_integer(
        "sequences", 4, "Number of sequences, a row each.", lower_bound=1, upper_bound=MOST_SEQUENCES, **this
    )
    flags.DEFINE_integer(
        "seed", 0, "Seed of the new sequences, of their noise and of the initial responsibilities.",
        lower_bound=0, upper_bound=2**31 - 1, **this,
    )  # fmt: skip
    flags.DEFINE_string(
        "data_dir", None, "Directory of DATASET.h5 whose test sequences are shown in place of new ones.", **this
    )
    cli.define_own_code(options)
    cli.define_rollout(options)
    flags.DEFINE_string("output_dir", "results/demo", "Directory that is written to.", **this)


def main(options: flags.FlagValues) -> None:
    trained = read_trained(options.preset, own_code=options.own_code)
    rollout = cli.given_rollout(options, trained)
    number = options.sequences
    own = {"seed": options.seed, "test_size": number, "batch_size": number}
    tested = trained.settings.for_test(**{**own, **given_flags(options)})
    data = tested.data
    path = datasets.locate(data.dataset, tested.paths.data_dir)
    if options.data_dir is not None and not datasets.is_published(data.dataset):
        raise UserError(f"--data_dir={options.data_dir} is for published data: {trained.name} is of {data.dataset}")
    if options.data_dir is not None and not path.exists():
        raise UserError(f"--data_dir={options.data_dir} has no {path.name}: without it, new sequences are shown")
    output_dir = cli.output_directory("output_dir", options.output_dir)
    with cli.quiet_start():
        from nem_tf import demonstration
        from nem_tf.scoring.tables import fixed
    shown = demonstration.show(trained, tested, options.data_dir is None, rollout)
    print(f"{trained.name}, K {tested.model.k}, on {number} sequences of {Path(data.dataset).stem}")
    if shown.ami is None:
        print("no labels, no AMI")
    else:
        steps = {data.nr_steps: ""}
        if rollout is not None and rollout.last_seen + 1 < data.nr_steps:
            steps = {rollout.last_seen + 1: ", the last that saw a frame", data.nr_steps: ", imagined"}
        for step, what in steps.items():
            print(f"AMI after step {step}{what}:", *(fixed(ami, 2) for ami in shown.ami[:, step - 1]))
    pictures = {"gif": demonstration.animation(shown), "png": demonstration.still(shown)}
    for suffix, picture in pictures.items():
        name = trained.directory.resolve().name
        if rollout is not None:
            name += f"_rollout_from{rollout.last_seen}" + ("" if options.rollout is None else f"_{options.rollout}")
        path = output_dir / f"{name}.{suffix}"
        try:
            write_whole(path, picture)
        except OSError as error:
            raise UserError(f"cannot write to --output_dir={output_dir}: {error.strerror or error}") from error
        print(f"written to {path}", flush=True)


if __name__ == "__main__":
    cli.run(main, define, "nem_tf.demo", __doc__, defaults=False)
