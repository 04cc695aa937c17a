"""What a name leads to, and what libraries say while it is read."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from hf_infodist.errors import InfodistError, UnfitError
from hf_infodist.hub import one_line

_LONGEST = 200  # characters of a name that are compared
FORMS = "use org/name, timm:NAME, torchvision:NAME, a folder such as ./name, random:NAME, demo:cnn or demo:vit"


@dataclass(frozen=True)
class Source:
    """Where a model name leads."""

    id: str  # the name itself
    library: str = ""  # timm, torchvision or transformers; torch for a plain module
    fresh: bool = False  # random weights are wanted
    model: str = ""  # name of the architecture within its library
    weights: Any = None  # torchvision's entry for the weights
    url: str = ""  # of the weights, unless they are in a folder
    folder: Path | None = None  # in the layout of timm or transformers
    repo: str = ""  # of the Hub, that the folder is a copy of
    revision: str | None = None  # its commit
    asked: str | None = None  # the branch, tag or commit that was asked for
    headless: bool = False  # a network that has no classes will do


@contextmanager
def refusing(source: Source, why: str) -> Iterator[None]:
    """Turn whatever a library raises into an UnfitError."""
    try:
        yield
    except InfodistError:
        raise
    except Exception as error:
        fix = "choose another model, or repair this one"
        raise UnfitError(f"{source.id!r} cannot be used: {why}", one_line(error), fix) from error


@contextmanager
def quiet_hub() -> Iterator[None]:
    """Keep the Hub's client from reporting what is checked here anyway."""
    from huggingface_hub.utils import logging as chatter

    level = chatter.get_verbosity()
    chatter.set_verbosity_error()
    try:
        yield
    finally:
        chatter.set_verbosity(level)


@contextmanager
def quiet(*, bars: bool = False) -> Iterator[None]:
    """Keep transformers quiet too; large files may show bars."""
    from huggingface_hub.utils import are_progress_bars_disabled
    from transformers.utils import logging as chatter

    level = chatter.get_verbosity()
    hide = not bars and chatter.is_progress_bar_enabled() and not are_progress_bars_disabled()
    chatter.set_verbosity_error()
    if hide:
        chatter.disable_progress_bar()  # and the Hub's
    try:
        with quiet_hub():
            yield
    finally:
        chatter.set_verbosity(level)
        if hide:
            chatter.enable_progress_bar()


def near(name: str, known: Sequence[str], most: int = 1, *, prefix: str = "", suffix: str = "") -> list[str]:
    """Return the known names that are spelled most alike; capital letters make no difference."""
    spelled = {one.casefold(): one for one in known}
    return [
        f"{prefix}{spelled[near]}{suffix}" for near in get_close_matches(name.casefold()[:_LONGEST], spelled, most)
    ]


def did_you_mean(names: Sequence[str], otherwise: str) -> str:
    """Return what to type: one of the names, or else what is said otherwise."""
    return f"did you mean {' or '.join(names)}?" if names else otherwise
