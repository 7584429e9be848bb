"""Files and directories that are there either whole or not at all."""

import contextlib
import errno
import os
import shutil
from collections.abc import Iterator
from pathlib import Path


def write_whole(path: Path, text: str) -> None:
    """Writes a file that is there either whole or as it was."""
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        partial.write_text(text)
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
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        partial.mkdir(parents=True)
        yield partial
        partial.rename(path)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
