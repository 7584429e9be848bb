"""How the programs meet their user: grouped --help, the precedence of flags, one sentence for an error."""

import contextlib
import errno
import os
import re
import signal
import sys
import tempfile
import textwrap
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from absl import flags, logging

from data_gen.command_line import drop_output, in_words, open_closed_streams
from data_gen.signals import ending_signals, handled
from nem_tf import datasets
from nem_tf.errors import Interrupted, UserError
from nem_tf.reading import read_text
from nem_tf.settings import FIELDS, GROUPS, Settings
from nem_tf.trained import Trained, read_preset, read_run
from nem_tf.unrolling import FORMS, Rollout

# What errors of a write say, whoever raises them: Python, HDF5 or TensorFlow.
FULL_DISK = tuple(os.strerror(number) for number in (errno.ENOSPC, errno.EDQUOT))
FLAGFILE_FLAGS = ("--flagfile", "-flagfile")
# The shipped flagfiles: beside the code where that is installed, else in the repository.
FLAGFILES = next(
    (place for place in (Path(__file__).parent / "flagfiles", Path(__file__).parents[1] / "flags") if place.is_dir()),
    None,
)
OWN_GROUP = "this program"  # of --help: flags that are no settings of a run


def run(
    main: Callable[..., None],
    define: Callable[[flags.FlagValues], None],
    program: str,
    description: str,
    positional: str = "",
    argv: Sequence[str] | None = None,
    defaults: bool = True,
) -> None:
    """Parses the flags of a program and runs it.

    A `UserError` or a bad flag ends it with one sentence on stderr and exit status 1, an `Interrupted` or Ctrl-C with
    that of the signal.

    Arguments:
        main: called with the parsed flags and the positional arguments.
        define: defines the flags of the program.
        program: name as the user calls it, e.g. "nem_tf.train".
        description: first part of --help.
        positional: what the positional arguments are, e.g. "RUN_DIR"; by default there are none.
        argv: the arguments; by default those of the process.
        defaults: whether settings that are not given have their defaults, and not the values of a run.

    Raises:
        SystemExit: where it does not end well.
    """
    open_closed_streams()
    options = flags.FlagValues()
    define(options)
    args = list(sys.argv[1:] if argv is None else argv)
    if any(arg in ("--help", "-help", "-h") for arg in args):
        try:
            print(help_text(program, description, options, positional, defaults), flush=True)
        except BrokenPipeError:  # of `| head`, which has seen enough
            drop_output()
        return
    try:
        args = flagfiles_first(args)
        check_flagfiles(args)
        _, *rest = options([program, *args])
    except (flags.Error, UserError) as error:
        sys.exit(f"{program}: {in_words(error)}")
    if rest and not positional:
        sys.exit(f"{program}: unexpected argument {rest[0]!r}; settings are given as --flag=value")
    logging.set_verbosity(logging.WARNING)  # TensorFlow reports every checkpoint it writes
    try:
        with handled(ending_signals(), _interrupt):  # so that what is begun is cleaned up
            main(options, *rest)
            sys.stdout.flush()
    except UserError as error:
        sys.exit(f"{program}: {in_words(error)}")
    except Interrupted as interrupted:
        with contextlib.suppress(OSError):  # after SIGHUP the terminal is gone
            print(f"{program}: {interrupted}", file=sys.stderr)
        sys.exit(128 + interrupted.signum)
    except KeyboardInterrupt:
        print(f"{program}: interrupted", file=sys.stderr)
        sys.exit(128 + signal.SIGINT)
    except BrokenPipeError:
        drop_output()
        sys.exit(f"{program}: ended, since what reads its output did")
    except Exception as error:
        if any(words in str(error) for words in FULL_DISK):
            sys.exit(f"{program}: the disk is full; what was written before is kept ({error})")
        if isinstance(error, MemoryError):
            sys.exit(f"{program}: this needs more memory than there is" + (f" ({error})" if str(error) else ""))
        if isinstance(error, OSError) and error.filename is not None:
            sys.exit(f"{program}: {error.filename}: {error.strerror}")
        if isinstance(error, RuntimeError) and "home directory" in str(error):  # of pathlib, of ~nobody
            sys.exit(f"{program}: a path begins with ~ and the name of nobody")
        raise


def _interrupt(signum, _):
    raise Interrupted("ended by a signal", signum)


@contextlib.contextmanager
def quiet_start() -> Iterator[None]:
    """Keeps what TensorFlow says when it is imported; shows it if that fails.

    It writes to the file descriptor, past Python's stderr. SIGTERM and SIGHUP end the program at once meanwhile:
    there is nothing to clean up yet, and an exception in the middle of an import may be lost.
    """
    with handled(ending_signals(), signal.SIG_DFL):
        yield from _quietly()


def _quietly() -> Iterator[None]:
    sys.stderr.flush()
    with tempfile.TemporaryFile() as said:
        stderr = os.dup(2)
        os.dup2(said.fileno(), 2)
        try:
            yield
        except Exception:  # not of Ctrl-C, which is no failure
            said.seek(0)
            os.write(stderr, said.read())
            raise
        finally:
            sys.stderr.flush()
            os.dup2(stderr, 2)
            os.close(stderr)


def define_trained(options: flags.FlagValues) -> None:
    """Defines the flags that choose a trained model, beside --run_dir."""
    this = {"module_name": OWN_GROUP, "flag_values": options}
    flags.DEFINE_string("preset", None, "Shipped model, or directory of a preset, in place of a run.", **this)
    flags.DEFINE_enum(
        "checkpoint", "best", ("best", "latest"), "Checkpoint of the run: best by validation loss, or latest.", **this
    )
    define_own_code(options)


def define_own_code(options: flags.FlagValues) -> None:
    """Defines the flag by which a user says that a model's code is the user's."""
    flags.DEFINE_boolean(
        "own_code", False, "Runs the network, mixture or noise that the model names by module:attribute. A stranger's "
        "model is not to run a stranger's program.", module_name=OWN_GROUP, flag_values=options,
    )  # fmt: skip


def given_trained(options: flags.FlagValues) -> Trained:
    """Returns the trained model that the flags of `define_trained` choose.

    Raises:
        UserError: none, two, one that is not there, or one that names code without --own_code.
    """
    if options.preset is None:
        return read_run(options.run_dir, options.checkpoint, options.own_code)
    for name in ("run_dir", "checkpoint"):
        if options[name].present:
            raise UserError(f"--preset={options.preset} is a model by itself: leave out --{name}")
    return read_preset(options.preset, options.own_code)


def with_noise(options: flags.FlagValues, settings: Settings) -> Settings:
    """Returns the settings of a trained model with the --noise_prob that is given, if one is."""
    return settings if options.noise_prob is None else settings.replace(noise_prob=options.noise_prob)


def define_rollout(options: flags.FlagValues) -> None:
    """Defines the flags of a roll-out."""
    this = {"module_name": OWN_GROUP, "flag_values": options}
    flags.DEFINE_integer(
        "rollout_from", None, "Last frame that the model sees; then it goes on from its own predictions.",
        lower_bound=0, **this,
    )  # fmt: skip
    flags.DEFINE_enum(
        "rollout", None, FORMS, "What it is then fed: a draw of its prediction, or the soft prediction itself as in "
        "R-NEM; by default soft for models of published balls.", **this,
    )  # fmt: skip
    flags.DEFINE_boolean("rollout_noise", True, "Whether there is noise on it, as on every frame.", **this)


def given_rollout(options: flags.FlagValues, trained: Trained) -> Rollout | None:
    """Returns the roll-out that the flags of `define_rollout` choose; None without --rollout_from.

    Raises:
        UserError: --rollout or --rollout_noise without --rollout_from.
    """
    if options.rollout_from is None:
        for name in ("rollout", "rollout_noise"):
            if options[name].present:
                raise UserError(f"--{name} says how a model goes on by itself: expected --rollout_from with it")
        return None
    form = options.rollout or datasets.rollout_form(trained.settings.data.dataset)
    return Rollout(options.rollout_from, form, options.rollout_noise)


def define_output(options: flags.FlagValues, name: str, help: str) -> None:
    """Defines the flag of a file to write, in which ~ means home.

    What is written last must not fail for what could be known first.
    """
    flags.DEFINE(_Place(), name, None, help, module_name=OWN_GROUP, flag_values=options)
    flags.register_validator(
        name,
        lambda path: path is None or _may_be_written(Path(path)),
        "expected a file in a directory that exists and can be written to",
        flag_values=options,
    )


class _Place(flags.ArgumentParser):
    """Reads a path."""

    def parse(self, argument: str) -> str:
        return os.path.expanduser(argument)

    def flag_type(self) -> str:
        return "path"


def _may_be_written(path: Path) -> bool:
    return path.parent.is_dir() and not path.is_dir() and os.access(path if path.exists() else path.parent, os.W_OK)


def output_directory(flag: str, place: str) -> Path:
    """Returns the directory that a flag names, made if need be.

    Raises:
        UserError: it is empty or a file, or cannot be written to.
    """
    if not place:
        raise UserError(f"--{flag} is empty: expected a directory")
    directory = Path(place).expanduser()
    if directory.is_file():
        raise UserError(f"--{flag}={directory} is a file: expected a directory")
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"cannot write to --{flag}={directory}: {error.strerror or error}") from error
    if not os.access(directory, os.W_OK | os.X_OK):
        raise UserError(f"cannot write to --{flag}={directory}: it is read-only")
    return directory


def check_flagfiles(args: Sequence[str], within: tuple[Path, ...] = ()) -> None:
    """Refuses flagfiles that cannot be read, and those that include themselves, which absl would leave out.

    Arguments:
        args: a command line, or the lines of a flagfile.
        within: the flagfiles that it is included by.

    Raises:
        UserError: there is such a one.
    """
    args = iter(args)
    for arg in args:
        name, is_joined, value = arg.strip().partition("=")
        if name not in FLAGFILE_FLAGS:
            continue
        value = value.strip() if is_joined else next(args, "")
        if is_joined and not value:  # as of a shell's variable that is not set
            raise UserError(f"{name}= is empty: expected a file, or a shipped one by its name")
        if not value:  # absl says what is wrong with it
            continue
        path = Path(value).expanduser()
        try:
            place = path.resolve()
            if place in within:
                raise UserError(f"--flagfile={value} includes itself: expected a flagfile that does not")
            lines = read_text(path).splitlines()
        except OSError as error:
            hint = f"; a shipped one goes by its name, {_example(path)}" if isinstance(error, FileNotFoundError) else ""
            raise UserError(f"--flagfile={value} cannot be read: {error.strerror or error}{hint}") from error
        except (ValueError, RuntimeError) as error:  # a name that no file can have, a link to itself
            raise UserError(f"--flagfile={value} cannot be read as text: {error}") from error
        said = [line.strip() for line in lines if line.strip() and not line.lstrip().startswith(("#", "//"))]
        if said and not any(re.match(r"--?[A-Za-z]", line) for line in said):
            found = said[0][:60]
            raise UserError(f"--flagfile={value} is no flagfile: expected lines of --flag=value, not {found!r}")
        check_flagfiles(lines, (*within, place))


def _example(path: Path) -> str:
    """How a shipped flagfile is told: the one of that name, with its suffix or without, best of that folder."""
    shipped = FLAGFILES.rglob("*.flags") if FLAGFILES else ()
    alike = [place for place in shipped if path.name in (place.name, place.stem)]
    alike.sort(key=lambda place: (place.parent.name != path.parent.name, len(place.parts)))
    return f"--flagfile={alike[0].relative_to(FLAGFILES).with_suffix('') if alike else 'flying_shapes_fast'}"


def flagfiles_first(args: Sequence[str]) -> list[str]:
    """Returns the arguments with every --flagfile moved to the front, and a shipped one that is named by its place.

    For absl the last value wins, so that a flagfile would overrule what stands before it on the command line.
    """
    files, others = [], []
    args = iter(args)
    for arg in args:
        name, is_joined, value = arg.partition("=")
        if name in FLAGFILE_FLAGS:
            files += (
                [f"{name}={_shipped(value)}"] if is_joined else [arg, *(_shipped(v) for _, v in zip(range(1), args))]
            )
        else:
            others.append(arg)
    return files + others


def _shipped(name):
    """Where the shipped flagfile of a name is, as in --flagfile=flying_shapes_fast; any other value as it is."""
    is_name = re.fullmatch(r"\w+(/\w+)?", name) and FLAGFILES and not os.path.isfile(name)
    path = FLAGFILES / f"{name}.flags" if is_name else None
    return str(path) if path and path.exists() else name


def help_text(
    program: str, description: str, flag_values: flags.FlagValues, positional: str = "", defaults: bool = True
) -> str:
    """Returns the program's own flags by group, a line or two each."""
    by_group = flag_values.flags_by_module_dict()
    lines = [description.strip(), "", f"usage: python -m {program} [--flag=value ...] [--flagfile=FILE]"]
    lines[-1] += f" {positional} ..." if positional else ""
    for group in (*GROUPS, "seed", OWN_GROUP):
        lines += ["", f"{group}:"] if by_group.get(group) else []
        for flag in by_group.get(group, ()):
            about = " ".join(flag.help.split())  # absl puts the values of an enum in front
            default = flag.default
            if flag.name in FIELDS:
                default = FIELDS[flag.name][1].default if defaults else None
            if default not in (None, ""):
                about += f" [{', '.join(map(str, default)) if isinstance(default, list) else default}]"
            lines.append(textwrap.fill(about, 100, initial_indent=f"  --{flag.name:<18} ", subsequent_indent=" " * 23))
    return "\n".join(lines)
