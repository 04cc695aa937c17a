"""Which distances are known: of the page's records and of the store, as matrices of models that may be compared."""

import json
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hf_infodist.protocol import CODING_VERSION
from hf_infodist.show.asked import Comparison
from hf_infodist.show.records import Record

_CODELENGTH = "infodist.codelength/1"  # of store.py, which needs torch to be imported; the page does without


@dataclass(frozen=True, eq=False)
class Known:
    """Models that were compared on the same images under the same protocol.

    Attributes:
        title: Images and protocol, in words.
        images: Id of the dataset.
        k: How many of its images.
        protocol: Name of the protocol.
        seed: Seed of both.
        models: Names, in the order of rows and columns.
        nats: ``[n, n]``, L'(row | column), 0 on the diagonal; NaN where it is not known.
    """

    title: str
    images: str
    k: int
    protocol: str
    seed: int
    models: tuple[str, ...]
    nats: NDArray[np.float64]

    @property
    def bits_per_image(self) -> NDArray[np.float64]:
        """The distances, ``[n, n]``; NaN unless both directions are known."""
        return np.maximum(self.nats, self.nats.T) / self.k / math.log(2)

    @property
    def settings(self) -> tuple[str, int, str, int]:
        """What a comparison of this group is asked with, besides the models."""
        return self.images, self.k, self.protocol, self.seed

    def has(self, pair: Comparison) -> bool:
        """Tell whether a comparison belongs here, and is known."""
        settings = (pair.images, pair.k, pair.protocol, pair.seed)
        if settings != self.settings or not {pair.a, pair.b} <= set(self.models):
            return False
        return bool(np.isfinite(self.bits_per_image[self.models.index(pair.a), self.models.index(pair.b)]))

    def pairs(self) -> list[tuple[Comparison, float]]:
        """Return what is known, nearest first: the comparison and its bits an image."""
        bits, n = self.bits_per_image, len(self.models)
        known = [(i, j) for i in range(n) for j in range(i + 1, n) if np.isfinite(bits[i, j])]
        rows = [(Comparison(self.models[i], self.models[j], *self.settings), float(bits[i, j])) for i, j in known]
        return sorted(rows, key=lambda row: row[1])

    def complete(self) -> "Known":
        """Leave out the models with most gaps, one after the other, until there is none."""
        keep = list(range(len(self.models)))
        while keep and (gaps := np.isnan(self.bits_per_image[np.ix_(keep, keep)]).sum(1)).any():
            keep.pop(int(np.argmax(gaps)))
        models = tuple(self.models[i] for i in keep)
        nats = self.nats[np.ix_(keep, keep)]
        return replace(self, models=models, nats=nats)


@dataclass(frozen=True)
class _Code:
    """One directed codelength and what it may be put beside."""

    group: tuple[Any, ...]
    teacher: str
    student: str
    nats: float


def known(records: Iterable[Record], store: Path) -> list[Known]:
    """Return the matrices of what is known, the one with most models first.

    Args:
        records: Of the page.
        store: Folder of codelengths.
    """
    groups: dict[tuple[Any, ...], dict[tuple[str, str], float]] = {}
    for code in (*_of_records(records), *_of_store(store)):
        groups.setdefault(code.group, {})[code.teacher, code.student] = code.nats
    matrices = [_matrix(group, codes) for group, codes in groups.items()]
    return sorted(matrices, key=lambda matrix: -len(matrix.models))


def _of_records(records: Iterable[Record]) -> Iterator[_Code]:
    for record in records:
        result = record.result
        group = _group(result["images"], result["protocol"])
        a, b = result["model_a"]["id"], result["model_b"]["id"]
        yield _Code(group, a, b, result["a_given_b"]["nats"])
        yield _Code(group, b, a, result["b_given_a"]["nats"])


def _of_store(folder: Path) -> Iterator[_Code]:
    for path in sorted(folder.glob("*.json")):
        try:
            fields = json.loads(path.read_text(encoding="utf-8"))
            if fields["schema"] == _CODELENGTH and fields.get("coding", 1) == CODING_VERSION:
                group = _group(fields["images"], fields["protocol"])
                nats = math.fsum(fields["codelength"]["image_nats"])
                yield _Code(group, fields["teacher"]["id"], fields["student"]["id"], nats)
        except (OSError, ValueError, KeyError, TypeError):
            continue  # the store itself says what is wrong with it: infodist results


def _group(images: dict[str, Any], protocol: dict[str, Any]) -> tuple[Any, ...]:
    """Return what has to agree for two codelengths to be put side by side."""
    settings = json.dumps(protocol, sort_keys=True)
    return (images["id"], images["fingerprint"], images["k"], images["seed"], protocol["name"], settings)


def _matrix(group: tuple[Any, ...], codes: dict[tuple[str, str], float]) -> Known:
    images, _, k, seed, protocol, _ = group
    models = tuple(sorted({name for pair in codes for name in pair}))
    nats = np.full((len(models), len(models)), np.nan)
    np.fill_diagonal(nats, 0.0)
    for (teacher, student), value in codes.items():
        nats[models.index(teacher), models.index(student)] = value
    title = f"{k} images of {images}, {protocol}, seed {seed}: {len(models)} models"
    return Known(title, images, k, protocol, seed, models, nats)
