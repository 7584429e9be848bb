"""Runs a function over tasks in several processes that never outlive the one that started them."""

import collections
import concurrent.futures
import contextlib
import itertools
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures.process import BrokenProcessPool

from data_gen import DataGenError

TASKS_AHEAD = 4  # for each process: enough that none waits, few enough that memory stays bounded


def available_cores() -> int:
    """Counts the cores that this process may use; macOS and Windows only know how many there are."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


NEEDS_GUARD = 'a script that is run itself needs `if __name__ == "__main__":` around its calls'


def runs_the_script_again() -> bool:
    """Says whether this is a new process that imports the script of the one that started it, as Python itself asks."""
    return getattr(multiprocessing.current_process(), "_inheriting", False)


class Workers(contextlib.AbstractContextManager):
    """Runs tasks in processes, which start when the first tasks come.

    Leaving the context, for whatever reason, cancels the tasks that wait and ends the processes. These ignore what
    a terminal sends, which is for the process that started them, and end by themselves when that one is killed.

    Arguments:
        count: number of processes; 1 runs the tasks in this one, and so does a single task.
    """

    def __init__(self, count: int):
        self._count = count
        self._pool = None

    def __exit__(self, *exception) -> None:
        if self._pool is not None:
            self._pool.shutdown(wait=True, cancel_futures=True)

    def map(self, function: Callable, tasks: Sequence[tuple]) -> Iterator:
        """Yields function(*task) for every task, in order.

        Raises:
            DataGenError: a process died.
        """
        if self._count == 1 or len(tasks) == 1:  # a process takes longer to start than to do one task
            yield from itertools.starmap(function, tasks)
            return
        waiting = collections.deque()
        try:
            for task in tasks:
                waiting.append(self._submit(function, task))
                if len(waiting) > TASKS_AHEAD * self._count:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        except BrokenProcessPool as error:
            raise DataGenError(
                "a worker process could not start or was killed, perhaps for lack of memory: try fewer --workers; "
                + NEEDS_GUARD
            ) from error

    def _submit(self, function: Callable, task: tuple) -> concurrent.futures.Future:
        # A process that starts inherits it, so that none can hit it while it imports. Twice, since Python's tracker of
        # shared resources, which starts with the pool and would heed SIGHUP, ends the blocking of Ctrl-C.
        if self._pool is None:
            context = multiprocessing.get_context("spawn")  # a fork would copy the locks of the caller's threads
            with _of_terminal_later():
                self._pool = concurrent.futures.ProcessPoolExecutor(self._count, context, initializer=_begin_work)
        with _of_terminal_later():
            return self._pool.submit(function, *task)


def _begin_work() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    multiprocessing.parent_process().join()
    os._exit(1)


@contextlib.contextmanager
def _of_terminal_later() -> Iterator[None]:
    """Delivers what a terminal sends meanwhile, Ctrl-C or that it closes, at the end, where the system can do that."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGHUP})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
