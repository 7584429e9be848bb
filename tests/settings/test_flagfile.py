"""Settings as flags: precedence, the flagfile of a run, --help; and that none of it needs TensorFlow."""

import subprocess
import sys

import pytest
from absl import flags
from all_settings import OTHER, parsed

from nem_tf import cli
from nem_tf.errors import UserError
from nem_tf.settings import FIELDS, Settings, define_flags, from_flagfile, given_flags, resolve, to_flagfile

WITHOUT_TENSORFLOW = """
import importlib, sys
from absl import flags
from nem_tf import cli
import data_gen.__main__
for name in ("nem_tf.train", "nem_tf.evaluate", "nem_tf.export", "nem_tf.results"):
    program = importlib.import_module(name)
    options = flags.FlagValues()
    program.define(options)
    print(cli.help_text(name, program.__doc__, options))
from nem_tf.settings import resolve
print(resolve({"network": "nowhere:at_all", "dataset": "flying_shapes_5"}))
slow = {"tensorflow", "keras", "matplotlib", "sklearn", "scipy", "h5py"} & set(sys.modules)
sys.exit(f"imported {slow}" if slow else 0)
"""


def test_nothing_given_is_the_default():
    assert parsed() == Settings().replace(run_dir="runs/flying_shapes_k3")


def test_command_line_over_flagfile_over_preset_over_default(tmp_path):
    flagfile = tmp_path / "a.flags"
    flagfile.write_text("# A comment.\n\n--dataset=flying_shapes_5\n--nr_steps=7\n--seed=1\n")
    for args in ((f"--flagfile={flagfile}", "--seed=2"), ("--seed=2", f"--flagfile={flagfile}"),
                 ("--seed=2", "--flagfile", flagfile)):  # fmt: skip
        settings = parsed(*args)
        assert (settings.seed, settings.data.nr_steps) == (2, 7)
        assert (settings.model.k, settings.optimisation.batch_size) == (5, 64)
        assert settings.paths.run_dir == "runs/flying_shapes_5_k5"
    assert parsed(f"--flagfile={flagfile}", "--k=2").model.k == 2
    assert parsed("--k=2", f"--flagfile={flagfile}").paths.run_dir == "runs/flying_shapes_5_k2"


def test_a_value_given_is_given_even_if_it_is_the_default():
    assert parsed("--dataset=static_shapes", "--nr_steps=20", "--nogamma_gradient").data.nr_steps == 20
    assert not parsed("--dataset=static_shapes", "--nogamma_gradient").model.gamma_gradient
    assert not parsed("--dataset=static_shapes", "--gamma_gradient=false").model.gamma_gradient


def test_all_settings_through_a_flagfile(tmp_path):
    """As the run keeps it, and given again as --flagfile."""
    settings = resolve(OTHER)
    assert settings.flat() == OTHER
    path = tmp_path / "flags.txt"
    path.write_text(to_flagfile(settings))
    assert from_flagfile(path) == parsed(f"--flagfile={path}") == settings
    assert parsed(*to_flagfile(settings).splitlines()) == settings
    path.write_text(to_flagfile(parsed()))
    assert from_flagfile(path) == parsed(f"--flagfile={path}") == parsed()


def test_a_comment_hides_nothing_of_a_run_s_flagfile(tmp_path):
    path = tmp_path / "flags.txt"
    path.write_text("\n# Mine.\n" + to_flagfile(resolve(OTHER)).replace("\n--k=", "\n\n# K.\n--k="))
    assert from_flagfile(path) == resolve(OTHER)


@pytest.mark.parametrize("text", ["--colour=red\n", "--k=0\n", "--k=3\nrubbish\n--seed=1\n", "--dataset=flying_pigs\n"])
def test_a_flagfile_of_something_else(tmp_path, text):
    path = tmp_path / "flags.txt"
    path.write_text(text)
    with pytest.raises(UserError, match=r"is not a flagfile of this program|--dataset=flying_pigs is unknown"):
        from_flagfile(path)
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UserError, match="is not a flagfile of this program"):
        from_flagfile(path)


def test_a_run_s_flagfile_includes_no_other(tmp_path):
    path, other = tmp_path / "flags.txt", tmp_path / "other.flags"
    other.write_text("--k=5\n")
    path.write_text(f"--flagfile={other}\n" + to_flagfile(resolve(OTHER)))
    with pytest.raises(UserError, match="is not a flagfile of this program: it includes another, '--flagfile="):
        from_flagfile(path)
    path.unlink()
    with pytest.raises(UserError, match="is not a run directory: cannot read"):
        from_flagfile(path)


@pytest.mark.parametrize(
    "bad",
    ["--k=0", "--k=256", "--k=three", "--noise_prob=1.2", "--jit=maybe", "--train_size=0", "--kay=3", "--e_sigma=0",
     "--seed=-1", "--gamma_gradient=maybe", "--clip_norm=-1"],
)  # fmt: skip
def test_bad_flags(bad):
    with pytest.raises(flags.Error):
        parsed(bad)


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ("--network=flying_pigs", "--network=flying_pigs is unknown: expected flying_shapes, .*, or module:attribute"),
        ("--mixture=poisson", "--mixture=poisson is unknown: expected bernoulli, gaussian, or module:attribute"),
        ("--noise=loud", "--noise=loud is unknown: expected bitflip, masked_uniform, or module:attribute"),
        ("--dataset=flying_pigs", r"--dataset=flying_pigs is unknown: expected .*shapes"),
        ("--learning_rate=nan", "--learning_rate=nan: expected a number, at least 0.0"),
        ("--learning_rate=inf", "--learning_rate=inf: expected a number, at least 0.0"),
    ],
)
def test_bad_values(bad, message):
    with pytest.raises((UserError, flags.Error), match=message):
        parsed(bad)


def test_a_program_takes_the_flags_it_names():
    flag_values = flags.FlagValues()
    define_flags(flag_values, ["k", "run_dir"])
    flag_values(["program", "--k=4"])
    assert given_flags(flag_values) == {"k": 4}
    with pytest.raises(flags.UnrecognizedFlagError):
        flag_values(["program", "--seed=4"])


def test_help_names_every_flag_once_and_by_group():
    flag_values = flags.FlagValues()
    define_flags(flag_values)
    text = cli.help_text("nem_tf.train", "Trains.", flag_values)
    for name in FIELDS:
        assert text.count(f"  --{name} ") == 1
    titles = ["data:", "model:", "objective:", "optimisation:", "budget:", "execution:", "paths:", "seed:"]
    assert [line for line in text.splitlines() if line.endswith(":")] == titles


def test_flags_help_and_settings_need_no_tensorflow():
    subprocess.run([sys.executable, "-c", WITHOUT_TENSORFLOW], check=True, stdout=subprocess.DEVNULL)


def test_what_a_younger_version_added_to_how_a_run_is_executed_has_its_default(tmp_path):
    """So that runs outlive it."""
    settings = resolve({"k": 4})
    lines = [line for line in to_flagfile(settings).splitlines() if not line.startswith("--unroll=")]
    (tmp_path / "flags.txt").write_text("\n".join(lines))
    assert from_flagfile(tmp_path / "flags.txt") == settings


def test_it_is_the_default_of_all_data_and_not_that_of_the_run_s_own(tmp_path):
    ours = resolve({"dataset": "coloured_shapes"})
    assert ours.model.prior == "mean"  # what is chosen for these data today
    for missing, default in (("prior", "black"), ("loss_inter_weight", 1.0)):
        lines = [line for line in to_flagfile(ours).splitlines() if not line.startswith(f"--{missing}=")]
        (tmp_path / "flags.txt").write_text("\n".join(lines))
        assert from_flagfile(tmp_path / "flags.txt").flat()[missing] == default


def test_a_flagfile_that_was_cut_is_refused(tmp_path):
    lines = to_flagfile(resolve({"k": 4})).splitlines(keepends=True)
    (tmp_path / "flags.txt").write_text("".join(lines[:4]))
    with pytest.raises(UserError, match=r"flags.txt is damaged or cut: it has no --"):
        from_flagfile(tmp_path / "flags.txt")
