"""What may be asked for. In public published models by name, listed images and bounded sizes; on one's own machine all
that the command line takes. Everything else is refused.
"""

import difflib
import hashlib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, ClassVar
from urllib.parse import urlencode

from hf_infodist.errors import UsageError
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
KNOWN = {f"EfficientNet-Lite{i}": f"timm/tf_efficientnet_lite{i}.in1k" for i in range(3)}
"""Networks of which only answers came with the page, and where the Hub has them."""
KNOWN_IMAGES = "nature photographs"  # of these answers; they did not come with the page
OFFERED = ("standard", "thorough", "single")
_WORD = r"[A-Za-z0-9](?:[A-Za-z0-9_-]|\.(?!\.)){0,95}"
EXACT = "a number is defined by its protocol, so the name has to be exact"
_ON_HUB = re.compile(rf"{_WORD}/{_WORD}(?:@(?:refs/pr/\d{{1,6}}|{_WORD}))?")
_LONGEST = 1000  # characters of a name
_SHOWN = 60  # characters of a refused value that are repeated


@dataclass(frozen=True)
class Limits:
    """What one page gives to one visitor.

    Attributes:
        public: Whether strangers come: then names lead to published models, listed images and nowhere else. Otherwise
            the page takes what the command line takes: folders, files and every library, of any size.
        images: Most images of a comparison.
        parameters: Most weights of a model.
        weight_bytes: Largest download of a model's weights.
        seconds: Time budget of a run; at its end what there is so far is shown.
        waiting: Most comparisons that wait for their turn.
        per_visitor: Most comparisons of one visitor that wait or run.
        others: Most models that are ranked in one go.
        disk_bytes: What outputs and checkpoints may take on disk before the oldest go; no bound if None.
    """

    public: bool = True
    images: int = 2000
    parameters: int = 400_000_000
    weight_bytes: int = 2_000_000_000
    seconds: float = 600.0
    waiting: int = 16
    per_visitor: int = 2
    others: int = 20
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
    what: ClassVar[str] = "compare"

    @property
    def key(self) -> str:
        """Name of its record, 32 hexadecimal digits; another one where protocol or code make another number."""
        preset = PROTOCOLS.get(self.protocol)
        coding = preset.coding if preset else CODING_VERSION
        decides = asdict(self) | {"protocol": preset and preset.to_dict(), "coding": coding}
        return hashlib.sha256(json.dumps(decides, sort_keys=True).encode()).hexdigest()[:32]

    @property
    def models(self) -> dict[str, str]:
        """The models, by box."""
        return {"a": self.a, "b": self.b}

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
        field: Which box it came from: a field of `Comparison` or `Start`.
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
        model_of("a", a, limits),
        model_of("b", b, limits),
        images_of(images, limits),
        number_of_images(k, limits),
        one_of("protocol", protocol, OFFERED if limits.public else tuple(PROTOCOLS), EXACT),
        seed_of(seed),
    )


def takes(name: str, limits: Limits) -> bool:
    """Tell whether a page takes the name of a model."""
    try:
        return bool(model_of("a", name, limits))
    except Refusal:
        return False


def request_in_link(query: Mapping[str, str], *, limits: Limits) -> Comparison | None:
    """Return the comparison that a permalink names; None if it names none.

    Raises:
        Refusal: If it names something that is not taken.
    """
    given = _given(query)
    if not given.keys() & {"a", "b"}:
        return None
    return requested(given.pop("a", ""), given.pop("b", ""), **given, limits=limits)


def named_in_link(query: Mapping[str, str]) -> Comparison | None:
    """Return the comparison that a permalink names, whether or not it may be asked for."""
    given = _given(query)
    if not {"a", "b"} <= given.keys():
        return None
    rest = {"images": "digits", "k": 400, "protocol": "standard", "seed": 0}
    return named(*({"a": "", "b": ""} | rest | given).values())


def _given(query: Mapping[str, str]) -> dict[str, str]:
    return {name: query[name] for name in ("a", "b", "images", "k", "protocol", "seed") if query.get(name)}


def request_in_click(text: str) -> Comparison | None:
    """Return the pair that a click in a picture has named."""
    try:
        a, b, settings = json.loads(text[:5000])
        return named(a, b, *settings)
    except (ValueError, TypeError):
        return None


def named(*values: Any) -> Comparison | None:
    """Return the comparison that values name, whether or not it may be asked for: known answers are found by it."""
    try:
        a, b, images, k, protocol, seed = values
        f"{a}{b}{images}{protocol}".encode()  # half a character is in no name
        return Comparison(
            plain_name(str(a)), plain_name(str(b)), str(images).strip(), int(k), str(protocol), int(seed)
        )
    except (ValueError, TypeError, OverflowError):
        return None


def near(name: str, known: Iterable[str]) -> list[str]:
    """Return up to three known names like this one."""
    return difflib.get_close_matches(name[:_SHOWN], list(known), 3, 0.5)


def shown(value: Any) -> str:
    """Return a value from outside as it may be repeated in a message: one short line without control characters."""
    text = "".join(character if character.isprintable() else "�" for character in str(value)[: _SHOWN + 1])
    return f"‘{text[:_SHOWN]}{'…' if len(text) > _SHOWN else ''}’"


def model_of(field: str, value: Any, limits: Limits) -> str:
    """Return the name of a model, from outside; `Refusal` if it is not taken."""
    if isinstance(value, str) and (name := value.strip()) in KNOWN:
        what, why = f"of {name} only answers came with this page", "it is too large to be a part of it"
        raise Refusal(field, what, why, f"type {KNOWN[name]} to have it from the Hub")
    if limits.public:
        return _published(field, value)
    return plain_name(_name(field, value, "org/name, timm:NAME, torchvision:NAME, ./folder or demo:cnn"))


def images_of(value: Any, limits: Limits) -> str:
    """Return the name of a dataset, from outside; `Refusal` if it is not taken."""
    if value == KNOWN_IMAGES:
        what, why = f"of the {value} only answers came with this page", "they are too many to be a part of it"
        raise Refusal("images", what, why, f"choose one of {', '.join(DATASETS)}")
    if limits.public:
        why = "a dataset of unknown size could fill the disk of this machine"
        return one_of("images", value, DATASETS, why)
    return _name("images", value, "digits, org/name or a folder")


def _published(field: str, value: Any) -> str:
    name = plain_name(str(value or ""))
    if name in DEMO or (len(name) < 300 and _ON_HUB.fullmatch(name)):
        return name
    what = f"{shown(name)} is not a model that this page takes" if name else "there is no model here yet"
    why = "it compares models of the Hub by name, and the embedded ones; never files, addresses or other libraries"
    meant = near(name, DEMO)
    fix = f"did you mean {' or '.join(meant)}?" if meant else "use org/name, org/name@revision, demo:cnn or demo:vit"
    raise Refusal(field, what, why, fix)


def _name(field: str, value: Any, forms: str) -> str:
    """Return a name of any kind; whether it leads somewhere is seen when it is opened."""
    name = value.strip() if isinstance(value, str) else ""
    if name and len(name) <= _LONGEST and name.isprintable():
        return name
    what = (
        f"{shown(value)} is no name" if name else f"there is no {'dataset' if field == 'images' else 'model'} here yet"
    )
    raise Refusal(field, what, "a name is one line of text", f"type {forms}")


def one_of(field: str, value: Any, choices: tuple[str, ...], why: str) -> str:
    """Return a value from outside that is one of a list; `Refusal` if it is not."""
    if isinstance(value, str) and value in choices:
        return value
    raise Refusal(field, f"{shown(value)} is not offered here", why, f"choose one of {', '.join(choices)}")


def number_of_images(value: Any, limits: Limits) -> int:
    """Return k, from outside; `Refusal` if it is not taken."""
    why = "so few images say nothing, and so many would keep others waiting"
    return _whole("k", value, 16 if limits.public else 2, limits.images, why)


def seed_of(value: Any) -> int:
    """Return a seed, from outside; `Refusal` if it is none."""
    return _whole("seed", value, 0, 2**31, "a seed is a number from zero")


def how_many(value: Any) -> int:
    """Return how many of the nearest are shown, from outside; `Refusal` if it is not taken."""
    return _whole("n", value, 1, 50, "nobody reads more of them")


def few_enough(field: str, names: Sequence[Any], limits: Limits) -> None:
    """Refuse more models than are ranked in one go."""
    if len(names) > limits.others:
        why = f"this page takes {limits.others} in one go"
        raise Refusal(field, f"{len(names)} models are too many", why, "ask for fewer")


def _whole(field: str, value: Any, least: int, most: int, why: str) -> int:
    try:
        number = int(value) if not isinstance(value, str) or len(value) < 12 else most + 1
        if number == float(value) and least <= number <= most:
            return number
    except (TypeError, ValueError, OverflowError):
        pass
    what = {"k": "the number of images (k)", "seed": "the seed", "n": "the number of models (n)"}[field]
    if value is None or value == "":
        raise Refusal(field, f"{what} is empty", "without it the number is not defined", f"type {least} to {most:,}")
    raise Refusal(field, f"{field} = {shown(value)} is not offered here", why, f"use {least} to {most:,}")


assert set(OFFERED) <= PROTOCOLS.keys()
