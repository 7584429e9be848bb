"""What a --dataset means: its file, its preset, what a run of it is tested on."""

import tracemalloc
from pathlib import Path

import h5py
import numpy as np
import pytest

from data_gen import names, registry
from nem_tf import datasets
from nem_tf.datasets import FAMILIES, Task
from nem_tf.errors import UserError
from nem_tf.settings import Settings, resolve

PUBLISHED = ["flying_shapes", "flying_shapes_4", "flying_shapes_5", "static_shapes", "static_shapes_5",
             "flying_mnist_2", "flying_mnist_2_20", "flying_mnist_3", "static_mnist_2"]  # fmt: skip
GREY = {"mixture": "gaussian", "noise": "masked_uniform", "loss_inter_weight": 0.2}


def own_test(dataset):
    settings = resolve({"dataset": dataset})
    return Task(dataset, settings.model.k, settings.data.nr_steps)


def test_every_family_can_be_generated():
    assert set(FAMILIES) == set(registry.FAMILIES)


def test_a_published_name_is_a_file_of_the_data_directory(monkeypatch, tmp_path):
    assert datasets.locate("flying_shapes_4", "data") == Path("data/flying_shapes_4.h5")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert datasets.locate("flying_mnist_2", "~/data") == tmp_path / "data/flying_mnist_2.h5"
    assert datasets.locate("~/mine.h5", "data") == tmp_path / "mine.h5"
    assert datasets.locate("somewhere/mine.hdf5", "data") == Path("somewhere/mine.hdf5")


@pytest.mark.parametrize("dataset", ["flying_pigs", "", "flying_shapes_0", "mine", "mine.npz", "flying_mnist"])
def test_what_is_neither_is_refused(dataset):
    with pytest.raises(
        UserError, match=f"--dataset={dataset} is unknown: expected .*, or the path of a file that ends"
    ):
        datasets.locate(dataset, "data")
    with pytest.raises(UserError, match=f"--dataset={dataset} is unknown"):
        resolve({"dataset": dataset})


def test_presets_are_the_papers():
    static, digits = resolve({"dataset": "static_shapes"}), resolve({"dataset": "flying_mnist_3"})
    assert (static.model.k, static.data.nr_steps, static.data.noise_prob) == (4, 15, 0.1)
    assert (static.objective.loss_step_weights, static.model.network) == ("last", "static_rnn_em")
    assert static.model.gamma_gradient
    assert (digits.model.k, digits.data.nr_steps, digits.model.network) == (3, 20, "flying_mnist")
    assert (digits.data.noise, digits.data.noise_prob) == ("masked_uniform", 0.2)
    assert (digits.model.mixture, digits.model.e_sigma, digits.objective.loss_inter_weight) == ("gaussian", 0.25, 0.2)
    assert (digits.optimisation.learning_rate, digits.model.gamma_gradient) == (5e-4, False)
    balls = resolve({"dataset": "balls4mass64"})
    assert (balls.model.k, balls.data.nr_steps, balls.data.noise, balls.data.noise_prob) == (5, 30, "bitflip", 0.2)
    assert (balls.objective.loss_step_weights, balls.model.network) == ("mean", "balls_r_nem")
    assert (balls.optimisation.batch_size, balls.data.valid_size) == (64, 1000)
    assert [resolve({"dataset": name}).model.k for name in ("balls678mass64", "balls3curtain64")] == [8, 5]
    other = resolve({"dataset": "flying_mnist_2_500"})
    assert other == resolve({"dataset": "flying_mnist_2"}).replace(
        dataset="flying_mnist_2_500", run_dir="runs/flying_mnist_2_500_k2"
    )
    assert resolve({"dataset": "flying_shapes"}) == Settings().replace(run_dir="runs/flying_shapes_k3")
    assert [resolve({"dataset": f"flying_shapes_{n}"}).model.k for n in (1, 4, 5)] == [1, 4, 5]


def test_a_file_of_one_s_own_gets_the_network_of_any_size():
    settings = resolve({"dataset": "some/where/mine.h5"})
    assert settings == Settings().replace(
        dataset="some/where/mine.h5", network="convolutional", run_dir="runs/mine_k3"
    )  # fmt: skip
    assert resolve({"dataset": "mine.h5", "network": "static_n_em"}).model.network == "static_n_em"


def test_published_and_static():
    assert all(map(datasets.is_published, PUBLISHED))
    assert not datasets.is_published("flying_shapes.h5")
    assert [name for name in PUBLISHED if datasets.is_static(name)] == [
        name for name in PUBLISHED if name.startswith("static")
    ]
    assert not datasets.is_static("static_shapes.h5")


@pytest.mark.parametrize("dataset", PUBLISHED)
def test_a_run_is_tested_on_its_own_data_first_and_on_nothing_twice(dataset):
    own = own_test(dataset)
    tests = datasets.tests(own)
    assert tests[0] == own
    assert len(set(tests)) == len(tests)
    assert len({test.k for test in tests}) > 1
    assert any(test.dataset.startswith("static") for test in tests)
    assert any(test.nr_steps > own.nr_steps for test in tests)
    sizes = {names.parse(test.dataset).family.partition("_")[2] for test in tests}
    assert len(sizes) == 1  # shapes are not of the size of digits


def test_a_run_on_balls_is_tested_with_more_of_them_and_to_the_end_of_the_sequences():
    assert datasets.tests(Task("balls4mass64", 5, 30)) == [
        Task("balls4mass64", 5, 30), Task("balls4mass64", 8, 30), Task("balls678mass64", 8, 30),
        Task("balls4mass64", 5, 50),
    ]  # fmt: skip
    assert datasets.tests(Task("balls3curtain64", 1, 30)) == [Task("balls3curtain64", 1, n) for n in (30, 50)]


def test_a_run_on_a_file_of_one_s_own_is_tested_with_more_components():
    assert datasets.tests(Task("mine.h5", 3, 9)) == [Task("mine.h5", k, 9) for k in (3, 4, 5)]


@pytest.mark.parametrize(
    ("size", "largest", "batch", "passes"),
    [(4, 255, 4, 100), (40, 255, 16, 40), (100, 255, 16, 16), (100, 1, None, 64), (40, 1, 16, 40), (4, 1, 4, 100)],
)
def test_batches_of_a_file_are_small_where_it_is_grey_or_has_few_sequences(tmp_path, size, largest, batch, passes):
    with h5py.File(tmp_path / "mine.h5", "w") as file:
        features = file.create_dataset("training/features", data=np.resize(np.uint8([0, largest]), (7, size, 4, 4, 1)))
        features.attrs["white"] = largest
    suited = datasets.preset(str(tmp_path / "mine.h5"))
    assert (suited.get("batch_size"), suited["passes"]) == (batch, passes)


@pytest.mark.parametrize("dataset", [*PUBLISHED, "mine.h5"])
def test_a_model_of_one_component_remains_one(dataset):
    assert {test.k for test in datasets.tests(Task(dataset, 1, 9))} == {1}


def test_a_file_gets_as_many_steps_as_its_shortest_split_has(tmp_path):
    for lengths, nr_steps in (((7, 7, 51), 6), ((51, 7, 7), 6), ((51, 51, 51), None)):
        with h5py.File(tmp_path / "mine.h5", "w") as file:
            for split, length in zip(datasets.SPLITS, lengths):
                file[f"{split}/features"] = np.zeros((length, 8, 4, 4, 1), np.float32)
        assert datasets.preset(str(tmp_path / "mine.h5")).get("nr_steps") == nr_steps


def test_of_long_videos_some_frames_are_looked_at(tmp_path):
    with h5py.File(tmp_path / "mine.h5", "w") as file:
        file.create_dataset("training/features", (4000, 4, 16, 16, 1), "u1", chunks=(100, 1, 16, 16, 1), fillvalue=200)
        file["training/features"].attrs["white"] = 255
        size = file["training/features"].size
    tracemalloc.start()
    try:
        assert datasets.preset(str(tmp_path / "mine.h5"))["prior"] == "mean"
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < size / 4


@pytest.mark.parametrize(
    ("values", "white", "expected"),
    [
        (np.uint8([0, 1]), None, {}),
        (np.uint8([0, 200]), 255, {**GREY, "prior": "mean"}),
        (np.float32([0.0, 0.5]), None, {**GREY, "prior": "mean"}),
        (np.uint8([0, 0, 0, 0, 200]), 255, {**GREY}),
        (np.uint8(19 * [0] + [54]), 255, {**GREY, "e_sigma": 0.08}),
        (np.array([False, True]), None, {}),
    ],
    ids=["binary", "grey", "fractions", "mostly black", "dim", "bool"],
)
def test_a_file_of_ones_own_gets_what_suits_it(tmp_path, values, white, expected):
    with h5py.File(tmp_path / "mine.h5", "w") as file:
        for split, size in (("training", 8), ("validation", 4)):
            features = file.create_dataset(f"{split}/features", data=np.resize(values, (7, size, 4, 4, 1)))
            if white:
                features.attrs["white"] = white
    suited = datasets.preset(str(tmp_path / "mine.h5"))
    sizes = {"train_size": 8, "valid_size": 4, "nr_steps": 6, "batch_size": 8, "passes": 100}
    assert suited == {"network": "convolutional", **sizes, **expected}
    with h5py.File(tmp_path / "mine.h5", "a") as file:  # of `data_gen --from --background=median`
        file.attrs.update({"generator": "data_gen", "settings": '{"background": "median"}'})
    assert "prior" not in datasets.preset(str(tmp_path / "mine.h5"))
    (tmp_path / "broken.h5").write_bytes(b"no")
    assert datasets.preset(str(tmp_path / "broken.h5")) == {"network": "convolutional"}


@pytest.mark.parametrize(("prior", "behind"), [("black", 0), ("mean", 90)])
def test_the_e_sigma_of_a_file_is_by_how_far_things_stand_out(tmp_path, prior, behind, rng):
    """A colour by the root of its squared differences from the background; the median counts, not the extremes."""
    frames = np.full((9, 4, 8, 8, 3), behind, np.uint8)
    for t, n in np.ndindex(9, 4):  # things that move: no pixel mostly shows one
        row, column = rng.integers(7, size=2)
        frames[t, n, row, column] = behind + np.array([30, 0, 40])
    frames[0, 0, 7, 7] = 255  # a single bright pixel
    with h5py.File(tmp_path / "mine.h5", "w") as file:
        for split in ("training", "validation"):
            file.create_dataset(f"{split}/features", data=frames).attrs["white"] = 255
    suited = datasets.preset(str(tmp_path / "mine.h5"))
    assert suited.get("prior", "black") == prior
    assert suited["e_sigma"] == round(50 / 255 / datasets.CONTRAST, 2)
    with h5py.File(tmp_path / "mine.h5", "a") as file:
        file["training/features"].attrs["white"] = 0
    assert datasets.preset(str(tmp_path / "mine.h5")) == {"network": "convolutional"}


def test_grey_and_colour_have_the_weight_of_the_paper_s_grey_digits():
    for dataset in ("flying_mnist_2", "coloured_shapes", "coloured_shapes_black"):
        settings = resolve({"dataset": dataset})
        assert (settings.model.mixture, settings.objective.loss_inter_weight) == ("gaussian", 0.2)
