"""Every experiment of flags/, shrunk, trained for a step; and the tables of the paper from files of scores."""

import json

import numpy as np
import pytest
from PIL import Image
from test_config import EXPERIMENTS, FLAGS_DIR, parsed

from data_gen.__main__ import generator_of
from data_gen.writer import write_dataset
from nem_tf import results
from nem_tf.config import Config, resolve, to_flagfile
from nem_tf.data import SPLITS, load_split
from nem_tf.errors import UserError
from nem_tf.experiments import PUBLISHED, generalisations
from nem_tf.loop import Trainer


@pytest.fixture(scope="session")
def data_dir(tmp_path_factory):
    return tmp_path_factory.mktemp("experiments")


@pytest.mark.slow
@pytest.mark.parametrize("path", EXPERIMENTS, ids=lambda path: path.stem)
def test_every_experiment_runs_under_smoke_flags(path, data_dir, tmp_path):
    flags = [f"--flagfile={path}", f"--flagfile={FLAGS_DIR / 'smoke.flags'}", "--max_steps=1", "--batch_size=2"]
    config = parsed(*flags, f"--data_dir={data_dir}", f"--run_dir={tmp_path}", "--init_from=", "--valid_size=2")
    sizes = {split: getattr(config, flag) for split, flag in SPLITS.items()}
    assert max(sizes.values()) < 100
    generator = generator_of(config.dataset, config.nr_steps + 1)
    write_dataset(data_dir / f"{config.dataset}.h5", config.dataset, generator, sizes)
    trainer = Trainer(config, load_split(config, "training"), load_split(config, "validation"))
    trainer.fit()
    (line,) = (json.loads(text) for text in (tmp_path / "metrics.jsonl").read_text().splitlines())
    assert np.isfinite(line["validation"]["loss"])
    assert line["step"] == 1


def write_run(directory, seed=0, ami=0.5, step=10, tested=None, steps=20, **settings):
    """A run directory with the scores of one evaluation."""
    trained = resolve({"run_dir": str(directory), "seed": seed, **settings})
    config = resolve({**vars(trained), **(tested or {}), "nr_steps": steps})
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "flags.txt").write_text(to_flagfile(trained))
    spread = {key: ami for key in ("mean", "std", "q25", "median", "q75")}
    names = ("ami", "ari", "ari_video", "mbo", "upper_bound")
    result = {
        "run_dir": str(directory),
        "checkpoint": f"{directory}/best/ckpt-{step}",
        "split": "test",
        "sequences": 5,
        "initialisations": 1,
        "rollout_from": None,
        "trained": vars(trained),
        "settings": vars(config),
        "scores": {name: spread for name in names},
        "per_step": {name: {key: [ami] * steps for key in spread} for name in names},
    }
    (directory / f"evaluation_test_{config.dataset}_{config.k}_{steps}.json").write_text(json.dumps(result))


def test_runs_of_one_experiment_are_averaged_and_stand_beside_the_published_value(tmp_path):
    for seed, ami in enumerate((0.9, 0.95, 1.0)):
        write_run(tmp_path / f"seed{seed}", seed, ami, shares=seed)  # shares change no score
    write_run(tmp_path / "short", ami=0.5, batch_size=16)
    write_run(tmp_path / "seed0", ami=0.7, tested={"dataset": "flying_shapes", "k": 5})
    rows = results.grouping_table(results.read_evaluations(sorted(tmp_path.iterdir())))
    by_test = {(row[0], row[1]): row for row in rows}
    assert len(rows) == 3
    own = by_test["flying_shapes, RNN-EM, K 3", "flying_shapes, K 3, 20 steps"]
    assert own[2:6] == ("3", "10", "0.950 ± 0.050", "0.970 ± 0.005")
    assert by_test["flying_shapes, RNN-EM, K 3", "flying_shapes, K 5, 20 steps"][2:6] == (
        "1",
        "10",
        "0.700",
        "0.972 ± 0.007",
    )
    assert by_test["flying_shapes, RNN-EM, K 3 (batch_size 16)", "flying_shapes, K 3, 20 steps"][4] == "0.500"


def test_fig_6_and_fig_7(tmp_path):
    for n, suffix in ((3, ""), (4, "_4"), (5, "_5")):
        dataset = f"flying_shapes{suffix}"
        write_run(tmp_path / f"rnnem{n}", ami=100.0 + n, dataset=dataset)
        write_run(tmp_path / f"next{n}", ami=120.0 + n, dataset=dataset, k=1)
        write_run(tmp_path / f"denoise{n}", ami=50.0 + n, dataset=dataset, k=1, target="same_frame")
    write_run(tmp_path / "wide", ami=1.0, k=5)  # not of Fig. 6
    write_run(tmp_path / "rnnem3", ami=0.7, steps=30)
    write_run(tmp_path / "rnnem3", ami=0.8, steps=50)  # Fig. 7, and not of Fig. 6
    write_run(tmp_path / "rnnem3", ami=0.6, steps=50, tested={"k": 5})
    evaluations = results.read_evaluations(sorted(tmp_path.iterdir()))
    (curve,) = results.longer_sequences(evaluations)
    assert curve.title.endswith("rnnem3\nflying_shapes, K 3, 50 steps")
    assert curve.spread["mean"] == [0.8] * 50
    assert curve.trained_steps == 20
    assert results.cross_entropies(evaluations) == {
        "RNN-EM (upper bound), next step": {n: [100.0 + n] for n in (3, 4, 5)},
        "recurrent autoencoder, denoising": {n: [50.0 + n] for n in (3, 4, 5)},
        "recurrent autoencoder, next step": {n: [120.0 + n] for n in (3, 4, 5)},
    }
    text = results.write_results(evaluations, tmp_path / "out")
    assert "| recurrent autoencoder, next step | 123.000 | 124.000 | 125.000 |" in text
    assert (tmp_path / "out/results.md").read_text() == text
    for name in ("fig6.png", "fig7.png"):
        picture = np.asarray(Image.open(tmp_path / "out" / name).convert("RGB"))
        assert len(np.unique(picture.reshape(-1, 3), axis=0)) > 20, name


def test_staged_and_direct_training_are_two_experiments(tmp_path):
    write_run(tmp_path / "direct", ami=0.8, dataset="flying_mnist_2")
    write_run(tmp_path / "staged", ami=0.9, dataset="flying_mnist_2", init_from="runs/before")
    rows = results.grouping_table(results.read_evaluations(sorted(tmp_path.iterdir())))
    assert [(row[0], row[5]) for row in rows] == [
        ("flying_mnist_2, RNN-EM, K 2", "0.819 ± 0.022"),
        ("flying_mnist_2, RNN-EM, K 2, in stages", "0.917 ± 0.005"),
    ]


def test_a_damaged_file_of_scores_is_named(tmp_path):
    write_run(tmp_path / "run")
    (path,) = (tmp_path / "run").glob("evaluation*.json")
    path.write_text(path.read_text()[:100])
    with pytest.raises(UserError, match=f"{path.name} is not a file of nem_tf.evaluate"):
        results.read_evaluations([tmp_path / "run"])


@pytest.mark.parametrize(
    "dataset", ["flying_shapes", "flying_shapes_4", "flying_mnist_2", "flying_mnist_3", "static_shapes"]
)
def test_generalisation_starts_with_the_run_s_own_test_and_repeats_none(dataset):
    config = resolve({"dataset": dataset})
    tests = list(generalisations(config))
    assert tests[0] == (config.dataset, config.k, config.nr_steps)
    assert len(set(tests)) == len(tests)
    assert len({test.k for test in tests}) > 1
    assert any(test.dataset.startswith("static") for test in tests)
    assert any(test.nr_steps > config.nr_steps for test in tests)


def test_published_means_are_those_of_the_method():
    assert sorted(value.mean for value in PUBLISHED.values()) == [
        0.475, 0.614, 0.619, 0.729, 0.819, 0.826, 0.878, 0.886, 0.914, 0.917, 0.970, 0.972, 0.981, 0.997
    ]  # fmt: skip
    assert Config().dataset == "flying_shapes"
