"""Which of several models a word means: its name, or the end of it."""

from collections.abc import Sequence
from difflib import get_close_matches

from hf_infodist.errors import NotFoundError, UsageError
from hf_infodist.hub import plain_name

_LISTED = 10


def find_name(word: str, names: Sequence[str], fix: str = "type {} instead") -> str:
    """Return the one of some names that is meant: by the whole of it, or by an end that no other has.

    Args:
        word: What was typed.
        names: Of the models that there are.
        fix: What to type instead, with ``{}`` where the name goes.

    Raises:
        NotFoundError: If no name ends so.
        UsageError: If several do.
    """
    plain = plain_name(word)
    if plain in names:
        return plain
    after_separator = [name for name in names if name.endswith((f"/{plain}", f":{plain}"))]
    found = after_separator or [name for name in names if plain and name.endswith(plain)]
    if len(found) == 1:
        return found[0]
    if found:
        what, why = f"{word!r} is the end of {len(found)} names", f"they are {_list(found)}"
        raise UsageError(what, why, fix.format(found[0]))
    close = (get_close_matches(word, names, 1, 0) or [*names, plain])[0]
    what, why = f"no model is named {word!r} here, nor ends so", f"there are {len(names)}: {_list(names)}"
    raise NotFoundError(what, why, fix.format(close))


def _list(names: Sequence[str]) -> str:
    return f"{', '.join(names[:_LISTED])}{', …' if len(names) > _LISTED else ''}"
