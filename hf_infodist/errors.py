"""What can go wrong for a user, told in three lines: what happened, why, and what to type."""

import operator
from typing import Any


class InfodistError(Exception):
    """An error a user can act on.

    Args:
        what: What happened, naming the offending value; one line.
        why: Why that stops the comparison; one line.
        fix: What to type instead; one line.
    """

    exit_code = 1

    def __init__(self, what: str, why: str, fix: str):
        super().__init__("\n".join((what, why, fix)))
        self.what, self.why, self.fix = what, why, fix


class UsageError(InfodistError, ValueError):
    """A setting that cannot be meant (exit code 2)."""

    exit_code = 2


class NotFoundError(InfodistError, LookupError):
    """A name that leads nowhere, or to a place that cannot be reached now (exit code 3)."""

    exit_code = 3


class UnfitError(InfodistError, ValueError):
    """Something that exists but cannot take part in a comparison (exit code 4)."""

    exit_code = 4


class ResourceError(InfodistError, RuntimeError):
    """Memory or time ran out (exit code 5)."""

    exit_code = 5


def whole(value: Any, name: str) -> int:
    """Return a whole number of any type as an int: NumPy's, a tensor's, ``1e3``.

    Raises:
        UsageError: If it is none.
    """
    try:
        return operator.index(value)
    except TypeError:
        if isinstance(value, float) and value.is_integer():
            return int(value)
    why = f"{name} is a whole number, and this is of type {type(value).__name__}"
    raise UsageError(f"{name} = {value!r:.80}", why, f"give one, such as {name}=100")
