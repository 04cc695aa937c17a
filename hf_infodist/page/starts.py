"""The question which of several models to start from: what the labels of images cost, learnt from each of them."""

from dataclasses import asdict, dataclass
from typing import Any, ClassVar

from hf_infodist.page.placing import Mapping, Placing
from hf_infodist.page.request import (
    EXACT,
    Comparison,
    Limits,
    Refusal,
    few_enough,
    images_of,
    model_of,
    number_of_images,
    one_of,
    seed_of,
    shown,
)
from hf_infodist.protocol import LABEL_PROTOCOLS

_LONGEST = 200  # characters of the name of a column


@dataclass(frozen=True)
class Start:
    """One question to the page: what labels cost, learnt from one model."""

    model: str
    images: str = "digits"
    k: int = 400
    protocol: str = "standard"
    seed: int = 0
    label: str = ""
    what: ClassVar[str] = "start"

    @property
    def models(self) -> dict[str, str]:
        """The model, by box."""
        return {"models": self.model}

    def to_dict(self) -> dict[str, Any]:
        """Return every field."""
        return asdict(self)


Question = Comparison | Start
AnyQuestion = Question | Placing | Mapping
_KINDS: dict[str, type[AnyQuestion]] = {kind.what: kind for kind in (Comparison, Start, Placing, Mapping)}


def question_of(what: str, fields: dict[str, Any]) -> AnyQuestion:
    """Rebuild a question from its `what` and its `to_dict`."""
    return _KINDS[what](**fields)


def requested_starts(
    models: Any,
    images: Any = "digits",
    k: Any = 400,
    protocol: Any = "standard",
    seed: Any = 0,
    label: Any = "",
    *,
    limits: Limits,
) -> list[Start]:
    """Return a question for each model, made of values from outside.

    Raises:
        Refusal: If one of them is not taken; it names the box.
    """
    given = models if isinstance(models, list) else [models] if models else []
    few_enough("models", given, limits)
    names = [model_of("models", name, limits) for name in given]
    for place, name in enumerate(names):
        if name in names[:place]:
            raise Refusal(
                "models", f"{shown(name)} is named twice", "it would be tied with itself", "name each model once"
            )
    if len(names) < 2:
        what = "there is only one model here" if names else "there are no models here yet"
        raise Refusal("models", what, "a choice is between two or more", "type their names, one on each line")
    rest = (
        images_of(images, limits),
        number_of_images(k, limits),
        one_of("protocol", protocol, tuple(LABEL_PROTOCOLS), EXACT),
        seed_of(seed),
        _column(label),
    )
    return [Start(name, *rest) for name in names]


def _column(value: Any) -> str:
    """Return the name of a column; nothing where it is left open."""
    name = value.strip() if isinstance(value, str) else value or ""
    if isinstance(name, str) and len(name) <= _LONGEST and name.isprintable():
        return name
    why, fix = "a name is one line of text", "type the name of a column, or nothing"
    raise Refusal("label", f"{shown(value)} is no column", why, fix)
