"""How the programs meet their user: --help, flags, one sentence for an error, the status of a signal."""

import errno
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from absl import flags

from nem_tf import cli
from nem_tf.errors import Interrupted, UserError
from nem_tf.settings import FIELDS

sys.path.append(str(Path(__file__).parent / "training"))
from toy import Toy

ROOT = Path(__file__).parent.parent
PROGRAMS = ("nem_tf.train", "nem_tf.evaluate", "nem_tf.export", "nem_tf.results")


def ended(main, *argv, positional=""):
    """Runs a program of no flags; what it exits with."""
    with pytest.raises(SystemExit) as end:
        cli.run(main, lambda options: None, "nem_tf.toy", "Toy.", positional, argv=argv)
    return end.value.code


def raising(error):
    def main(options, *args):
        raise error

    return main


@pytest.mark.parametrize("name", PROGRAMS)
@pytest.mark.parametrize("flag", ["--help", "-h", "--k=0 --help"])
def test_help_is_true_and_ends_well(program, name, flag):
    status, out, err = program(name, *flag.split())
    assert (status, err) == (0, "")
    assert f"usage: python -m {name}" in out
    assert "this program:" in out
    assert len(out.splitlines()) < 90
    assert all(len(line) <= 100 for line in out.splitlines() if line.startswith(" "))
    if name == "nem_tf.train":
        for setting, (_, field) in FIELDS.items():
            assert f"--{setting} " in out
            assert field.metadata["help"].split()[0] in out
    if name == "nem_tf.results":
        assert "RUN_DIR ..." in out


def test_help_a_bad_flag_and_a_refusal_need_no_tensorflow():
    """They are asked for most often, and TensorFlow takes seconds to import."""
    code = (
        "import importlib, sys\n"
        "from nem_tf import cli\n"
        f"for name in {PROGRAMS}:\n"
        "    module = importlib.import_module(name)\n"
        "    for arg in ('--help', '--no_such_flag=1', '--run_dir=nowhere', '--k=0'):\n"
        "        if name == 'nem_tf.train' and arg == '--run_dir=nowhere': arg = '--dataset=mnist'\n"
        "        try:\n"
        "            cli.run(module.main, module.define, name, module.__doc__, argv=[arg])\n"
        "        except SystemExit as end:\n"
        "            print(end.code, file=sys.stderr)\n"
        "print(sorted({'tensorflow', 'keras', 'matplotlib', 'h5py', 'sklearn'} & sys.modules.keys()))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith("[]\n")
    sentences = done.stderr.strip().splitlines()
    assert len(sentences) == 12
    assert "nem_tf.train: --dataset=mnist is unknown" in done.stderr
    assert "nem_tf.evaluate: nowhere is not a run directory" in done.stderr


def test_an_argument_that_is_no_flag(capsys):
    assert ended(raising(AssertionError), "train") == (
        "nem_tf.toy: unexpected argument 'train'; settings are given as --flag=value"
    )
    given = []
    cli.run(lambda options, *args: given.extend(args), lambda options: None, "x", "X.", "FILE", argv=["a", "b"])
    assert given == ["a", "b"]


def test_flagfiles_come_before_all_else(tmp_path):
    """For absl the last value wins, and what stands on the command line is what the user means."""
    assert cli.flagfiles_first(["--k=1", "--flagfile=a", "-flagfile", "b", "--seed=2"]) == [
        "--flagfile=a", "-flagfile", "b", "--k=1", "--seed=2"
    ]  # fmt: skip
    assert cli.flagfiles_first(["--k=1", "--flagfile"]) == ["--flagfile", "--k=1"]
    assert cli.flagfiles_first([]) == []


def test_a_shipped_flagfile_is_found_by_its_name_and_a_file_of_that_name_comes_first(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("smoke", "evaluate/balls_678"):
        shipped = str(cli.FLAGFILES / f"{name}.flags")
        assert cli.flagfiles_first([f"--flagfile={name}", "--flagfile", name]) == [
            f"--flagfile={shipped}", "--flagfile", shipped,
        ]  # fmt: skip
    (tmp_path / "videos").mkdir()  # where people have theirs
    assert cli.flagfiles_first(["--flagfile=videos"]) == [f"--flagfile={cli.FLAGFILES / 'videos.flags'}"]
    (tmp_path / "smoke").touch()
    for name in ("smoke", "no_such", "../flags/smoke", "smoke.flags"):
        assert cli.flagfiles_first([f"--flagfile={name}"]) == [f"--flagfile={name}"]


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["--flagfile=nowhere.flags"], "nowhere.flags"),
        (["--flagfile"], "flagfile"),
        (["--flagfile="], "--flagfile= is empty: expected a file, or a shipped one by its name"),
        (["--flagfile=nowhere"], "a shipped one goes by its name, --flagfile=flying_shapes_fast"),
        (["--flagfile=balls_1_lstm"], "a shipped one goes by its name, --flagfile=reproduction/balls_1_lstm"),
        (["--k=three"], "--k=three: expected a whole number, not 'three'"),
        (["--noise_prob=much"], "--noise_prob=much: expected a number, not 'much'"),
        (["--gamma_gradient=3"], "expected true or false, not '3'"),
        (["--kk=3"], "Unknown command line flag 'kk'"),
        (["--flagfile=HERE/bytes.flags"], "decode"),
        (["--flagfile=HERE/text"], "text is no flagfile: expected lines of --flag=value, not 'Dear reader'"),
    ],
)
def test_bad_flags_are_one_sentence(program, tmp_path, argv, words):
    (tmp_path / "bytes.flags").write_bytes(b"\xff\xfe--k=3")
    (tmp_path / "text").write_text("# A letter\n\nDear reader\nk is 3.\n")
    status, out, err = program("nem_tf.train", *(arg.replace("HERE", str(tmp_path)) for arg in argv))
    assert (status, out) == (1, "")
    assert err.startswith("nem_tf.train: ")
    assert words in err
    assert "Traceback" not in err


@pytest.mark.parametrize("closed", [">&-", "2>&-", "<&- >&- 2>&-"])
@pytest.mark.parametrize(
    "command",
    [
        "nem_tf.results --presets --output_dir=OUT",
        "data_gen --train_size=1 --valid_size=1 --test_size=1 --data_dir=OUT",
    ],
)
def test_a_program_needs_no_stream_that_is_open(tmp_path, command, closed):
    """A daemon may have none. The two packages meet it at one place each."""
    told = command.replace("OUT", str(tmp_path))
    done = subprocess.run(["sh", "-c", f"exec {sys.executable} -m {told} {closed}"], cwd=ROOT, check=False)
    assert done.returncode == 0
    assert {path.name for path in tmp_path.iterdir()} & {"results.md", "flying_shapes.h5"}


def test_what_an_import_says_is_kept_back_where_stderr_is_closed(tmp_path):
    script = tmp_path / "toy.py"
    script.write_text(
        "from nem_tf import cli\n"
        "def main(options):\n"
        "    with cli.quiet_start():\n"
        "        pass\n"
        "cli.run(main, lambda options: None, 'toy', '')\n"
    )
    done = subprocess.run(["sh", "-c", f"exec {sys.executable} {script} 2>&-"], cwd=ROOT, check=False,
                          env={**os.environ, "PYTHONPATH": str(ROOT)})  # fmt: skip
    assert done.returncode == 0


def test_a_file_to_write_may_lie_at_home(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    options = flags.FlagValues()
    cli.define_output(options, "json", "File.")
    options(["program", "--json=~/found.json"])
    assert options.json == str(tmp_path / "found.json")
    with pytest.raises(flags.IllegalFlagValueError, match="expected a file in a directory that exists"):
        options(["program", "--json=~/nowhere/found.json"])


def test_a_flagfile_that_includes_itself_is_not_left_out(program, tmp_path):
    one, other = tmp_path / "one.flags", tmp_path / "other.flags"
    one.write_text(f"--k=3\n--flagfile={other}\n")
    other.write_text(f"--flagfile={one}\n")
    status, _, err = program("nem_tf.train", f"--flagfile={one}")
    assert (status, err) == (
        1, f"nem_tf.train: --flagfile={one} includes itself: expected a flagfile that does not\n"
    )  # fmt: skip
    other.unlink()
    os.mkfifo(other)
    status, _, err = program("nem_tf.train", "--flagfile", one)
    assert (status, err) == (1, f"nem_tf.train: --flagfile={other} cannot be read: it is no regular file\n")


def test_errors_become_sentences(capsys):
    assert ended(raising(UserError("--k=0: expected 1"))) == "nem_tf.toy: --k=0: expected 1"
    assert ended(raising(Interrupted("interrupted at step 3", signal.SIGTERM))) == 143
    assert ended(raising(KeyboardInterrupt())) == 130
    assert capsys.readouterr().err == "nem_tf.toy: interrupted at step 3\nnem_tf.toy: interrupted\n"
    with pytest.raises(ZeroDivisionError):  # a mistake of ours, whose place somebody must see
        cli.run(raising(ZeroDivisionError()), lambda options: None, "x", "X.", argv=[])


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_disk_that_fills_anywhere(number):
    """Whatever write meets the full disk first, its user reads a sentence."""
    said = ended(raising(OSError(number, os.strerror(number), "metrics.jsonl")))
    assert said.startswith("nem_tf.toy: the disk is full; what was written before is kept (")
    assert "metrics.jsonl" in said


@pytest.mark.skipif(sys.platform != "linux", reason="limits the size of files")
@pytest.mark.parametrize("form", [(), ("--format=preset",), ("--format=preset", "--half")], ids=str)
def test_a_full_disk_is_told_without_what_libraries_put_around_it(program, tmp_path, largest_file, form):
    with largest_file(50_000):
        status, _, err = program(
            "nem_tf.export", "--preset=flying_shapes_k5", *form, f"--export_dir={tmp_path / 'new'}"
        )
    assert status == 1
    assert err.endswith(f"{tmp_path / 'new'}: File too large\n")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(sys.platform != "linux", reason="limits the size of files")
def test_a_full_disk_while_training(tmp_path, largest_file):
    """A limit on the size of files fails the checkpoint as a full disk does; the one before is kept."""
    Toy(tmp_path, max_epochs=1).fit()
    with largest_file(600):
        toy = Toy(tmp_path)
        toy.reporter.start = lambda *_: None  # the disk is full for the checkpoint first
        said = ended(lambda options: toy.fit())
    assert said.startswith(f"nem_tf.toy: cannot write a checkpoint to {tmp_path}/latest: ")
    assert said.endswith("/latest: File too large")
    assert Toy(tmp_path).trainer.resume().endswith("ckpt-4")


@pytest.mark.usefixtures("closed_terminals_end")
@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_before_the_training_begins_is_an_interruption(capsys, signum):
    """So that what is begun is cleaned up; the handler is that of before afterwards."""
    before, cleaned = signal.getsignal(signum), []

    def main(options):
        try:
            os.kill(os.getpid(), signum)
            pytest.fail("went on")
        finally:
            cleaned.append(True)

    assert ended(main) == 128 + signum
    assert cleaned
    assert "nem_tf.toy: ended by a signal" in capsys.readouterr().err
    assert signal.getsignal(signum) == before


def test_a_closed_terminal_leaves_alone_what_nohup_started():
    handler = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        cli.run(
            lambda options: os.kill(os.getpid(), signal.SIGHUP), lambda options: None, "nem_tf.toy", "Toy.", argv=[]
        )
    finally:
        signal.signal(signal.SIGHUP, handler)


def test_a_reader_that_ends_ends_the_program_with_a_sentence():
    """As `head` does; what is still in the buffer is not written once more at the end."""
    program = "import nem_tf.cli as c; c.run(lambda options: print('a line ' * 10**6), lambda options: None, 'x', 'X.')"
    process = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    process.stdout.close()
    assert process.stderr.read() == b"x: ended, since what reads its output did\n"
    assert process.wait() == 1
    process = subprocess.Popen(
        [sys.executable, "-c", program, "--help"], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    process.stdout.close()
    assert process.stderr.read() == b""  # of --help, the first lines may be all that was wanted
    assert process.wait() == 0


def test_help_of_data_gen_to_a_reader_that_ends():
    process = subprocess.Popen(
        [sys.executable, "-m", "data_gen", "--help"], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    process.stdout.close()
    assert process.stderr.read() == b""
    assert process.wait() == 0


@pytest.mark.usefixtures("closed_terminals_end")
def test_a_signal_of_a_closed_terminal_is_the_exit_status_though_nothing_can_be_said(monkeypatch):
    class Gone:
        def write(self, text):
            raise OSError(errno.EIO, os.strerror(errno.EIO))

        flush = write

    def main(options):
        monkeypatch.setattr("sys.stderr", Gone())
        os.kill(os.getpid(), signal.SIGHUP)

    assert ended(main) == 128 + signal.SIGHUP


def test_what_an_import_says_is_shown_where_it_fails(capfd):
    with cli.quiet_start():
        os.write(2, b"only noise\n")
    assert capfd.readouterr().err == ""

    def end(error):
        with cli.quiet_start():
            os.write(2, b"no such library\n")
            raise error

    for error, said in ((ImportError, "no such library\n"), (KeyboardInterrupt, "")):
        with pytest.raises(error):
            end(error)
        assert capfd.readouterr().err == said
    print("as before", file=sys.stderr)
    assert capfd.readouterr().err == "as before\n"


@pytest.mark.skipif(sys.platform != "linux", reason="TensorFlow has oneDNN on Linux")
@pytest.mark.parametrize(("given", "expected"), [(None, "1"), ("0", "0")])
def test_convolutions_are_those_of_onednn_unless_the_user_says_otherwise(monkeypatch, given, expected):
    """TensorFlow reads it when it is imported, later than this package."""
    import importlib

    import nem_tf

    monkeypatch.delenv("TF_ENABLE_ONEDNN_OPTS", raising=False)
    if given:
        monkeypatch.setenv("TF_ENABLE_ONEDNN_OPTS", given)
    importlib.reload(nem_tf)
    assert os.environ["TF_ENABLE_ONEDNN_OPTS"] == expected


@pytest.mark.parametrize("name", ["smoke", "evaluate/balls_678", "balls_lstm", "reproduction/balls_lstm"])
def test_elsewhere_a_shipped_flagfile_is_told_by_its_name(program, tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    status, _, err = program("nem_tf.train", f"--flagfile=flags/{name}.flags")
    assert (status, err.count("\n")) == (1, 1)
    assert err.endswith(f"; a shipped one goes by its name, --flagfile={name}\n")
