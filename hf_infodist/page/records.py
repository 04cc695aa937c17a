"""What the page knows already: results that came with it, and those it has computed, one JSON file each."""

import json
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any

from hf_infodist.page.request import KNOWN_IMAGES, Comparison
from hf_infodist.results.distance import InformationDistance

SHIPPED = Path(__file__).parent / "shipped"
_SCHEMA = "infodist.page/1"


@dataclass(frozen=True)
class Opinion:
    """What a model says of an image: its most probable classes, with their probabilities."""

    labels: tuple[str, ...]
    probabilities: tuple[float, ...]


@dataclass(frozen=True)
class Difference:
    """An image on which the models differ.

    Attributes:
        position: Which of the sample.
        picture: A thumbnail, as a data URL.
        a: What the first model says.
        b: What the second says.
    """

    position: int
    picture: str
    a: Opinion
    b: Opinion


@dataclass(frozen=True)
class Record:
    """Everything the page shows of a comparison.

    Attributes:
        comparison: What was asked.
        result: What ``infodist compare --json`` prints.
        sentence: What it means, in one sentence.
        baselines: What other measures say, as ``infodist baselines --json`` prints them.
        differences: The images on which the models differ most.
        origin: Where models and images are from, if their names lead nowhere.
        image_nats: Price of each image, ``[k]``, by direction, ``a_given_b`` and ``b_given_a``; empty where it is not
            known.
    """

    comparison: Comparison
    result: dict[str, Any]
    sentence: str
    baselines: list[dict[str, Any]]
    differences: tuple[Difference, ...]
    origin: str = ""
    image_nats: dict[str, list[float]] = field(default_factory=dict)

    @classmethod
    def of(
        cls,
        comparison: Comparison,
        result: InformationDistance,
        baselines: list[dict[str, Any]],
        differences: tuple[Difference, ...],
    ) -> "Record":
        """Return what is shown of a result; prices are kept to six digits."""
        prices = {
            direction: [float(f"{nats:.6g}") for nats in code.image_nats]
            for direction, code in (("a_given_b", result.a_given_b), ("b_given_a", result.b_given_a))
        }
        return cls(comparison, result.to_dict(), result.explain(), baselines, differences, image_nats=prices)

    def to_dict(self) -> dict[str, Any]:
        """Return JSON types, schema ``infodist.page/1``."""
        return {"schema": _SCHEMA} | asdict(self)

    def swapped(self) -> "Record":
        """Return what is known of the same pair named the other way round; other measures depend on the order."""
        parts = {"a": "b", "b": "a"}
        names = {f"model_{x}": f"model_{y}" for x, y in parts.items()} | {
            f"{x}_given_{y}": f"{y}_given_{x}" for x, y in parts.items()
        }
        result = {part: self.result[names.get(part, part)] for part in self.result}
        differences = tuple(replace(one, a=one.b, b=one.a) for one in self.differences)
        prices = {names[direction]: nats for direction, nats in self.image_nats.items()}
        swapped = replace(self, comparison=self.comparison.swapped(), result=result, image_nats=prices)
        return replace(swapped, baselines=[], differences=differences)

    @classmethod
    def from_dict(cls, fields: dict[str, Any]) -> "Record":
        """Rebuild a record from `to_dict`."""
        differences = tuple(
            Difference(d["position"], d["picture"], *(Opinion(**d[side]) for side in "ab"))
            for d in fields["differences"]
        )
        comparison, more = Comparison(**fields["comparison"]), (fields.get("origin", ""), fields.get("image_nats", {}))
        return cls(comparison, fields["result"], fields["sentence"], fields["baselines"], differences, *more)

    @classmethod
    def from_path(cls, path: Path) -> "Record":
        """Read a record."""
        return cls.from_dict(json.loads(path.read_text(encoding="utf-8")))


class Records:
    """Records by their question; those that came with the page, and those in a folder.

    Args:
        folder: Where new ones go.
    """

    def __init__(self, folder: Path):
        self.folder = folder

    def find(self, comparison: Comparison) -> Record | None:
        """Return the record of a comparison, if there is one that can be read."""
        paths = (folder / f"{comparison.key}.json" for folder in (SHIPPED, self.folder))
        return next((record for path in paths if path.is_file() and (record := _read(path))), None)

    def save(self, record: Record) -> None:
        """Write a record: complete or not at all."""
        self.folder.mkdir(parents=True, exist_ok=True)
        new = self.folder / f".{record.comparison.key}-{os.getpid()}"
        new.write_text(json.dumps(record.to_dict()), encoding="utf-8")
        new.replace(self.folder / f"{record.comparison.key}.json")

    def __iter__(self) -> Iterator[Record]:
        yield from shipped()
        yield from filter(None, map(_read, sorted(self.folder.glob("*.json"))))


@cache
def shipped() -> tuple[Record, ...]:
    """Return the records that came with the page."""
    records = filter(None, map(_read, shipped_paths()))
    return tuple(sorted(records, key=lambda record: (record.comparison.a, record.comparison.b)))


def greeting() -> Record:
    """Return the answer with which the page opens: about networks that people know."""
    known = [record for record in shipped() if record.comparison.images == KNOWN_IMAGES]
    return (known or list(shipped()))[0]


def shipped_paths() -> list[Path]:
    """Return their files."""
    return list(SHIPPED.glob("*.json"))


def _read(path: Path) -> Record | None:
    try:
        record = Record.from_path(path)
        return record if record.comparison.key == path.stem else None
    except (OSError, ValueError, KeyError, TypeError):
        return None  # of another version, or damaged: it is computed again
