"""Reading what people pass on: a file where a file is expected, and nothing else."""

import errno
import os
import stat
from pathlib import Path


def check_regular(path: Path) -> None:
    """Refuses what is no regular file: a pipe waits for whoever writes to it, and a device may never end.

    Raises:
        OSError: it is no regular file, or there is nothing at this path.
    """
    mode = os.stat(path).st_mode
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    if not stat.S_ISREG(mode):
        raise OSError(errno.EINVAL, "it is no regular file", str(path))


def read_text(path: Path) -> str:
    """Returns the text of a regular file.

    Raises:
        OSError: see `check_regular`, or it cannot be read.
        ValueError: it is no UTF-8, or no file can have this name.
    """
    check_regular(path)
    return path.read_text(encoding="utf-8")
