"""What the published data sets set and are tested on; how a --dataset becomes a file.

A family of data sets is an entry of `FAMILIES` here, and a generator in `data_gen.registry`; `data_gen.names` takes
their names apart.
"""

import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from data_gen import names
from nem_tf.errors import UserError
from nem_tf.reading import check_regular

MOST_STEPS = 20  # EM steps of a longer file by default
USUAL_BATCH = 64  # the default
SMALL_BATCH = 16  # of a file that has fewer training sequences
EPOCH_STEPS = 100  # of such a file at least: a validation costs some, and patience counts epochs
LOOKED_AT = 16  # sequences that tell binary frames from grey ones, and whether there is a background
DARK = 0.1  # of the brightest value: at most so bright is black
BLACK = 0.9  # share of the pixels that are mostly dark, at least, where the background is black
USUAL_SIGMA = 0.25  # the default of --e_sigma, for white on black
CONTRAST = 2.7  # --e_sigma times so much is how far half of what stands out does at least: enough to part components
MOST_FRAMES, FRAMES = 32, 8  # of each of those sequences that are looked at for it, and for how far things stand out
LONGER = 50  # EM steps of the longer sequences (paper, Fig. 7)
SUBTRACTED = names.BACKGROUNDS[1:]  # of `data_gen --from`: all but none are taken from the frames
SPLITS = {"training": "train_size", "validation": "valid_size", "test": "test_size"}  # and the flag of its size
FILE_SUFFIXES = (".h5", ".hdf5")


class Task(NamedTuple):
    """What a trained system is tested on."""

    dataset: str
    k: int
    nr_steps: int


class Family(NamedTuple):
    """Data sets of one kind, which differ in the number of objects."""

    preset: Mapping[str, Any]  # settings of its experiments in the paper, by the name of their flag
    spare_components: int  # K is the number of objects and so many more
    tests: Callable[[Task], Iterator[Task]]  # other tests than the own one, from the own one
    least_components: int = 1  # K is at least so many
    rollout: str = "draw"  # form of a roll-out, see `nem_tf.unrolling.Rollout`


def _tests_of_shapes(own: Task) -> Iterator[Task]:
    motion = "static" if own.dataset.startswith("static") else "flying"
    for dataset in (f"{motion}_shapes", f"{motion}_shapes_5"):
        yield from (Task(dataset, k, own.nr_steps) for k in (3, 5))
    yield own._replace(dataset="static_shapes")
    yield own._replace(nr_steps=max(LONGER, 2 * own.nr_steps))


def _tests_of_digits(own: Task) -> Iterator[Task]:
    motion = "static" if own.dataset.startswith("static") else "flying"
    yield from (Task(f"{motion}_mnist_{n}", n, own.nr_steps) for n in (2, 3))
    yield Task("static_mnist_2", 2, own.nr_steps)
    yield own._replace(nr_steps=max(LONGER, 2 * own.nr_steps))


def _tests_of_balls(own: Task) -> Iterator[Task]:
    yield own._replace(k=8)
    if names.parse(own.dataset).family == "balls_mass":
        yield Task("balls678mass64", 8, own.nr_steps)
    yield own._replace(nr_steps=max(LONGER, own.nr_steps))


def _tests_of_any(own: Task) -> Iterator[Task]:
    yield from (own._replace(k=own.k + more) for more in (1, 2))


_STATIC_SHAPES = {
    "nr_steps": 15,
    "noise_prob": 0.1,
    "network": "static_rnn_em",
    "gamma_gradient": True,
    "loss_step_weights": "last",
}
_GREY = {"mixture": "gaussian", "noise": "masked_uniform", "loss_inter_weight": 0.2}  # as of the paper's grey digits
_MNIST = {**_GREY, "network": "flying_mnist", "learning_rate": 5e-4}
_BALLS = {
    "valid_size": 1_000,
    "nr_steps": 30,
    "network": "balls_r_nem",
    "loss_step_weights": "mean",
}
_COLOURED = {
    **_GREY,
    "train_size": 10_000,
    "valid_size": 1_000,
    "network": "convolutional",
    "test_size": 1_000,
}
FAMILIES = {
    "flying_shapes": Family({}, 0, _tests_of_shapes),
    "static_shapes": Family(_STATIC_SHAPES, 1, _tests_of_shapes),
    "flying_mnist": Family(_MNIST, 0, _tests_of_digits),
    "static_mnist": Family(_MNIST, 0, _tests_of_digits),
    "balls_mass": Family(_BALLS, 0, _tests_of_balls, least_components=5, rollout="soft"),
    "balls_curtain": Family(_BALLS, 0, _tests_of_balls, least_components=5, rollout="soft"),
    "coloured_shapes": Family({**_COLOURED, "prior": "mean"}, 1, _tests_of_any),
    "coloured_shapes_black": Family(_COLOURED, 1, _tests_of_any),
}


def is_published(dataset: str) -> bool:
    """Tells whether a --dataset is the name of a published data set, and not the path of a file."""
    return names.parse(dataset) is not None


def is_static(dataset: str) -> bool:
    """Tells whether a --dataset is a published one of static images."""
    return is_published(dataset) and names.parse(dataset).family.startswith("static")


def rollout_form(dataset: str) -> str:
    """Returns the form of a roll-out of a model that was trained on a data set: that of its experiments."""
    return FAMILIES[names.parse(dataset).family].rollout if is_published(dataset) else "draw"


def locate(dataset: str, data_dir: str) -> Path:
    """Returns the file of a --dataset.

    Raises:
        UserError: it is neither a published name nor the path of an HDF5 file.
    """
    if is_published(dataset):
        return Path(data_dir).expanduser() / f"{dataset}.h5"
    if not dataset.endswith(FILE_SUFFIXES):
        raise UserError(
            f"--dataset={dataset} is unknown: expected {names.EXPECTED}, or the path of a file that ends in "
            f"{' or '.join(FILE_SUFFIXES)}"
        )
    return Path(dataset).expanduser()


def preset(dataset: str) -> dict[str, Any]:
    """Returns what a data set sets beside the defaults, by the name of the flag.

    A file of one's own gets the network for any size of image, and what suits it: see `_suited`.

    Raises:
        UserError: no such data set.
    """
    path = locate(dataset, "")
    name = names.parse(dataset)
    if name is None:
        return {"network": "convolutional", **_suited(path)}
    family = FAMILIES[name.family]
    k = max(name.nr_objects + family.spare_components, family.least_components)
    return {**family.preset, "k": k}


def _is_subtracted(file: Mapping) -> bool:
    """Whether the background was taken from the videos of a file of `data_gen --from`: what is left is to be black."""
    ours = file.attrs.get("generator") == "data_gen"
    return ours and json.loads(file.attrs["settings"]).get("background") in SUBTRACTED


def _suited(path: Path) -> dict[str, Any]:
    """What suits a file: its sizes, at most the default's EM steps, and what its frames ask for.

    Of grey ones and colours that is the mixture, the noise and the weight of the paper's grey digits, a prior, and an
    --e_sigma by how far things stand out: in the state in which all components are alike, a difference between them
    grows only if that is more than 4.7, 3.4, 2.9 or 2.7 e_sigma for K of 2, 3, 4 or 5. Half of what stands out goes
    beyond its median; a smaller e_sigma parts sooner and leaves more things to one component (docs/measurements.md).

    A file of few sequences gets smaller batches, as grey frames and colours do, and epochs of several passes over them.
    One that cannot be looked at suits nothing in particular: whoever reads it says what is wrong with it.
    """
    import h5py  # takes a while: only for a file of one's own
    import numpy as np

    from data_gen.claims import white_of
    from nem_tf.claims import check_claims

    suited: dict[str, Any] = {}
    try:
        check_regular(path)
        with h5py.File(path) as file:
            lengths = []
            for split, flag in SPLITS.items():
                if split in file:
                    frames, size = map(int, file[split]["features"].shape[:2])
                    suited |= {flag: size} if size else {}
                    lengths += [frames] if size else []
            features = file["training"]["features"]
            check_claims(features)
            some = features[:: max(1, -(-len(features) // MOST_FRAMES)), :LOOKED_AT]
            white = np.float32(white_of(features))
            grey = white > 1 or not np.isin(some, (0, 1)).all()
            if grey and some.size:
                usual = np.median(some, axis=(0, 1)) / white  # [H, W, C]
                shows = not _is_subtracted(file) and (usual > DARK).any(-1).mean() > 1 - BLACK
                suited |= {"prior": "mean"} if shows else {}
                seen = some[:: -(-len(some) // FRAMES)].astype(np.float32) / white
                apart = np.abs(seen - (usual if shows else 0))
                apart = np.sqrt(np.square(apart[(apart > DARK).any(-1)]).sum(-1))  # of every pixel that stands out
                sigma = round(float(np.median(apart)) / CONTRAST, 2) if apart.size else USUAL_SIGMA
                suited |= {"e_sigma": sigma} if sigma < USUAL_SIGMA else {}
            if 1 < min(lengths) <= MOST_STEPS:
                suited["nr_steps"] = min(lengths) - 1
    except (OSError, KeyError, AttributeError, TypeError, ValueError, IndexError, RuntimeError):
        return {}
    size, batch = suited.get("train_size", 0), USUAL_BATCH
    if 0 < size < USUAL_BATCH or (size and grey):
        suited["batch_size"] = batch = min(SMALL_BATCH, size)
    if 0 < size < EPOCH_STEPS * batch:
        suited["passes"] = -(-EPOCH_STEPS * batch // size)
    return {**suited, **(_GREY if grey else {})}


def tests(own: Task) -> list[Task]:
    """Returns what a run is tested on with --generalisation, each once, its own test first.

    Other K and other numbers of objects, static images, longer sequences: all that the paper reports of such a run.
    A file of one's own is tested with other K.
    """
    name = names.parse(own.dataset)
    others = list(FAMILIES[name.family].tests(own) if name else _tests_of_any(own))
    if own.k == 1:  # a model of one component remains one
        others = [task._replace(k=1) for task in others]
    return list(dict.fromkeys([own, *others]))
