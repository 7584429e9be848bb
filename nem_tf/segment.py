"""Masks of your own video:  python -m nem_tf.segment FILE ... --preset=NAME | --run_dir=RUN [--output=DIR]

FILE is a mp4, mov, avi, webm, mkv, gif, webp, npy, npz, h5, or a folder or a pattern of them or of pictures. Of each
it writes to DIR an overlay of its own kind, NAME.overlay.*, labels and foreground, NAME.masks.npz, and what every
component predicts, NAME.components.png. An array, or a sequence of a data set, gets a GIF.
"""

import os
import sys

from absl import flags
from tqdm import tqdm

from data_gen import DataGenError, frames
from data_gen.command_line import in_words
from nem_tf import cli, datasets, media
from nem_tf.errors import UserError
from nem_tf.settings import define_flags

PROGRAM = "nem_tf.segment"
BACKGROUNDS = ("auto", "none", "median", "first")


def define(options: flags.FlagValues) -> None:
    """Defines the flags of this program."""
    define_flags(options, ["run_dir", "k", "noise_prob"])
    cli.define_trained(options)
    this = {"module_name": cli.OWN_GROUP, "flag_values": options}
    flags.DEFINE_enum(
        "size", "fit", media.SIZES, "How a frame gets the model's size: whole, its central part, or whole between "
        "black bars.", **this,
    )  # fmt: skip
    flags.DEFINE_enum(
        "background", "auto", BACKGROUNDS, "What makes the background of a fixed camera black: the difference from the "
        "video's median over time or its first frame; auto does what was done to the videos of the training.", **this,
    )  # fmt: skip
    flags.DEFINE_string("output", "results/segment", "Directory that is written to.", **this)
    flags.DEFINE_boolean("responsibilities", False, "Keep them too, in half precision and the model's size.", **this)
    flags.DEFINE_integer(
        "seed", 0, "Seed of the initial responsibilities and the noise.", lower_bound=0, upper_bound=2**31 - 1, **this
    )
    flags.DEFINE_enum("split", "test", tuple(datasets.SPLITS), "Split of a data set that is segmented.", **this)
    flags.DEFINE_integer(
        "sequences", 4, "Number of sequences of a data set, or of an array of many videos.", lower_bound=1, **this
    )
    flags.DEFINE_enum(
        "layout", None, frames.LAYOUTS, "Axes of an array, N for videos; by default read off its shape.", **this
    )


def main(options: flags.FlagValues, *files: str) -> None:
    if not files:
        raise UserError(f"FILE is missing: expected {frames.EXPECTED}")
    if "" in files:
        raise UserError(f"a FILE is empty: expected {frames.EXPECTED}")
    trained = cli.given_trained(options)
    settings = cli.with_noise(options, trained.settings)
    if trained.nr_actions:
        raise UserError(
            f"{trained.name} takes actions with its frames, which a video does not have: expected a model that takes "
            "none; from Python, model.segment takes both"
        )
    k = options.k or settings.model.k
    output = cli.output_directory("output", options.output)
    sources, faults = frames.find(files)
    for fault in faults:
        _complain(fault)
    read = {os.path.realpath(path) for source in sources for path in source.paths}
    if any(os.path.isdir(file) and os.path.samefile(file, output) for file in files):
        raise UserError(f"--output={output} is a folder that is read: choose another one")
    if not sources:  # said before TensorFlow and a model are loaded
        sys.exit(1)
    for flag in ("split", "sequences", "layout"):
        if options[flag].present and not any(source.holds_arrays for source in sources):
            raise UserError(f"--{flag} is for npy, npz and h5, and no FILE is one of them: leave it out")
    with cli.quiet_start():
        from nem_tf import build
        from nem_tf.segmentation import Watcher, background_of, outputs_of, segment
        from nem_tf.serving import Served
    model = build.build_model(settings.replace(k=k), trained.image_shape)  # which R-NEM refuses of a k of 1
    build.restore(trained, model)
    alignment = build.alignment_of(settings)
    watcher = Watcher(Served(model, alignment), k, options.seed)
    looks = alignment.frames_for(settings.data.nr_steps) if trained.is_static else 0
    height, width, channels = trained.image_shape
    print(f"{trained.name}, K {k}, frames of {width}x{height}x{channels}", flush=True)
    taken: dict[str, str] = {}
    for source in sources:
        try:
            choice = (source, options.layout, options.split, options.sequences)
            again = frames.clips_of(*choice)  # for the background
            for clip in frames.clips_of(*choice):
                if taken.setdefault(clip.stem, clip.name) != clip.name:
                    raise UserError(
                        f"{clip.name} and {taken[clip.stem]} would both be written to {clip.stem}.masks.npz in "
                        f"--output={output}: expected files of different names, or one at a time"
                    )
                for path in outputs_of(clip, output):
                    if os.path.realpath(path) in read:
                        raise UserError(
                            f"{clip.name} would be written to {path}, which is read: choose another --output"
                        )
                kind = options.background  # of a source as a whole
                if kind == "auto":  # a data set was made with its own
                    of_training = trained.data.get("settings", {}).get("background", "none")
                    kind = "none" if clip.of_data_set else of_training
                still = background_of(next(again), watcher, options.size, kind) if kind in ("median", "first") else None
                written = segment(
                    clip, watcher, output, options.size, options.responsibilities, looks, tqdm.write, still
                )
                print(f"{clip.name}: {_told(clip, written)}", flush=True)
                for finding in written.findings:
                    print(f"  {finding.name}: {finding.seen}", flush=True)
        except (UserError, DataGenError) as error:
            faults.append(str(error))
            _complain(error)
    if faults:
        sys.exit(1)


def _complain(fault):
    print(f"{PROGRAM}: {in_words(fault)}", file=sys.stderr)


def _told(clip, written):
    height, width = clip.size
    cut = f", {clip.cut_short}" if clip.cut_short else ""
    rate, paths = clip.count / written.seconds, ", ".join(map(str, written.paths))
    return f"{clip.count} frames of {width}x{height}{cut}, {rate:.0f} frames a second computed, written to {paths}"


if __name__ == "__main__":
    cli.run(main, define, PROGRAM, __doc__, positional="FILE", defaults=False)
