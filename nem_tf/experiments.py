"""What the papers report (section 4 of both), and how a record of an evaluation is told beside it."""

import itertools

from nem_tf import datasets
from nem_tf.datasets import Task
from nem_tf.registry import NETWORKS
from nem_tf.scoring.naming import short_name, special
from nem_tf.scoring.record import Record
from nem_tf.scoring.tables import Name
from nem_tf.settings import Settings, resolve

_SHAPES = {(n, k): (f"flying_shapes{'' if n == 3 else f'_{n}'}", k) for n in (3, 5) for k in (3, 5)}

# What a network is called where it is not that of RNN-EM on its data set.
_SYSTEMS = {
    "static_n_em": "N-EM",
    "balls_r_nem": "R-NEM",
    "balls_r_nem_no_attention": "R-NEM without attention",
    "balls_rnn_em": "RNN-EM",
    "balls_lstm": "LSTM",
    "space_invaders_r_nem": "R-NEM",
}

_RELATIONAL = ("R-NEM", "R-NEM without attention", "RNN-EM", "RNN", "LSTM")
IMAGINED = 10  # steps of a roll-out after those of the training (R-NEM, section 4)

_STAGES = ("flying_mnist_2_20", "flying_mnist_2_500")

# AMI on the test set, mean and standard deviation over five runs:
# (data set, network, K, data sets of the stages before) of the training, and the test -> (mean, std).
PUBLISHED = {
    (("static_shapes", "static_n_em", 4, ()), Task("static_shapes", 4, 15)): (0.475, 0.043),
    (("static_shapes", "static_rnn_em", 4, ()), Task("static_shapes", 4, 15)): (0.826, 0.005),
    (("flying_shapes", "flying_shapes", 3, ()), Task("flying_shapes", 3, 20)): (0.970, 0.005),
    (("flying_shapes", "flying_shapes", 3, ()), Task("flying_shapes", 5, 20)): (0.972, 0.007),
    (("flying_shapes", "flying_shapes", 5, ()), Task("flying_shapes", 5, 20)): (0.997, 0.002),
    (("flying_shapes", "flying_shapes", 5, ()), Task("flying_shapes", 3, 20)): (0.914, 0.015),
    (("flying_shapes_5", "flying_shapes", 3, ()), Task("flying_shapes_5", 3, 20)): (0.614, 0.003),
    (("flying_shapes_5", "flying_shapes", 3, ()), Task("flying_shapes", 3, 20)): (0.886, 0.010),
    (("flying_shapes_5", "flying_shapes", 5, ()), Task("flying_shapes_5", 5, 20)): (0.878, 0.003),
    (("flying_shapes_5", "flying_shapes", 5, ()), Task("flying_shapes", 5, 20)): (0.981, 0.003),
    (("flying_mnist_2", "flying_mnist", 2, ()), Task("flying_mnist_2", 2, 20)): (0.819, 0.022),
    (("flying_mnist_2", "flying_mnist", 2, _STAGES), Task("flying_mnist_2", 2, 20)): (0.917, 0.005),
    (("flying_mnist_2", "flying_mnist", 2, _STAGES), Task("flying_mnist_3", 3, 20)): (0.729, 0.019),
    (("flying_mnist_2", "flying_mnist", 2, _STAGES), Task("static_mnist_2", 2, 20)): (0.619, 0.023),
}
_OF_THE_PAPER = {"flying_shapes_4"}.union(  # of Fig. 6, and those of the tables
    *((dataset, *stages, task.dataset) for (dataset, _, _, stages), task in PUBLISHED)
)


def published(record: Record) -> tuple[float, float] | None:
    """Returns what the paper reports of an evaluation, mean and standard deviation of AMI; None if it is not of it.

    It is of it if data, model, objective, split and test are the paper's. How the model was trained is free, but
    that it was on other data of the paper before only where the paper's own was.
    """
    trained, tested = Settings.from_dict(record.trained), Settings.from_dict(record.tested)
    published_stages = tuple(filter(_OF_THE_PAPER.__contains__, _stages(record)))  # on other data: of the recipe
    key = (
        (trained.data.dataset, trained.model.network, trained.model.k, published_stages),
        Task(tested.data.dataset, tested.model.k, tested.data.nr_steps),
    )
    other = {name for name in special(record) if name != "test_size"}  # fewer sequences are the same test
    if key not in PUBLISHED or record.split != "test" or other or _changed(trained):
        return None
    return PUBLISHED[key]


def relational_part(record: Record) -> str | None:
    """Tells which part of R-NEM's table an evaluation of a model of balls is.

    "own": the test of its own data; "rollout": that, with ten steps more than in training, which are imagined as
    published; "more": the test of a model of 4 balls on 6 to 8, with 8 components. None of any other.
    """
    trained, tested = Settings.from_dict(record.trained), Settings.from_dict(record.tested)
    name = datasets.names.parse(trained.data.dataset)
    other = special(record)
    other.pop("test_size", None)  # fewer sequences are the same test
    if name is None or not name.family.startswith("balls") or record.split != "test":
        return None
    task, steps = Task(tested.data.dataset, tested.model.k, tested.data.nr_steps), trained.data.nr_steps
    own = Task(trained.data.dataset, trained.model.k, steps)
    if task == own._replace(nr_steps=steps + IMAGINED) and other == {"rollout_from": steps - 1, "rollout": "soft"}:
        return "rollout"
    if other:
        return None
    if task == own:
        return "own"
    more = Task("balls678mass64", 8 if own.k > 1 else 1, steps)
    return "more" if task == more and name.family == "balls_mass" else None


def relational_order(record: Record) -> tuple[str, int]:
    """Returns what the rows of R-NEM's table are sorted by: the data set, then the systems from R-NEM to the LSTM."""
    trained = Settings.from_dict(record.trained)
    system = _system(trained)
    return trained.data.dataset, _RELATIONAL.index(system) if system in _RELATIONAL else len(_RELATIONAL)


def describe(record: Record) -> Name:
    """Returns the trained system in words, and the settings that are not those of the paper's experiment."""
    trained = Settings.from_dict(record.trained)
    network, system = trained.model.network, _system(trained)
    stages = _stages(record)
    staged = f", after {' and '.join(stages)}" if stages else ""
    same = {origin["model"]["k"] for origin in _origins(record) if origin["data"]["dataset"] == trained.data.dataset}
    staged += f", from weights for K {' and '.join(map(str, sorted(same)))}" if same else ""
    flat, reference = trained.flat(), _own(trained.data.dataset).flat()
    groups = (trained.data, trained.model, trained.objective, trained.optimisation)
    known = {"dataset", "k", "init_from"}  # said in the words before
    known |= {"network"} if network in _SYSTEMS or not NETWORKS.knows(network) else set()
    names = [name for group in groups for name in vars(group) if name not in known and flat[name] != reference[name]]
    changed = [f"{name} {flat[name]}" for name in names]
    changed += _before(record, len(stages) + len(same))
    what = f"{short_name(trained.data.dataset)}, {system}, K {trained.model.k}{staged}"
    return Name(what, ", ".join(changed))


def nr_objects(record: Record) -> int | None:
    """Returns the number of objects if an evaluation is one of those of Fig. 6, next-step prediction; else None."""
    trained = Settings.from_dict(record.trained)
    name = datasets.names.parse(trained.data.dataset)
    if name is None or name.family != "flying_shapes" or trained.model.k not in (1, name.nr_objects):
        return None
    return name.nr_objects


def _system(trained: Settings) -> str:
    network, k = trained.model.network, trained.model.k
    if (network, k) == ("balls_rnn_em", 1):
        return "RNN"
    return _SYSTEMS.get(network, "RNN-EM" if NETWORKS.knows(network) else network)  # of one's own: where it is


def _stages(record: Record) -> tuple[str, ...]:
    """The other data sets of the runs from whose weights this one began, the first stage first.

    A data set of several runs one after the other, which went on with another recipe, is one stage.
    """
    own = record.trained["data"]["dataset"]
    datasets_in_turn = itertools.groupby(trained["data"]["dataset"] for trained in _origins(record))
    return tuple(dataset for dataset, _ in datasets_in_turn if dataset != own)


def _origins(record: Record) -> list[dict]:
    """The settings of the runs from whose weights this one began, the first one first."""
    trained, origin = [], record.training["origin"]
    while origin is not None:
        trained.insert(0, origin["trained"])
        origin = origin["origin"]
    return trained


def _before(record: Record, told: int) -> list[str]:
    """How many trainings there were before, if more than are told, and what of the paper's model or objective it was
    that some of them did not have."""
    origins, names = _origins(record), {}
    for origin in origins:
        if not datasets.is_published(origin["data"]["dataset"]):  # of which the paper has none
            continue
        reference = _own(origin["data"]["dataset"]).to_dict()
        for group in ("model", "objective"):
            of_paper = {name: value for name, value in reference[group].items() if name not in ("k", "network")}
            names |= {name: None for name, value in of_paper.items() if origin[group].get(name, value) != value}
    number = [f"{len(origins)} trainings before"] if len(origins) > told else []
    return number + [f"some before with another {' or '.join(names)}"] * bool(names)


def _own(dataset: str) -> Settings:
    """The settings of the paper's experiment on a data set; of a file of one's own, which may be gone, those of any."""
    if datasets.is_published(dataset):
        return resolve({"dataset": dataset})
    return Settings().replace(dataset=dataset, network="convolutional")


def _changed(trained: Settings) -> bool:
    """Whether data, model or objective are not the paper's; K and network are looked up, fewer data no advantage."""
    data, model = trained.data, trained.model
    own = _own(data.dataset).replace(
        k=model.k, network=model.network, train_size=data.train_size, valid_size=data.valid_size
    )
    return (trained.data, trained.model, trained.objective) != (own.data, own.model, own.objective)
