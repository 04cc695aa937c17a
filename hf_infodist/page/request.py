"""What a visitor may ask for: published models by name, listed images, bounded sizes. Everything else is refused."""

import difflib
import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any
from urllib.parse import urlencode

from hf_infodist.errors import InfodistError, UsageError
from hf_infodist.hub import plain_name
from hf_infodist.protocol import CODING_VERSION, PROTOCOLS

DEMO = ("demo:cnn", "demo:vit", "random:demo:cnn", "random:demo:vit")
DATASETS = (
    "digits",
    "zh-plus/tiny-imagenet",
    "uoft-cs/cifar10",
    "uoft-cs/cifar100",
    "zalando-datasets/fashion_mnist",
)
OFFERED = ("standard", "thorough", "single")
_WORD = r"[A-Za-z0-9](?:[A-Za-z0-9_-]|\.(?!\.)){0,95}"
_ON_HUB = re.compile(rf"{_WORD}/{_WORD}(?:@(?:refs/pr/\d{{1,6}}|{_WORD}))?")
_SHOWN = 60  # characters of a refused value that are repeated


@dataclass(frozen=True)
class Limits:
    """What one page gives to one visitor.

    Attributes:
        images: Most images of a comparison.
        parameters: Most weights of a model.
        weight_bytes: Largest download of a model's weights.
        seconds: Time budget of a run; at its end what there is so far is shown.
        waiting: Most comparisons that wait for their turn.
        per_visitor: Most comparisons of one visitor that wait or run.
        disk_bytes: What outputs and checkpoints may take on disk before the oldest go; no bound if None.
    """

    images: int = 2000
    parameters: int = 400_000_000
    weight_bytes: int = 2_000_000_000
    seconds: float = 600.0
    waiting: int = 16
    per_visitor: int = 2
    disk_bytes: int | None = None


@dataclass(frozen=True)
class Comparison:
    """One question to the page; what changes the number is in it, and nothing else."""

    a: str
    b: str
    images: str = "digits"
    k: int = 400
    protocol: str = "standard"
    seed: int = 0

    @property
    def key(self) -> str:
        """Name of its record, 32 hexadecimal digits; another one where protocol or code make another number."""
        decides = asdict(self) | {"protocol": PROTOCOLS[self.protocol].to_dict(), "coding": CODING_VERSION}
        return hashlib.sha256(json.dumps(decides, sort_keys=True).encode()).hexdigest()[:32]

    @property
    def query(self) -> str:
        """The permalink's query."""
        return urlencode({name: value for name, value in asdict(self).items() if name != "seed" or value})

    def to_dict(self) -> dict[str, Any]:
        """Return every field."""
        return asdict(self)

    def swapped(self) -> "Comparison":
        """Return the same question with A and B exchanged."""
        return Comparison(self.b, self.a, self.images, self.k, self.protocol, self.seed)


class Refusal(UsageError):
    """A value that the page does not take.

    Args:
        field: Which box it came from: a field of `Comparison`.
        what: As in `InfodistError`.
        why: As in `InfodistError`.
        fix: As in `InfodistError`.
    """

    def __init__(self, field: str, what: str, why: str, fix: str):
        super().__init__(what, why, fix)
        self.field = field


def requested(
    a: Any, b: Any, images: Any = "digits", k: Any = 400, protocol: Any = "standard", seed: Any = 0, *, limits: Limits
) -> Comparison:
    """Return a comparison made of values from outside.

    Raises:
        Refusal: If one of them is not taken; it names the box.
    """
    return Comparison(
        _model("a", a),
        _model("b", b),
        _one_of("images", images, DATASETS, "a dataset of unknown size could fill the disk of this machine"),
        _whole("k", k, 16, limits.images, "fewer than 16 say nothing, and more would keep others waiting"),
        _one_of("protocol", protocol, OFFERED, "a distance is defined by its protocol, so the name has to be exact"),
        _whole("seed", seed, 0, 2**31, "a seed is a number from zero"),
    )


def request_in_link(query: Mapping[str, str], *, limits: Limits) -> Comparison | None:
    """Return the comparison that a permalink names; None if it names none.

    Raises:
        Refusal: If it names something that is not taken.
    """
    names = ("a", "b", "images", "k", "protocol", "seed")
    given = {name: query[name] for name in names if query.get(name)}
    if not given.keys() & {"a", "b"}:
        return None
    return requested(given.pop("a", ""), given.pop("b", ""), **given, limits=limits)


def request_in_click(text: str) -> Comparison | None:
    """Return the pair that a click in a picture has named."""
    try:
        a, b, (images, k, protocol, seed) = json.loads(text[:2000])
        return Comparison(str(a), str(b), str(images), int(k), str(protocol), int(seed))
    except (ValueError, TypeError):
        return None


def near(name: str, known: Iterable[str]) -> list[str]:
    """Return up to three known names like this one."""
    return difflib.get_close_matches(name[:_SHOWN], list(known), 3, 0.5)


def shown(value: Any) -> str:
    """Return a value from outside as it may be repeated in a message: one short line without control characters."""
    text = "".join(character if character.isprintable() else "�" for character in str(value)[: _SHOWN + 1])
    return f"‘{text[:_SHOWN]}{'…' if len(text) > _SHOWN else ''}’"


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


def _model(field: str, value: Any) -> str:
    name = plain_name(str(value or ""))
    if name in DEMO or (len(name) < 300 and _ON_HUB.fullmatch(name)):
        return name
    what = f"{shown(name)} is not a model that this page takes" if name else "there is no model here yet"
    why = "it compares models of the Hub by name, and the embedded ones; never files, addresses or other libraries"
    meant = near(name, DEMO)
    fix = f"did you mean {' or '.join(meant)}?" if meant else "use org/name, org/name@revision, demo:cnn or demo:vit"
    raise Refusal(field, what, why, fix)


def _one_of(field: str, value: Any, choices: tuple[str, ...], why: str) -> str:
    if isinstance(value, str) and value in choices:
        return value
    raise Refusal(field, f"{shown(value)} is not offered here", why, f"choose one of {', '.join(choices)}")


def _whole(field: str, value: Any, least: int, most: int, why: str) -> int:
    try:
        number = int(value) if not isinstance(value, str) or len(value) < 12 else most + 1
        if number == float(value) and least <= number <= most:
            return number
    except (TypeError, ValueError, OverflowError):
        pass
    raise Refusal(field, f"{field} = {shown(value)} is not offered here", why, f"use {least} to {most:,}")


assert set(OFFERED) <= PROTOCOLS.keys()
