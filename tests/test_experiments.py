"""The experiments of flags/: that they parse, that their models take a step, and what the paper reports of them."""

from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from absl import flags
from all_settings import parsed
from records import identity_of, make_record, origin_of

from data_gen.registry import generator_of
from nem_tf import build, datasets, evaluate, experiments
from nem_tf.datasets import Task
from nem_tf.registry import NETWORKS
from nem_tf.settings import given_flags, resolve
from nem_tf.training.schedule import learning_rate
from nem_tf.training.step import Adam, TrainStep

FLAGS_DIR = Path(__file__).parent.parent / "flags"
SHORTENED = ("first", "smoke", "videos")  # what `make train` runs, what shrinks any experiment, and videos of one's own
EXPERIMENTS = {path.stem: path for path in sorted(FLAGS_DIR.glob("*.flags")) if path.stem not in SHORTENED}
EVALUATIONS = sorted((FLAGS_DIR / "evaluate").glob("*.flags"))
STAGES = ("flying_mnist_2_20", "flying_mnist_2_500", "flying_mnist_2_staged")


def experiment(name):
    return parsed(f"--flagfile={EXPERIMENTS[name]}")


def task_of(settings):
    return Task(settings.data.dataset, settings.model.k, settings.data.nr_steps)


def graph_of(settings):
    """What decides the graph of an experiment's training step, beside sizes."""
    model = settings.model
    return model.network, model.mixture, model.target, model.gamma_gradient, settings.data.noise


GRAPHS = {graph_of(experiment(name)): name for name in EXPERIMENTS}


def test_there_is_an_experiment_of_every_network_of_the_paper():
    networks = {network for network, *_ in GRAPHS}
    assert networks == set(NETWORKS.names) - {"convolutional"}


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_every_experiment_parses_and_can_be_shrunk(name):
    settings = experiment(name)
    assert settings.paths.run_dir == f"runs/{name}"
    shrunk = parsed(f"--flagfile={EXPERIMENTS[name]}", f"--flagfile={FLAGS_DIR / 'smoke.flags'}")
    assert graph_of(shrunk) == graph_of(settings)
    assert (shrunk.model.k, shrunk.data.dataset) == (settings.model.k, settings.data.dataset)
    assert max(shrunk.data.train_size, shrunk.data.valid_size, shrunk.budget.test_size) < 100
    assert shrunk.paths.run_dir == "runs/smoke"


def test_the_first_training_is_a_short_one():
    settings = parsed(f"--flagfile={FLAGS_DIR / 'first.flags'}")
    assert settings.data.train_size * settings.budget.max_epochs < 10_000


@pytest.mark.parametrize("name", GRAPHS.values())
def test_the_model_of_every_experiment_is_built_and_takes_a_step(name, rng):
    """One experiment of each graph: the loss is finite, and every weight moves."""
    settings = parsed(f"--flagfile={EXPERIMENTS[name]}", f"--flagfile={FLAGS_DIR / 'smoke.flags'}", "--batch_size=2")
    published = datasets.is_published(settings.data.dataset)
    image_shape = generator_of(settings.data.dataset, 2).frame_shape if published else (84, 84, 1)
    model = build.build_model(settings, image_shape)
    assert model.cell.k == settings.model.k
    system = build.build_system(settings, model)
    optimizer = Adam(learning_rate(settings.optimisation.learning_rate), epsilon=1e-8)
    optimizer.build(model.trainable_variables)
    frames = rng.random((1, 2, system.alignment.frames_for(settings.data.nr_steps), *image_shape))
    if settings.model.mixture == "bernoulli":
        frames = frames < 0.3
    before = [variable.numpy() for variable in model.trainable_variables]
    tf.config.run_functions_eagerly(True)
    try:
        result = TrainStep(system, optimizer)(frames.astype(np.float32), np.array([[0, 0]]))
    finally:
        tf.config.run_functions_eagerly(False)
    assert np.isfinite(result.terms.loss).all()
    assert 0 < result.gradient_norm[0] < np.inf
    for variable, value in zip(model.trainable_variables, before, strict=True):
        assert (variable.numpy() != value).any(), variable.path


def test_staged_runs_start_from_the_stage_before():
    stages = [experiment(name) for name in STAGES]
    assert [stage.optimisation.init_from for stage in stages] == ["", *(stage.paths.run_dir for stage in stages[:-1])]
    assert [stage.optimisation.learning_rate for stage in stages] == [1e-3, 5e-4, 5e-4]
    assert [stage.data.dataset for stage in stages] == ["flying_mnist_2_20", "flying_mnist_2_500", "flying_mnist_2"]


@pytest.mark.parametrize("path", EVALUATIONS, ids=lambda path: path.stem)
def test_every_evaluation_parses_and_names_a_run_that_an_experiment_makes(path):
    flag_values = flags.FlagValues()
    evaluate.define(flag_values)
    flag_values(["nem_tf.evaluate", f"--flagfile={path}"])
    given = given_flags(flag_values)
    trained = experiment(Path(given["run_dir"]).name)
    tested = task_of(trained.replace(**given))
    assert tested in datasets.tests(task_of(trained))
    assert tested != task_of(trained)


# ---- What the paper reports.


def stages_before(settings):
    """The experiments from whose weights this one begins, the first stage first."""
    source = settings.optimisation.init_from
    return [*stages_before(experiment(Path(source).name)), experiment(Path(source).name)] if source else []


def trained_as(settings):
    """What `PUBLISHED` knows a training by."""
    stages = tuple(stage.data.dataset for stage in stages_before(settings))
    return settings.data.dataset, settings.model.network, settings.model.k, stages


def record_of(settings, task, **changes):
    """The record of a test of such a run."""
    origin = None
    for stage in stages_before(settings):
        origin = origin_of(make_record(training={"origin": origin}, **stage.flat()))
    return make_record(
        tested=task._asdict(), training={"origin": origin}, tested_data=identity_of(task.dataset),
        **{**settings.flat(), **changes},
    )  # fmt: skip


BY_TRAINING = {trained_as(experiment(name)): name for name in EXPERIMENTS if name != "flying_shapes_fast"}


def test_published_means_are_those_of_the_method():
    assert sorted(mean for mean, _ in experiments.PUBLISHED.values()) == [
        0.475, 0.614, 0.619, 0.729, 0.819, 0.826, 0.878, 0.886, 0.914, 0.917, 0.970, 0.972, 0.981, 0.997
    ]  # fmt: skip


@pytest.mark.parametrize(("trained", "task"), experiments.PUBLISHED, ids=str)
def test_every_published_result_has_its_flagfile_and_stands_beside_its_test(trained, task):
    settings = experiment(BY_TRAINING[trained])
    assert task in datasets.tests(task_of(settings))
    value = experiments.PUBLISHED[trained, task]
    assert experiments.published(record_of(settings, task)) == value
    assert experiments.published(record_of(settings, task, seed=7, batch_size=16, learning_rate=0.1)) == value
    assert experiments.published(record_of(settings, task, train_size=100)) == value


@pytest.mark.parametrize(
    "changes",
    [
        {"target": "same_frame"},
        {"loss_inter_weight": 0.5},
        {"gamma_gradient": True},
        {"widths": "32,64"},
        {"network": "convolutional"},
        {"k": 4},
        {"dataset": "flying_shapes_4"},
        {"noise_prob": 0.1},
        {"nr_steps": 19},
        {"mixture": "gaussian"},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_a_training_that_is_not_the_papers_has_no_published_value(changes):
    settings = experiment("flying_shapes").replace(**changes)
    assert experiments.published(record_of(settings, task_of(settings))) is None
    assert experiments.published(record_of(settings, Task("flying_shapes", 3, 20))) is None


@pytest.mark.parametrize(
    ("tested", "record"),
    [
        ({"noise_prob": 0.1}, {}),
        ({"nr_steps": 50}, {}),
        ({"k": 4}, {}),
        ({}, {"split": "validation"}),
        ({}, {"rollout_from": 5}),
        ({}, {"which": "latest"}),
    ],
)
def test_a_test_that_is_not_the_papers_has_no_published_value(tested, record):
    flat = experiment("flying_shapes").flat()
    assert experiments.published(make_record(**flat, tested={"test_size": 100})) == (0.970, 0.005)
    assert experiments.published(make_record(**flat, tested=tested, record=record)) is None


def test_a_run_from_the_weights_of_another_is_the_papers_if_its_data_are():
    """From other data of the paper it is staged otherwise; from the same, or from data that the paper lacks, which is
    told, it was trained otherwise."""
    settings = experiment("flying_mnist_2")
    assert experiments.published(make_record(**settings.flat())) == (0.819, 0.022)
    same, other = (origin_of(make_record(**experiment(name).flat())) for name in ("flying_mnist_2", STAGES[0]))
    continued = make_record(**settings.flat(), training={"origin": same})
    assert experiments.published(continued) == (0.819, 0.022)
    assert str(experiments.describe(continued)) == "flying_mnist_2, RNN-EM, K 2, from weights for K 2"
    bold = origin_of(make_record(**settings.replace(gamma_gradient=True, loss_step_weights="last").flat()))
    twice = make_record(**settings.flat(), training={"origin": {**bold, "origin": same}})
    assert str(experiments.describe(twice)) == (
        "flying_mnist_2, RNN-EM, K 2, from weights for K 2 (2 trainings before, some before with another "
        "gamma_gradient or loss_step_weights)"
    )
    mine = origin_of(make_record(**settings.replace(dataset="data/mine.h5", gamma_gradient=True).flat()))
    begun = make_record(**settings.flat(), training={"origin": mine})  # on data of which the paper has no experiment
    assert "gamma_gradient" not in str(experiments.describe(begun))
    assert experiments.published(make_record(**settings.flat(), training={"origin": other})) is None
    after = {"flying_mnist_1": (0.819, 0.022), "flying_mnist_3": None, "flying_shapes_4": None}  # the paper lacks one
    for name, expected in after.items():
        origin = origin_of(make_record(**settings.replace(dataset=name).flat()))
        assert experiments.published(make_record(**settings.flat(), training={"origin": origin})) == expected


def test_a_stage_may_have_been_trained_in_several_runs_one_after_the_other():
    settings = experiment("flying_mnist_2_staged")
    own = experiment(STAGES[0]).replace(dataset="data/shapes24.h5")  # before them: how a model begins is of the recipe
    origin = origin_of(make_record(training={"origin": None}, **own.flat()))
    for name in (STAGES[0], STAGES[0], STAGES[1]):
        origin = origin_of(make_record(training={"origin": origin}, **experiment(name).flat()))
    assert experiments.published(make_record(training={"origin": origin}, **settings.flat())) == (0.917, 0.005)
    origin = origin_of(make_record(training={"origin": origin}, **experiment(STAGES[0]).flat()))
    assert experiments.published(make_record(training={"origin": origin}, **settings.flat())) is None


def test_other_data_under_a_published_name_have_no_published_value():
    flat = experiment("flying_shapes").flat()
    other = identity_of("flying_shapes", seed=1)
    assert experiments.published(make_record(**flat, tested_data=other)) is None


def test_a_system_is_described_by_what_is_not_the_papers(monkeypatch):
    def describe(record):
        return str(experiments.describe(record))

    plain = experiment("flying_shapes")
    assert describe(make_record(**plain.flat())) == "flying_shapes, RNN-EM, K 3"
    changed = plain.replace(k=5, target="same_frame", gamma_gradient=True, batch_size=16, max_epochs=3, seed=4)
    assert describe(make_record(**changed.flat())) == (
        "flying_shapes, RNN-EM, K 5 (gamma_gradient True, target same_frame, batch_size 16)"
    )
    assert describe(make_record(**experiment("static_shapes_n_em").flat())) == "static_shapes, N-EM, K 4"
    staged = experiment("flying_mnist_2_staged")
    assert (
        describe(record_of(staged, task_of(staged)))
        == "flying_mnist_2, RNN-EM, K 2, after flying_mnist_2_20 and flying_mnist_2_500"
    )
    systems = [describe(make_record(**experiment(name).flat())) for name in EXPERIMENTS if name.startswith("balls_c")]
    assert systems == [
        f"balls3curtain64, {system}" for system in ("LSTM, K 1", "R-NEM, K 5", "RNN, K 1", "RNN-EM, K 5")
    ]
    assert describe(make_record(**plain.replace(network="a.b:net").flat())) == "flying_shapes, a.b:net, K 3"
    mine = resolve({"dataset": "some/where/mine.h5"}).replace(passes=80)
    for _ in range(2):  # what is said of a run does not depend on whether its file is there
        assert describe(make_record(**mine.flat())) == "mine, RNN-EM, K 3 (passes 80)"
        monkeypatch.setattr(experiments.datasets, "_suited", lambda path: {"passes": 80})


@pytest.mark.parametrize(
    ("name", "n"),
    [("flying_shapes", 3), ("flying_shapes_4", 4), ("flying_shapes_5", 5), ("autoencoder_next_5", 5),
     ("autoencoder_denoise", 3), ("flying_shapes_k5", None), ("flying_shapes_5_k3", None), ("flying_mnist_2", None),
     ("static_shapes_rnn_em", None)],
)  # fmt: skip
def test_next_step_prediction_is_that_of_as_many_components_as_objects_or_of_one(name, n):
    assert experiments.nr_objects(make_record(**experiment(name).flat())) == n


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_a_flagfile_holds_what_differs_and_no_more(name):
    """Each setting once, and none that the default or the preset of the data set has anyway."""
    lines = EXPERIMENTS[name].read_text().splitlines()
    given = [line.partition("=")[0].removeprefix("--") for line in lines if line.startswith("--")]
    settings = experiment(name)
    own = resolve({"dataset": settings.data.dataset})
    assert len(set(given)) == len(given)
    assert [key for key in given if settings.flat()[key] == own.flat()[key]] == ["dataset"]


def test_what_is_a_part_of_the_table_of_r_nem():
    part, flat = experiments.relational_part, experiment("balls_r_nem").flat()
    soft = {"rollout_from": 29, "rollout": {"form": "soft", "noise": True}}
    more = {"dataset": "balls678mass64", "k": 8}
    parts = {
        "own": [({}, {}), ({"test_size": 7}, {})],
        "rollout": [({"nr_steps": 40}, soft), ({"nr_steps": 40, "test_size": 7}, soft)],
        "more": [(more, {})],
        None: [
            ({"k": 8}, {}),
            ({"nr_steps": 50}, {}),
            ({"nr_steps": 40}, {**soft, "rollout_from": 20}),
            ({"nr_steps": 40}, {**soft, "rollout": {"form": "soft", "noise": False}}),
            ({"nr_steps": 40}, {**soft, "rollout": {"form": "draw", "noise": True}}),
            ({"noise_prob": 0.1}, {}),
            ({}, {"split": "validation"}),
            ({**more, "k": 5}, {}),
        ],
    }
    for expected, records in parts.items():
        for tested, record in records:
            assert part(make_record(**flat, tested=tested, record=record)) == expected, (tested, record)
    alone = experiment("balls_lstm").flat()
    assert part(make_record(**alone, tested={**more, "k": 1})) == "more"
    assert part(make_record(**experiment("balls_curtain_r_nem").flat(), tested=more)) is None
    assert part(make_record(**experiment("flying_shapes").flat())) is None


def test_the_systems_of_r_nem_s_table_are_in_the_order_of_the_paper():
    names = ["balls_lstm", "balls_rnn", "balls_rnn_em", "balls_r_nem_no_attention", "balls_r_nem", "balls_curtain_rnn"]
    order = [experiments.relational_order(make_record(**experiment(name).flat())) for name in names]
    assert order == sorted(order, reverse=True)
    assert len(set(order)) == len(names)
    own = experiment("balls_rnn").replace(network="static_n_em")
    assert experiments.relational_order(make_record(**own.flat())) > order[0]
