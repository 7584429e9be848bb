"""Says which data a file holds, so that two programs can tell whether they mean the same."""

import json

from data_gen import __version__
from data_gen.generator import Generator


def identity_of(name: str, generator: Generator, seed: int) -> dict[str, str | int]:
    """Identifies a stream of sequences: data of equal identity differ in nothing but their number and length.

    Arguments:
        name: name of the data set.
        generator: draws it.
        seed: of all its random streams.

    Returns:
        dataset: the name.
        generator: "data_gen".
        version: of the data, `data_gen.__version__`.
        seed: the seed.
        settings: JSON of all the rules, and of a digest of the digits where there are any.

    Raises:
        DataGenError: the digits cannot be had.
    """
    return {
        "dataset": name,
        "generator": "data_gen",
        "version": __version__,
        "seed": seed,
        "settings": json.dumps(generator.settings, sort_keys=True),
    }
