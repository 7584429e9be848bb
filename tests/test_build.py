"""From settings to objects: every setting changes what it names, and nothing is written before a training begins.

The training is a tiny one, run eagerly, and the trainer is left out: the pieces that it would be given are looked at.
"""

import functools
import os
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, NamedTuple

import conftest
import h5py
import numpy as np
import pytest
import tensorflow as tf
from conftest import TINY_SIZES
from matplotlib.figure import Figure
from run_files import events_of

from data_gen.shapes import FlyingShapes
from data_gen.writer import write_dataset
from nem_tf import build, train
from nem_tf.errors import UserError
from nem_tf.layers import GaussianMixture
from nem_tf.layers.system import System
from nem_tf.settings import FIELDS, Settings, resolve
from nem_tf.trained import read_run
from nem_tf.training import devices
from nem_tf.training.tensorboard import Summaries
from nem_tf.training.validation import PICTURED

pytestmark = pytest.mark.filterwarnings("ignore:Even though")  # tf.data is not run eagerly, and need not be


@pytest.fixture(scope="module", autouse=True)
def eager_pieces():
    """The eager training, and the place of the trainer in it."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(build, "Trainer", lambda **pieces: SimpleNamespace(**pieces, resume=lambda: None))
        monkeypatch.setattr(devices, "use_cores", lambda shares: None)  # too late in this process
        tf.config.run_functions_eagerly(True)
        yield
        tf.config.run_functions_eagerly(False)
    step_of.cache_clear()
    at_start.cache_clear()


@pytest.fixture(scope="module")
def place(tiny_data, tmp_path_factory):
    """A directory with two directories of data, a file of one's own, and a run."""
    place = tmp_path_factory.mktemp("build")
    write_dataset(place / "other/flying_shapes.h5", "flying_shapes", FlyingShapes(nr_frames=6), TINY_SIZES, seed=1)
    (place / "data").symlink_to(tiny_data)
    with h5py.File(place / "mine.h5", "w") as file:
        for split, size in TINY_SIZES.items():
            frames = np.random.default_rng(0).random((6, size, 28, 28, 1)) < 0.2
            file[f"{split}/features"] = frames.astype(np.uint8)
    other = trained(settings_at(place, seed=5, run_dir="{place}/trained"))
    train.begin(other, {})
    other.checkpoints.save("best", 0)
    return place


def settings_at(place, **changes) -> Settings:
    """Tiny settings, and others by name, where {place} is the directory of the fixture."""
    tiny = {
        "data_dir": "{place}/data",
        "run_dir": "{place}/run",
        "network": "conftest:small_network",
        "nr_steps": 2,
        "batch_size": 8,
        "train_size": 32,
        "valid_size": 2,
        "test_size": 6,
        "learning_rate": 0.01,
    }
    chosen = {**tiny, **changes}
    return resolve({key: v.format(place=place) if isinstance(v, str) else v for key, v in chosen.items()})


# ---- What is observed. Each takes settings.


def trained(settings) -> build.Training:
    training, validation = (build.load(settings, split) for split in ("training", "validation"))
    return build.Training(settings, training, validation)


@functools.cache
def at_start(settings):
    """A training that is looked at and not run."""
    return trained(settings)


def first_call(settings):
    return next(at_start(settings).trainer.feed.calls(epoch=0, epoch_step=0, step=0))


@functools.cache
def step_of(settings):
    """A training after its first call, and what it gave."""
    training = trained(settings)
    start = training.model.get_weights()
    call = next(training.trainer.feed.calls(epoch=0, epoch_step=0, step=0))
    result = training.trainer.step(call.frames, call.seeds)
    terms = {name: term.numpy() for name, term in result.terms._asdict().items()}
    return SimpleNamespace(
        training=training,
        start=start,
        weights=training.model.get_weights(),
        terms=terms,
        reported=training.trainer.reduce(terms)["loss"],
        norm=result.gradient_norm.numpy(),
    )


def loss(settings):
    return step_of(settings).terms["loss"]


def gradient(settings):
    return step_of(settings).norm


def reported_loss(settings):
    return step_of(settings).reported


def moved(settings):
    """How far the first step moves the weights."""
    step = step_of(settings)
    return np.sqrt(sum(((a - b) ** 2).sum() for a, b in zip(step.weights, step.start)))


def kept_gradient(settings):
    """The norm of what Adam was given, from its running mean."""
    optimizer = step_of(settings).training.optimizer
    means = [variable.numpy() for variable in optimizer.variables if "momentum" in variable.path]
    return 10 * np.sqrt(sum((mean**2).sum() for mean in means))


def validated_loss(settings):
    return step_of(settings).training.trainer.validate(lambda: None)["loss"]


def components(settings):
    call = first_call(settings)
    return at_start(settings).system.forward(call.frames[0], tf.constant(call.seeds[0])).outputs["gamma"].shape[2]


def weight_shapes(settings):
    return [tuple(weight.shape) for weight in build.build_model(settings, (28, 28, 1)).trainable_variables]


def first_weights(settings):
    """What a training begins with, begun as the program does."""
    training = trained(settings)
    train.begin(training, {})
    return training.model.trainable_variables[0].numpy()


def em_steps(settings):
    """EM steps of the training steps of an epoch."""
    training = at_start(settings)
    lag = training.system.alignment.lag
    return [call.frames.shape[2] - lag for call in training.trainer.feed.calls(0, 0, 0)]


def rate_after(steps):
    def rate(settings):
        optimizer = at_start(settings).optimizer
        optimizer.iterations.assign(steps)
        return float(optimizer.learning_rate)

    return rate


def stop(name):
    """The least of a count at which a training stops, all others being 0."""

    def least(settings):
        reached = at_start(settings).trainer.limits.reached
        counts = {"epoch": 0, "step": 0, "stale_epochs": 0}
        return next((n for n in range(1000) if reached(**{**counts, name: n})), None)

    return least


def compiled(settings):
    """Whether the functions of a training are compiled by XLA."""
    function, flags = tf.function, []

    def recorded(*args, jit_compile=None, **kwargs):
        flags.append(bool(jit_compile))
        return function(*args, jit_compile=jit_compile, **kwargs)

    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(tf, "function", recorded)
        trained(settings)
    return flags


def source_of_digits(settings):
    """What a missing data set is generated from."""
    asked = []
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(build, "generate_missing", lambda *args: asked.append(args[6]))
        build.provide(settings, ("test",))
    return asked


def flags_of_xla(settings):
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setenv("TF_XLA_FLAGS", "--tf_xla_max_cluster_size=100")
        build.build_strategy(settings)
        return os.environ["TF_XLA_FLAGS"]


def parts(settings):
    """The parts of a batch that are differentiated one by one."""
    forward, asked = System.forward, []

    def recorded(self, frames, seed, rollout_from=None, share=(0, 1), actions=None, **options):
        asked.append((int(share[0]), share[1]))
        return forward(self, frames, seed, rollout_from, share, actions, **options)

    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(System, "forward", recorded)
        training, call = trained(settings), first_call(settings)
        training.trainer.step(call.frames, call.seeds)
    assert asked == [(i, len(asked)) for i in range(len(asked))]
    return len(asked)


# ---- The table.


class Row(NamedTuple):
    """Two values of a setting, and what they change.

    `exact`: what is observed is the value itself. `same`: what it leaves alone. `given`: other settings.
    """

    values: tuple[Any, Any]
    changes: tuple[Callable[[Settings], Any], ...]
    exact: bool = False
    same: tuple[Callable[[Settings], Any], ...] = ()
    given: dict[str, Any] = {}  # noqa: RUF012


def frames_of(settings):
    return first_call(settings).frames


def of_call(axis):
    return lambda settings: first_call(settings).frames.shape[axis]


def size_of(split):
    return lambda settings: len(build.load(settings, split))


def of_training(function):
    return lambda settings: function(at_start(settings))


ROWS = {
    "dataset": Row(("flying_shapes", "{place}/mine.h5"), (frames_of,)),
    "train_size": Row((32, 24), (size_of("training"),), exact=True),
    "valid_size": Row((2, 3), (size_of("validation"),), exact=True),
    "nr_steps": Row((2, 3), (lambda settings: em_steps(settings)[0],), exact=True),
    "noise": Row(("bitflip", "masked_uniform"), (loss,)),
    "noise_prob": Row((0.2, 0.1), (loss,)),
    "k": Row((3, 2), (components,), exact=True),
    "network": Row(("conftest:small_network", "static_rnn_em"), (weight_shapes,)),
    "widths": Row(("4", "4,8"), (weight_shapes,), given={"network": "convolutional"}),
    "mixture": Row(("bernoulli", "gaussian"), (loss,)),
    "prior": Row(("black", "mean"), (loss, gradient)),
    "e_sigma": Row((0.25, 0.1), (loss, gradient), given={"mixture": "gaussian"}),
    "gamma_gradient": Row((False, True), (gradient,), same=(loss,)),
    "target": Row(("next_frame", "same_frame"), (loss, of_call(2))),
    "loss_inter_weight": Row((1.0, 0.5), (loss, gradient)),
    "loss_step_weights": Row(("all", "1,3"), (gradient, reported_loss), same=(loss,)),
    "batch_size": Row((8, 4), (of_call(1),), exact=True),
    "passes": Row((1, 3), (of_training(lambda t: t.trainer.feed.steps_per_epoch),)),
    "curriculum": Row(("", "1,2@2"), (em_steps,)),
    "learning_rate": Row((0.01, 0.002), (rate_after(0), moved), same=(loss,)),
    "warmup_steps": Row((0, 10), (rate_after(0), rate_after(5), moved)),
    "hold_steps": Row((0, 5), (rate_after(5),), given={"decay_steps": 10}),
    "decay_steps": Row((0, 10), (rate_after(5),), same=(rate_after(0),)),
    "ema_momentum": Row((0.0, 0.9), (validated_loss,), same=(moved,), given={"steps_per_call": 2}),
    "clip_norm": Row((0.0, 0.5), (kept_gradient,), same=(gradient,)),
    "init_from": Row(("", "{place}/trained"), (first_weights,)),
    "test_size": Row((6, 5), (size_of("test"),), exact=True),
    "max_epochs": Row((2, 3), (stop("epoch"),), exact=True),
    "max_steps": Row((5, 7), (stop("step"),), exact=True),
    "patience": Row((10, 3), (stop("stale_epochs"),), exact=True),
    "jit": Row(("off", "on"), (compiled,)),
    "unroll": Row(("off", "on"), (of_training(lambda training: training.model.unroll),)),
    "precision": Row(("float32", "mixed_bfloat16"), (loss, gradient), given={"network": "static_rnn_em"}),
    "steps_per_call": Row((1, 3), (of_call(0),), exact=True),
    "shares": Row((1, 2), (parts,), exact=True),
    "distribute": Row(("none", "mirrored"), (lambda settings: type(build.build_strategy(settings)),)),
    "data_dir": Row(("{place}/data", "{place}/other"), (frames_of,)),
    "mnist": Row(("", "{place}/mnist.npz"), (source_of_digits,), given={"dataset": "flying_mnist_2"}),
    "run_dir": Row(("{place}/run", "{place}/elsewhere"), (of_training(lambda t: str(t.run.path)),), exact=True),
    "compiled_dir": Row(("", "{place}/compiled"), (flags_of_xla,)),
    "seed": Row(
        (0, 1),
        (
            of_training(lambda training: training.model.get_weights()[0]),
            frames_of,
            lambda settings: first_call(settings).seeds,
            of_training(lambda t: t.model.cell.seed_generator.state.numpy()),
        ),
    ),
}


def equal(one, other):
    return np.array_equal(one, other) if isinstance(one, np.ndarray) else one == other


def test_the_table_has_a_row_for_every_setting():
    assert set(ROWS) == set(FIELDS)


@pytest.mark.parametrize("name", ROWS)
def test_every_setting_changes_what_it_names(name, place):
    row = ROWS[name]
    both = [settings_at(place, **row.given, **{name: value}) for value in row.values]
    for observe in row.changes:
        found = [observe(settings) for settings in both]
        assert not equal(*found), f"{found[0]} either way"
        if row.exact:
            assert found == [settings.flat()[name] for settings in both]
    for observe in row.same:
        assert equal(*map(observe, both))


def test_the_same_settings_give_the_same_numbers(place):
    """So that what the rows above observe is their setting's doing."""
    one, other = step_of(settings_at(place)), step_of.__wrapped__(settings_at(place))
    for name, term in one.terms.items():
        np.testing.assert_array_equal(term, other.terms[name])
    for ours, theirs in zip(one.weights, other.weights, strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_nothing_is_written_before_a_training_begins(place, tmp_path):
    training = trained(settings_at(place, run_dir=str(tmp_path / "run")))
    assert not (tmp_path / "run").exists()
    train.begin(training, {})
    assert sorted(path.name for path in (tmp_path / "run").iterdir()) == ["data.json", "flags.txt"]


def test_the_chief_writes_when_all_workers_have_read_what_is_there(place, tmp_path, monkeypatch):
    """One of them saw a directory that held half a run, and refused it."""
    training, agreed = trained(settings_at(place, run_dir=str(tmp_path / "run"))), []

    def agree(strategy, values):
        agreed.append(training.run.path.exists())
        return values

    monkeypatch.setattr(devices, "agree", agree)
    train.begin(training, {})
    assert agreed == [False]
    assert training.run.exists()


def test_windows_start_anywhere_and_the_first_weights_are_recorded(place, tmp_path):
    settings = settings_at(place, curriculum="1", init_from="{place}/trained", run_dir=str(tmp_path / "run"))
    training = trained(settings)
    windows = [training.trainer.feed.window(step) for step in range(30)]
    assert {(window.start, window.stop) for window in windows} == {(0, 2), (1, 3)}
    train.begin(training, {})
    origin = training.run.origin
    assert origin["run_dir"] == f"{place}/trained"
    assert origin["trained"]["seed"] == 5
    assert origin["data"] == training.data


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"widths": "4,b", "network": "convolutional"}, "--widths=4,b: expected whole numbers, as in 32,64"),
        (
            {"widths": "4,0", "network": "convolutional"},
            "--network=convolutional does not fit .*widths are the channels",
        ),
        ({"widths": "4"}, "--network=conftest:small_network does not fit .*widths"),
        ({"network": "static_n_em", "precision": "mixed_bfloat16"}, "--network=static_n_em does not fit .*float32"),
        ({"network": "conftest:no_network"}, "--network=conftest:no_network cannot be loaded"),
        ({"mixture": "conftest:NoMixture"}, "--mixture=conftest:NoMixture cannot be loaded"),
        ({"noise": "keras.layers:GaussianNoise"}, "--noise=keras.layers:GaussianNoise with .* and a seed"),
    ],
)
def test_a_network_that_does_not_fit_is_refused_with_a_sentence(place, changes, message):
    with pytest.raises(UserError, match=message):
        build.build_model(settings_at(place, **changes), (28, 28, 1))


@pytest.mark.parametrize(("fast", "expected"), [(True, "mixed_bfloat16"), (False, "float32")])
def test_precision_auto_is_what_the_hardware_multiplies_faster(monkeypatch, place, fast, expected):
    monkeypatch.setattr(devices, "has_fast_bfloat16", lambda: fast)
    settings = settings_at(place, precision="auto")
    assert build.precision_of(settings) == expected
    assert expected in build.described(tf.distribute.get_strategy(), settings)
    assert build.precision_of(settings.replace(network="static_n_em")) == "float32"  # it takes no other
    assert build.precision_of(settings.replace(precision="float32")) == "float32"


def test_too_many_weights_are_refused_with_a_sentence(place):
    message = r"--network=static_rnn_em does not fit --dataset=.*mine\.h5 .*million weights for frames of 900x900x3"
    with pytest.raises(UserError, match=message):
        build.build_model(settings_at(place, dataset="{place}/mine.h5", network="static_rnn_em"), (900, 900, 3))


def test_a_network_of_one_s_own_returns_a_cell(place, monkeypatch):
    monkeypatch.setattr(conftest, "small_network", lambda image_shape, mixture, dtype, **cell: 3)
    with pytest.raises(UserError, match="--network=conftest:small_network returns 3: expected an EMCell"):
        build.build_cell(settings_at(place, network="conftest:small_network"), (8, 8, 1))


def test_what_else_does_not_fit(place):
    assert len(build.load(settings_at(place, train_size=7), "training")) == 7  # less than a batch can be evaluated
    with pytest.raises(UserError, match="--run_dir is missing"):
        read_run("")
    other = trained(settings_at(place, network="static_rnn_em"))
    with pytest.raises(UserError, match=r"--init_from=.*trained does not fit: its weights are of network conftest"):
        other.start_from(f"{place}/trained")


def test_weights_of_other_widths_do_not_fit_and_say_so(place, tmp_path):
    chosen = {"network": "convolutional", "widths": "4,8", "run_dir": str(tmp_path / "run")}
    begun = trained(settings_at(place, **chosen))
    train.begin(begun, {})
    begun.checkpoints.save("best", 0)
    trained(settings_at(place, **{**chosen, "widths": "4, 8"})).start_from(chosen["run_dir"])
    with pytest.raises(UserError, match=r"does not fit: its weights are of widths \(4, 8\), not \(4, 4\)$"):
        trained(settings_at(place, **{**chosen, "widths": "4,4"})).start_from(chosen["run_dir"])


class Grey(GaussianMixture):
    """A mixture of one's own that hands everything on."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)


class Plain(GaussianMixture):
    """One that takes no prior."""

    def __init__(self, e_sigma=0.25):
        super().__init__(e_sigma=e_sigma)


def test_a_mixture_of_ones_own_gets_what_it_takes(place):
    settings = settings_at(place, mixture=f"{__name__}:Grey", e_sigma=0.1, prior="mean")
    mixture = build.build_mixture(settings)
    assert (mixture.e_sigma, mixture.prior) == (0.1, "image")
    settings = settings_at(place, mixture=f"{__name__}:Plain", e_sigma=0.1)
    assert build.build_mixture(settings).e_sigma == 0.1
    with pytest.raises(UserError, match=r"--prior=mean expects a mixture .*; --mixture=.*Plain does not"):
        build.build_mixture(settings.replace(prior="mean"))
    with pytest.raises(UserError, match=r"--e_sigma=0.1 expects a mixture .*; --mixture=bernoulli does not"):
        build.build_mixture(settings.replace(mixture="bernoulli"))


def test_a_prior_of_the_data_is_the_mean_of_the_training_frames(place):
    """In the model and in its averages, and in what is restored; weights of the other prior do not fit."""
    settings = settings_at(place, prior="mean", ema_momentum=0.9, run_dir="{place}/mean")
    training = trained(settings)
    with h5py.File(place / "data/flying_shapes.h5") as file:
        expected = file["training/features"][:3].mean((0, 1))
    for model in (training.model, training.scored):
        np.testing.assert_allclose(model.cell.mixture.background, expected, rtol=1e-6)
        assert "background" not in [weight.name for weight in model.trainable_variables]
    train.begin(training, {})
    training.checkpoints.save("best", 0)
    kept = read_run(f"{place}/mean")
    model = build.build_model(kept.settings, kept.image_shape)
    build.restore(kept, model)
    np.testing.assert_allclose(model.cell.mixture.background, expected, rtol=1e-6)
    with pytest.raises(UserError, match=r"its weights are of prior black, not mean$"):
        training.start_from(f"{place}/trained")
    # The weights of another run come without the mean of its data.
    for model in (training.model, training.scored):
        model.cell.mixture.background.assign(1 - expected)
    training.checkpoints.save("best", 0)
    other = trained(settings.replace(run_dir=f"{place}/other"))
    other.start_from(f"{place}/mean")
    for model in (other.model, other.scored):
        np.testing.assert_allclose(model.cell.mixture.background, expected, rtol=1e-6)


def test_a_denoiser_takes_one_frame_less(place):
    frames = [build.load(settings_at(place, target=target), "test").frames for target in ("next_frame", "same_frame")]
    assert frames == [3, 2]


@pytest.mark.parametrize(
    ("settings", "em_steps", "expected"),
    [
        ({}, None, [1, 1, 1]),
        ({"loss_step_weights": "mean"}, 2, [0.5, 0.5]),
        ({"loss_step_weights": "last"}, 2, [0, 1]),
        ({"loss_step_weights": "1,3"}, None, [0, 1, 3]),
    ],
)
def test_weights_of_steps(place, settings, em_steps, expected):
    assert build.weights_of_steps(settings_at(place, nr_steps=3, **settings), em_steps).tolist() == expected


def test_the_attention_of_a_relational_model_is_pictured(place, tmp_path, monkeypatch):
    """Beside what is pictured of all models; nothing is made for a picture that memory would grow by."""
    monkeypatch.setattr(Figure, "__init__", None)
    for network, pictures in (("conftest:small_network", 0), ("test_demo:relational_network", PICTURED)):
        training = trained(settings_at(place, network=network, k=2))
        with monkeypatch.context() as patch:
            patch.setattr(build, "build_system", None)
            result = training.reporter._pictured()
        if pictures:
            theta = result.outputs["theta"]
            np.testing.assert_allclose(result.outputs["attention"], training.model.cell.attention(theta))
        summaries = Summaries(tmp_path / network.partition(":")[0])
        summaries.pictures(result, 3)
        summaries.close()
        tags = [(tag, step) for tag, step, _ in events_of(tmp_path / network.partition(":")[0])]
        assert [tag for tag in tags if tag[0].startswith("attention")] == [
            (f"attention/{i}", 3) for i in range(pictures)
        ]  # fmt: skip
        assert ("overview/1", 3) in tags


def test_what_tensorboard_compares_runs_by_are_settings():
    assert set(build.COLUMNS) <= set(FIELDS)
