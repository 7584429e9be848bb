"""What the programs tell their user instead of a traceback."""


class UserError(Exception):
    """A request that cannot be met; the message is one sentence that names the flag or file and what was expected."""
