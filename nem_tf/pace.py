"""How long a program will take, said where no progress bar says it."""

import time
from collections.abc import Callable

SECONDS = 60  # of work, before it is said


class Pace:
    """Says once how long it will take: the next line of a log may be hours away.

    Arguments:
        say: prints a line.
    """

    def __init__(self, say: Callable[[str], object]):
        self._say, self._told, self._begun = say, False, 0.0

    def begin(self) -> None:
        """Work begins here, that whose speed counts."""
        self._begun = time.monotonic()

    def after(self, done: int, left: int, sentence: str) -> None:
        """Says it if it is time to and was not said yet.

        Arguments:
            done, left: pieces of work since `begin`, and to come.
            sentence: what to say, with {} in the place of the minutes.
        """
        seconds = time.monotonic() - self._begun
        if not self._told and seconds >= SECONDS:
            self._told = True
            self._say(sentence.format(f"{left * seconds / done / 60:.1f} minutes"))
