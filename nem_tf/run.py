"""The run directory: what is kept of a run. Nothing in it that is not its own rotation is ever deleted.

flags.txt       the settings, a flagfile that can be fed back
data.json       the shape of the frames, whether they are still images, the length of an action, what the data are
origin.json     where the first weights came from, where they came from another run
history.jsonl   one JSON object for every change of the settings on the way
metrics.jsonl   one JSON object for every validation
latest/         the last checkpoints, to resume from
best/           the checkpoint with the best validation loss
evaluation_*    what nem_tf.evaluate found
events.out.*    TensorBoard
"""

import contextlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import filelock

from nem_tf.errors import UserError
from nem_tf.files import write_whole
from nem_tf.reading import read_text
from nem_tf.scoring.record import check_origin

FLAGFILE = "flags.txt"  # there is a run where it is: it is written when all else that says what a run is stands
BEGUN = (DATA, ORIGIN) = ("data.json", "origin.json")


class Run:
    """A run directory. Constructing it writes nothing.

    Arguments:
        path: the directory; it need not be there.
    """

    def __init__(self, path: str | Path):
        self.path = Path(path).expanduser()
        self.flagfile = self.path / FLAGFILE
        self.metrics = self.path / "metrics.jsonl"

    def exists(self) -> bool:
        """Tells whether the directory holds a run.

        Raises:
            UserError: it holds something else.
        """
        if self.flagfile.exists():
            return True
        if self.path.exists() and not (self.path.is_dir() and (not any(self._content()) or self._is_half_begun())):
            raise UserError(f"{self.path} exists and is not a run directory: choose another --run_dir")
        return False

    def _is_half_begun(self):
        """Whether it holds what `write` writes first and nothing else, as a full disk leaves it."""
        if {path.name for path in self._content()} - set(BEGUN):
            return False
        try:
            _ = self.image_shape, self.data
        except UserError:  # somebody else's file of that name
            return False
        return True

    def _content(self):
        return (path for path in self.path.iterdir() if path.name != ".lock")

    @contextlib.contextmanager
    def lock(self) -> Iterator[None]:
        """Keeps other processes from training here, and makes the directory.

        Raises:
            UserError: another one does, or the directory cannot be made.
        """
        found = self.path.is_dir()
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            lock = filelock.FileLock(str(self.path / ".lock"))
            lock.acquire(blocking=False)
        except filelock.Timeout as error:
            raise UserError(f"another process is training in --run_dir={self.path}: choose another one") from error
        except OSError as error:
            raise UserError(f"cannot write --run_dir={self.path}: {error.strerror or error}") from error
        try:
            yield
        finally:
            if not any(self._content()):  # nothing came of it
                with contextlib.suppress(OSError):
                    (self.path / ".lock").unlink(missing_ok=True)  # while it is held: nobody else has it by then
                    if not found:
                        self.path.rmdir()
            lock.release()

    def write(
        self,
        flagfile: str,
        image_shape: tuple[int, int, int],
        data: Mapping[str, Any],
        source: Mapping[str, Any],
        origin: Mapping[str, Any] | None = None,
        nr_actions: int = 0,
        is_static: bool = False,
    ) -> None:
        """Writes what a run is; what it was before must have been looked at.

        Arguments:
            flagfile: its settings as text.
            image_shape: (H, W, C) of the frames.
            data, source: of `nem_tf.data.identity_of` and `source_of`.
            origin: where its first weights come from, if from another run.
            nr_actions: A, entries of the actions that the model takes.
            is_static: whether its data are still images, shown again and again.

        Raises:
            UserError: the directory cannot be written.
        """
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            described = {"image_shape": image_shape, "nr_actions": nr_actions, "is_static": is_static,
                         "identity": data, "source": source}  # fmt: skip
            write_whole(self.path / DATA, json.dumps(described, indent=1) + "\n")
            if origin:
                write_whole(self.path / ORIGIN, json.dumps(origin, indent=1) + "\n")
            elif not self.flagfile.exists():
                (self.path / ORIGIN).unlink(missing_ok=True)  # of one that was not begun, after all
            write_whole(self.flagfile, flagfile)
        except OSError as error:
            raise UserError(f"cannot write --run_dir={self.path}: {error.strerror or error}") from error

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(H, W, C) of the frames that the run was trained on."""
        shape = self._data("image_shape", list)
        if not is_image_shape(shape):
            raise UserError(self._damaged(f"image_shape is {shape!r:.60}, expected three whole numbers"))
        return tuple(shape)

    @property
    def nr_actions(self) -> int:
        """A, the entries of the actions that the model takes; 0 for none."""
        return self._data("nr_actions", int)

    @property
    def is_static(self) -> bool:
        """Whether it was trained on still images; False of an older run, which does not say it."""
        return self._data("is_static", bool)

    @property
    def data(self) -> dict[str, Any]:
        """The identity of the data it was trained on."""
        data = self._data("identity", dict)
        if not is_identity(data):
            raise UserError(self._damaged(f"identity is {data!r:.60}"))
        return data

    @property
    def source(self) -> dict[str, Any]:
        """Where the material of its data came from."""
        return self._data("source", dict)

    def _data(self, name, kind):
        try:
            # An older run says nothing of actions, nor whether its images are still.
            value = {"nr_actions": 0, "is_static": False, **json.loads(read_text(self.path / DATA))}[name]
        except OSError as error:
            raise UserError(self._damaged(error.strerror)) from error
        except KeyError as error:
            raise UserError(self._damaged(f"it says nothing of {name}")) from error
        except (ValueError, TypeError, RecursionError) as error:
            raise UserError(self._damaged(f"it is no JSON object, {error}")) from error
        if type(value) is not kind:
            raise UserError(self._damaged(f"{name} is {value!r:.60}"))
        return value

    def _damaged(self, reason):
        return f"{self.path} is not a run directory: cannot read data.json ({reason})"

    @property
    def origin(self) -> dict[str, Any] | None:
        """Where its first weights came from; None where they were drawn."""
        path = self.path / ORIGIN
        try:
            origin = json.loads(read_text(path)) if os.path.lexists(path) else None
            check_origin(origin, "origin")
        except (OSError, ValueError, RecursionError) as error:
            raise UserError(f"{path} is damaged: cannot be read ({error})") from error
        return origin

    @property
    def history(self) -> list[dict[str, Any]]:
        """The changes of its settings on the way."""
        return read_lines(self.path / "history.jsonl")

    def add_to_history(self, change: Mapping[str, Any]) -> None:
        append_line(self.path / "history.jsonl", change)


def is_image_shape(shape: Sequence[Any]) -> bool:
    """Tells whether these are height, width and channels."""
    return len(shape) == 3 and all(type(size) is int and size > 0 for size in shape)


def is_identity(data: Mapping[str, Any]) -> bool:
    """Tells whether this may be what `nem_tf.data.identity_of` returned."""
    return isinstance(data.get("settings", {}), dict) and type(data.get("seed", 0)) is int


def append_line(path: Path, line: Mapping[str, Any]) -> None:
    """Adds a JSON object to a file of lines, on a line of its own whatever a crash left of the last one."""
    text = json.dumps(line, allow_nan=False) + "\n"
    with path.open("ab+") as file:
        if file.tell():
            file.seek(-1, os.SEEK_END)
            text = text if file.read() == b"\n" else f"\n{text}"
        file.write(text.encode())


def read_lines(path: Path) -> list[dict[str, Any]]:
    """Returns the JSON objects of a file of lines, [] where it is not there.

    A line that is none, as one that a crash cut off, is left out.
    """
    lines = []
    for text in path.read_bytes().splitlines() if path.is_file() else ():
        try:
            line = json.loads(text)
        except (ValueError, RecursionError):
            continue
        if isinstance(line, dict):
            lines.append(line)
    return lines
