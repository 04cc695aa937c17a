"""Which distances are known: of the page's records and of the store, as matrices of models that may be compared."""

import json
import math
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from hf_infodist.analysis.geometry import dendrogram
from hf_infodist.page.records import Record
from hf_infodist.page.request import Comparison
from hf_infodist.protocol import PROTOCOLS, CodingProtocol, resolve_protocol
from hf_infodist.results.distance import InformationDistance
from hf_infodist.results.matrix import INFODIST, PairwiseMatrix
from hf_infodist.results.records import ImagesRecord, ModelRecord
from hf_infodist.results.store import read_record
from hf_infodist.results.words import to_bits


@dataclass(frozen=True, eq=False)
class Group:
    """Models that were compared on the same images under the same protocol, as the page shows them.

    Attributes:
        matrix: Their codelengths; NaN where one is not known.
    """

    matrix: PairwiseMatrix

    @property
    def models(self) -> tuple[str, ...]:
        """Names, in the order of rows and columns."""
        return tuple(model.id for model in self.matrix.models)

    @property
    def bits_per_image(self) -> NDArray[np.float64]:
        """The distances, ``[n, n]``; NaN unless both directions are known."""
        return to_bits(self.matrix.distances) / self.matrix.images.k

    @property
    def settings(self) -> tuple[str, int, str, int]:
        """What a comparison of this group is asked with, besides the models."""
        images, protocol = self.matrix.images, self.matrix.protocol
        assert protocol is not None  # of the information distance
        return images.id, images.k, protocol.name, images.seed

    @property
    def title(self) -> str:
        """Images and protocol, in words."""
        return f"{self.measured_on}: {len(self.models)} models"

    @property
    def measured_on(self) -> str:
        """What its numbers hold for: images, their order, and the protocol."""
        images, k, protocol, seed = self.settings
        return f"{k} images of {images}, seed {seed}, protocol {protocol}"

    def in_order(self) -> "Group":
        """Put models that are near beside one another, as the leaves of their tree; those with gaps come last."""
        whole = self.without_gaps()
        if len(whole.models) < 3:
            return self
        leaves = [self.models.index(whole.models[i]) for i in dendrogram(whole.bits_per_image).order]
        return self._chosen([*leaves, *(i for i in range(len(self.models)) if i not in leaves)])

    def has(self, pair: Comparison) -> bool:
        """Tell whether a comparison belongs here, and is known."""
        settings = (pair.images, pair.k, pair.protocol, pair.seed)
        if settings != self.settings or not {pair.a, pair.b} <= set(self.models):
            return False
        return bool(np.isfinite(self.bits_per_image[self.models.index(pair.a), self.models.index(pair.b)]))

    def pairs(self) -> list[tuple[Comparison, float]]:
        """Return what is known, nearest first: the comparison and its bits per image."""
        bits, n = self.bits_per_image, len(self.models)
        known = [(i, j) for i in range(n) for j in range(i + 1, n) if np.isfinite(bits[i, j])]
        rows = [(Comparison(self.models[i], self.models[j], *self.settings), float(bits[i, j])) for i, j in known]
        return sorted(rows, key=lambda row: row[1])

    def without_gaps(self) -> "Group":
        """Leave out the models with most gaps, one after the other, until there is none."""
        keep = list(range(len(self.models)))
        while keep and (gaps := np.isnan(self.bits_per_image[np.ix_(keep, keep)]).sum(1)).any():
            keep.pop(int(np.argmax(gaps)))
        return self._chosen(keep)

    def _chosen(self, keep: Sequence[int]) -> "Group":
        return replace(self, matrix=self.matrix.only(keep))


@dataclass(frozen=True)
class _Code:
    """One directed codelength and what it may be put beside."""

    images: ImagesRecord
    protocol: CodingProtocol
    teacher: ModelRecord
    student: ModelRecord
    nats: float
    stderr_nats: float
    path: Path | None = None
    image_nats: Sequence[float] | None = None  # of a record; what the store has is not kept in memory

    def answers(self, asked: Comparison) -> bool:
        """Tell whether it is a direction of a comparison."""
        settings = (self.images.id, self.images.k, self.protocol.name, self.images.seed)
        wanted = (asked.images, asked.k, asked.protocol, asked.seed)
        return settings == wanted and {self.teacher.id, self.student.id} == {asked.a, asked.b}

    @property
    def group(self) -> tuple[str, str, int, int, str]:
        """What has to agree for two codelengths to be put side by side."""
        images = self.images
        return (
            images.id,
            images.fingerprint,
            images.k,
            images.seed,
            json.dumps(self.protocol.to_dict(), sort_keys=True),
        )


def known_groups(records: Iterable[Record], store: Path | None = None) -> list[Group]:
    """Return what is known, the group with most models first.

    Args:
        records: Of the page.
        store: Folder of codelengths, if there is one.
    """
    groups: dict[object, list[_Code]] = {}
    for code in (*_of_records(records), *(_of_store(store) if store else ())):
        if code.teacher.id != code.student.id:  # given itself a model costs nothing to speak of
            groups.setdefault(code.group, []).append(code)
    return sorted(map(_group, groups.values()), key=lambda group: -len(group.models))


def _of_records(records: Iterable[Record]) -> Iterator[_Code]:
    for record in records:
        result = record.result
        try:
            images, protocol = ImagesRecord(**result["images"]), CodingProtocol.from_dict(result["protocol"])
            a, b = (ModelRecord(**result[f"model_{side}"]) for side in "ab")
        except (KeyError, TypeError):
            continue  # of another version
        for teacher, student, direction in ((a, b, "a_given_b"), (b, a, "b_given_a")):
            code, prices = result[direction], record.image_nats.get(direction)
            stderr_nats = math.nan if code["stderr_nats"] is None else code["stderr_nats"]
            yield _Code(images, protocol, teacher, student, code["nats"], stderr_nats, None, prices)


def _of_store(folder: Path) -> Iterator[_Code]:
    for path in sorted(folder.glob("*.json")):
        with suppress(OSError, ValueError):  # the store itself says what is wrong with it: infodist results
            if (code := _read(path, path.stat().st_mtime_ns)) is not None:
                yield code


@lru_cache(maxsize=20_000)
def _read(path: Path, changed: int) -> _Code | None:
    """Return a file of the store, unless it is of another version, or of models whose classes have been matched.

    It is read once as long as it stays the same.
    """
    record = read_record(path)
    if not record.current or record.classes:
        return None
    code = record.codelength
    who = record.images, record.protocol, record.teacher, record.student
    return _Code(*who, code.nats, float(code.stderr_nats), path)


def stored_record(store: Path, asked: Comparison) -> Record | None:
    """Return what the store knows of a comparison: both codelengths, without other measures and pictures.

    Args:
        store: Folder of codelengths.
        asked: Which comparison.
    """
    codes = [code for code in _of_store(store) if code.answers(asked)]
    preset = resolve_protocol(asked.protocol, asked.seed) if asked.protocol in PROTOCOLS else None
    for group in dict.fromkeys(code.group for code in sorted(codes, key=lambda code: code.protocol != preset)):
        paths = {code.teacher.id: code.path for code in codes if code.group == group and code.path}
        if {asked.a, asked.b} <= paths.keys():
            a, b = (read_record(paths[name]) for name in (asked.a, asked.b))
            who = a.teacher, b.teacher, a.images, a.protocol, a.device
            result = InformationDistance(a.codelength, b.codelength, *who)
            return Record.of(asked, result, [], ())
    return None


def _group(codes: list[_Code]) -> Group:
    by_name = {model.id: model for code in codes for model in (code.teacher, code.student)}
    names = sorted(by_name)
    nats, stderr_nats = np.full((2, len(names), len(names)), np.nan)
    prices: dict[tuple[int, int], NDArray[np.float64]] = {}
    for code in codes:
        here = names.index(code.teacher.id), names.index(code.student.id)
        nats[here], stderr_nats[here] = code.nats, code.stderr_nats
        prices |= {here: np.array(code.image_nats)} if code.image_nats else {}
    np.fill_diagonal(nats, 0.0)
    first, models = codes[0], tuple(by_name[name] for name in names)
    who = models, nats, stderr_nats, INFODIST, first.images, first.protocol
    return Group(PairwiseMatrix(*who, image_nats=prices))
