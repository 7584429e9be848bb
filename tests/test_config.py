"""Settings: precedence, the flagfile of a run, the experiments in flags/."""

import dataclasses
from pathlib import Path

import pytest
from absl import flags

from nem_tf import cli, evaluate, experiments
from nem_tf.config import FIELDS, define_flags, differences, from_flagfile, given_flags, resolve, to_flagfile
from nem_tf.errors import UserError
from nem_tf.model import build_model

FLAGS_DIR = Path(__file__).parent.parent / "flags"
SHORTENED = ("first", "smoke")  # what `make train` runs, and what shrinks any experiment
EXPERIMENTS = sorted(path for path in FLAGS_DIR.glob("*.flags") if path.stem not in SHORTENED)
EVALUATIONS = sorted((FLAGS_DIR / "evaluate").glob("*.flags"))
STAGES = ("flying_mnist_2_20.flags", "flying_mnist_2_500.flags", "flying_mnist_2_staged.flags")
IMAGE_SHAPES = {"shapes": (28, 28, 1), "mnist": (24, 24, 1)}


def parsed(*args):
    """The configuration that a command line gives."""
    flag_values = flags.FlagValues()
    define_flags(flag_values)
    flag_values(["program", *cli.flagfiles_first(args)])
    return resolve(given_flags(flag_values))


def test_defaults_are_the_papers():
    config = parsed()
    assert (config.dataset, config.k, config.nr_steps, config.batch_size) == ("flying_shapes", 3, 20, 64)
    assert (config.learning_rate, config.noise_prob, config.patience) == (1e-3, 0.2, 10)
    assert (config.train_size, config.valid_size, config.test_size) == (50_000, 10_000, 10_000)
    assert config.run_dir == "runs/flying_shapes_k3"


def test_command_line_over_flagfile_over_preset_over_default(tmp_path):
    flagfile = tmp_path / "a.flags"
    flagfile.write_text("--dataset=flying_shapes_5\n--nr_steps=7\n--seed=1\n")
    for args in ((f"--flagfile={flagfile}", "--seed=2"), ("--seed=2", f"--flagfile={flagfile}"),
                 ("--seed=2", "--flagfile", str(flagfile))):  # fmt: skip
        config = parsed(*args)
        assert (config.seed, config.nr_steps, config.k, config.batch_size) == (2, 7, 5, 64)
        assert config.run_dir == "runs/flying_shapes_5_k5"
    assert parsed(f"--flagfile={flagfile}", "--k=2").k == 2


def test_a_run_s_flagfile_gives_the_same_configuration(tmp_path):
    config = parsed("--dataset=flying_shapes_4", "--gamma_gradient", "--learning_rate=3e-4", "--loss_step_weights=1,2")
    (tmp_path / "flags.txt").write_text(to_flagfile(config))
    assert from_flagfile(tmp_path / "flags.txt") == config
    assert parsed(f"--flagfile={tmp_path / 'flags.txt'}") == config


def test_differences_name_what_a_resume_may_not_change():
    config = parsed()
    assert not differences(config, parsed("--max_epochs=3", "--run_dir=elsewhere", "--data_dir=d"))
    assert differences(config, parsed("--seed=4", "--gamma_gradient")) == [
        "--gamma_gradient=false, not true",
        "--seed=0, not 4",
    ]


def test_unknown_data_set():
    with pytest.raises(UserError, match=r"--dataset=flying_pigs is unknown: expected .*shapes"):
        parsed("--dataset=flying_pigs")


@pytest.mark.parametrize("bad", ["--k=0", "--noise_prob=1.2", "--jit=maybe", "--train_size=0", "--k=three", "--kay=3"])
def test_bad_flags(bad):
    with pytest.raises(flags.Error):
        parsed(bad)


def test_no_such_run_and_foreign_flagfile(tmp_path):
    with pytest.raises(UserError, match="is not a run directory"):
        from_flagfile(tmp_path / "flags.txt")
    (tmp_path / "flags.txt").write_text("--colour=red\n")
    with pytest.raises(UserError, match="is not a flagfile of this program"):
        from_flagfile(tmp_path / "flags.txt")


def test_presets_are_the_papers():
    static, digits = parsed("--dataset=static_shapes"), parsed("--dataset=flying_mnist_3")
    assert (static.k, static.nr_steps, static.noise_prob, static.loss_step_weights) == (4, 15, 0.1, "last")
    assert static.gamma_gradient
    assert (digits.k, digits.nr_steps, digits.noise, digits.noise_prob) == (3, 20, "masked_uniform", 0.2)
    assert (digits.mixture, digits.e_sigma, digits.loss_inter_weight) == ("gaussian", 0.25, 0.2)
    assert (digits.learning_rate, digits.gamma_gradient) == (5e-4, False)
    assert parsed("--dataset=flying_mnist_2_500") == dataclasses.replace(
        parsed("--dataset=flying_mnist_2"), dataset="flying_mnist_2_500", run_dir="runs/flying_mnist_2_500_k2"
    )


@pytest.mark.parametrize("path", EXPERIMENTS, ids=lambda path: path.stem)
def test_every_experiment_parses_and_its_model_builds(path):
    config = parsed(f"--flagfile={path}")
    assert config.run_dir == f"runs/{path.stem}"
    model = build_model(config, IMAGE_SHAPES[config.dataset.split("_")[1]])
    assert model.cell.k == config.k


def test_staged_runs_start_from_the_stage_before():
    stages = [parsed(f"--flagfile={FLAGS_DIR / name}") for name in STAGES]
    assert [stage.init_from for stage in stages] == ["", stages[0].run_dir, stages[1].run_dir]
    assert [stage.learning_rate for stage in stages] == [1e-3, 5e-4, 5e-4]


def test_every_published_result_has_its_flagfiles():
    trained = {experiments.trained_as(parsed(f"--flagfile={path}")): path for path in EXPERIMENTS}
    for system, test in experiments.PUBLISHED:
        config = parsed(f"--flagfile={trained[system]}")
        assert test in set(experiments.generalisations(config))


@pytest.mark.parametrize("path", EVALUATIONS, ids=lambda path: path.stem)
def test_every_evaluation_parses_and_names_a_run_that_an_experiment_makes(path):
    flag_values = flags.FlagValues()
    define_flags(flag_values, evaluate.SETTINGS)
    flag_values(["program", f"--flagfile={path}"])
    given = given_flags(flag_values)
    config = parsed(f"--flagfile={FLAGS_DIR / Path(given['run_dir']).name}.flags")
    tested = experiments.tested_on(dataclasses.replace(config, **given))
    assert tested in set(experiments.generalisations(config))
    assert tested != experiments.tested_on(config)


def test_help_names_every_flag_once_and_by_group():
    flag_values = flags.FlagValues()
    define_flags(flag_values)
    text = cli.help_text("nem_tf.train", "Trains.", flag_values)
    for name in FIELDS:
        assert text.count(f"  --{name} ") == 1
    assert [line for line in text.splitlines() if line.endswith(":")] == ["data:", "model:", "training:", "run:"]
