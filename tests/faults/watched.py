"""Programs in forked processes that are watched: how long, how much memory, how they end."""

import contextlib
import os
import resource
import signal
import sys
import time
from pathlib import Path
from typing import NamedTuple

from tests.faults.children import call

MEMORY = 4 << 30  # bytes, resident, of a program that reads a small file
SECONDS = 10  # of process time beyond what the good file takes
IDLE, AWAKE = 15, 0.2  # seconds with no more process time than these: it waits for something that does not come
LONGEST = 120  # seconds in all, whatever the machine does beside
POLL = 0.05
_TICKS = os.sysconf("SC_CLK_TCK")


class Ended(NamedTuple):
    """How a program ended."""

    status: int | None  # None where it was ended
    fault: str  # "hang" or "memory", else ""
    seconds: float  # of process time
    out: str
    err: str


def run(context, program: str, args: list[str], place: Path, seconds: float = 60.0, environment=None) -> Ended:
    """Runs a program in a fork, its working directory `place`, where what it says is kept.

    Arguments:
        context: of multiprocessing, that of a server that forks.
        program: its module.
        args: of its command line.
        place: a directory.
        seconds: of process time that it may take, and `SECONDS` beside.
        environment: variables for it.
    """
    process = context.Process(target=_work, args=(program, args, str(place), environment or {}), daemon=False)
    process.start()
    fault, used, before, moved, begun = "", 0.0, 0.0, time.monotonic(), time.monotonic()
    while process.is_alive():
        process.join(POLL)
        with contextlib.suppress(OSError, ValueError, IndexError):
            now = _process_time(process.pid)
            used = now
            if used > before + AWAKE:
                before, moved = used, time.monotonic()
            if _peak(process.pid) > MEMORY:
                fault = "memory"
        idle, total = time.monotonic() - moved, time.monotonic() - begun
        if used > seconds + SECONDS or idle > IDLE or total > LONGEST:
            fault = fault or "hang"
        if fault:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            break
    process.join()
    with contextlib.suppress(OSError, ValueError):
        if not fault and int((place / "peak").read_text()) > MEMORY:
            fault = "memory"
    status = None if fault else process.exitcode
    said = [_text(place / name) for name in ("stdout", "stderr")]
    return Ended(status, fault, used, *said)


def _text(path):
    with contextlib.suppress(OSError), path.open("rb") as file:
        return file.read(1 << 20).decode(errors="replace")
    return ""


def _process_time(pid):
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return sum(map(int, fields[11:15])) / _TICKS  # its own and that of children it waited for


def _peak(pid):
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return 1024 * next((int(line.split()[1]) for line in lines if line.startswith("VmRSS")), 0)  # none of a zombie


def _work(program, args, place, environment):
    with contextlib.suppress(PermissionError):
        os.setsid()
    os.chdir(place)
    for name, stream in (("stdout", sys.stdout), ("stderr", sys.stderr)):
        os.dup2(os.open(name, os.O_WRONLY | os.O_CREAT), stream.fileno())
    os.environ.update(environment)
    try:
        from nem_tf.registry import NETWORKS

        NETWORKS.register("small", "conftest:small_network")  # or no preset of it would be read
        call(program, args)
    finally:
        Path(place, "peak").write_text(str(1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss))
