"""What can go wrong for a user, told in three lines: what happened, why, and what to type."""

import errno
import operator
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
"""What a system says of a disk that is full, or of a file that may not grow."""

_FORBIDDEN = (errno.EROFS, errno.EACCES, errno.EPERM)
_MISPLACED = (errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.ELOOP, errno.ENAMETOOLONG, errno.EINVAL)
_USED_UP = (errno.ENOMEM, errno.EMFILE, errno.ENFILE, errno.EAGAIN)


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
    """Memory, disk or time ran out (exit code 5)."""

    exit_code = 5


class NoSpaceError(ResourceError):
    """A disk is full: whatever is done next would fail as well (exit code 5)."""


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


def refused_by_system(error: BaseException) -> InfodistError | None:
    """Return in three lines what the operating system has refused; None if an error is about something else.

    Libraries wrap such errors in their own: what an error was raised from is looked at, too.
    """
    for part in _causes(error):
        if isinstance(part, MemoryError):
            fix = "use fewer images, smaller models, or a machine with more memory"
            return ResourceError("there is not enough memory", str(part) or "the system gave no more", fix)
        if isinstance(part, OSError) and not isinstance(part, ConnectionError | TimeoutError):
            if told := _of_system(part):
                return told
        elif "No space left on device" in str(part):
            return _no_space(str(part).splitlines()[0])
    return None


def _of_system(error: OSError) -> InfodistError | None:
    place = error.filename2 or error.filename
    where, said = f"{place!r}" if place else "a file", error.strerror or str(error)
    if error.errno in FULL:
        return _no_space(f"{said}: {place}" if place else said)
    if error.errno in _USED_UP:
        return ResourceError("the system has no more of something", said, "end other programs, or use fewer --workers")
    if error.errno in _FORBIDDEN:
        fix = "choose another path, or for what is kept between runs another INFODIST_HOME, HF_HOME or TMPDIR"
        return UsageError(f"{where} cannot be written or read", said, fix)
    if error.errno in _MISPLACED and place:
        return UsageError(f"{where} cannot be used", said, "check the path, INFODIST_HOME and HF_HOME")
    return None


def _no_space(why: str) -> NoSpaceError:
    fix = "make room, or set INFODIST_HOME, HF_HOME or TMPDIR to a larger disk; the same command then goes on"
    return NoSpaceError("there is no room left on a disk", why, fix)


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__


@contextmanager
def telling_of_system() -> Iterator[None]:
    """Raise what the operating system refuses as an error of ours."""
    try:
        yield
    except OSError as error:
        raise refused_by_system(error) or error from error
