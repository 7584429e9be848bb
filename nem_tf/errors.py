"""What the programs tell their user instead of a traceback."""


class UserError(Exception):
    """A request that cannot be met; the message is one sentence that names the flag or file and what was expected."""


class Interrupted(Exception):
    """SIGTERM, SIGHUP or Ctrl-C ended the work; the message says what was kept, `signum` which signal it was."""

    def __init__(self, message: str, signum: int):
        super().__init__(message)
        self.signum = signum
