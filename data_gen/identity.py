"""Says which data a file holds, so that two programs can tell whether they mean the same."""

import json
from collections.abc import Mapping

from data_gen import __version__


def identity_of(name: str, settings: Mapping[str, object], seed: int) -> dict[str, str | int]:
    """Identifies a stream of sequences: data of equal identity differ in nothing but their number and length.

    Arguments:
        name: name of the data set.
        settings: all its rules, fit for JSON: the `settings` of a generator, or what is made of people's videos.
        seed: of all its random streams.

    Returns:
        dataset: the name.
        generator: "data_gen".
        version: of the data, `data_gen.__version__`.
        seed: the seed.
        settings: JSON of the rules, a digest of the digits or of the videos among them where there are any.
    """
    return {
        "dataset": name,
        "generator": "data_gen",
        "version": __version__,
        "seed": seed,
        "settings": json.dumps(settings, sort_keys=True),
    }
