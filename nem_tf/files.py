"""Files and directories that are there either whole or not at all."""

import contextlib
import errno
import os
import re
import shutil
import socket
from collections.abc import Iterator
from pathlib import Path


def write_whole(path: Path, content: str | bytes) -> None:
    """Writes a file that is there either whole or as it was. Its mode stays; a link becomes a file of its own."""
    partial = partial_of(path)
    try:
        partial.write_bytes(content.encode() if isinstance(content, str) else content)
        if path.is_file() and not path.is_symlink():
            shutil.copymode(path, partial)
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


@contextlib.contextmanager
def whole_directory(path: Path) -> Iterator[Path]:
    """Yields a directory to fill. It becomes `path` where that goes well, and is gone where it does not.

    Raises:
        OSError: path is there already, or cannot be written.
    """
    if os.path.lexists(path):
        raise FileExistsError(errno.EEXIST, "it exists, choose a new one", str(path))
    partial = partial_of(path)
    try:
        partial.mkdir(parents=True)
        yield partial
        partial.rename(path)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def partial_of(path: Path) -> Path:
    """Returns where this process writes before the name is due.

    What processes of this host that were killed left of the same name is removed.
    """
    host = re.sub(r"\W", "-", socket.gethostname())
    begin, end = f".{path.name}.{host}-", ".partial"
    names = []
    with contextlib.suppress(OSError):  # there is no such directory yet, or it is not to be read
        names = os.listdir(path.parent)
    for name in names:  # and not `glob`: Python keeps every pattern
        if not (name.startswith(begin) and name.endswith(end)):
            continue
        number, left = name.removeprefix(begin).removesuffix(end), path.with_name(name)
        if number.isdecimal() and not _is_running(int(number)):
            shutil.rmtree(left, ignore_errors=True) if left.is_dir() else left.unlink(missing_ok=True)
    return path.with_name(f"{begin}{os.getpid()}{end}")


def _is_running(pid):
    if os.name == "nt":  # where a signal of 0 is Ctrl-C
        return True
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):  # of somebody else, or no such number
        return True
    return True
