"""What is told of an error: in public nothing of this machine."""

import re

from hf_infodist.errors import InfodistError
from hf_infodist.page.request import Limits

_PATHS = re.compile(r"(?<![\w:/.])(?:~|[A-Za-z]:)?[/\\](?:[^\s'\"/\\:,;()]+[/\\])+[^\s'\":,;()]*")


def in_public(error: BaseException) -> tuple[str, str, str]:
    """Return an error in three lines that tell nothing of this machine: no paths, no traceback."""
    if not isinstance(error, InfodistError):
        return (
            "this comparison failed",
            f"of a reason that this page does not know yet ({type(error).__name__})",
            "try other models, or fewer images",
        )
    what, why, fix = (_PATHS.sub("…", line) for line in (error.what, error.why, error.fix))
    return what, why, fix


def told(error: BaseException, limits: Limits) -> tuple[str, str, str]:
    """Return an error in three lines, as those who come to a page may know it."""
    if limits.public:
        return in_public(error)
    if isinstance(error, InfodistError):
        return error.what, error.why, error.fix
    why = " ".join(f"{type(error).__name__}: {error}".split())[:300]
    return "this comparison failed", why, "infodist compare shows the whole of it with --debug"
