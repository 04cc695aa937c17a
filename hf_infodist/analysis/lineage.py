"""Who was made from whom: from both directions of all pairs, a parent for each model, or none.

The rule is one of those that ``studies/lineage.py`` compares; how often it is right is said there.
"""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from hf_infodist.errors import UnfitError
from hf_infodist.models.declared import Declared
from hf_infodist.results.matrix import INFODIST, PairwiseMatrix
from hf_infodist.results.shown import Shown
from hf_infodist.results.words import Unit, number, rounded
from hf_infodist.table import text_table

if TYPE_CHECKING:
    import pandas
    from matplotlib.figure import Figure

SCHEMA = "infodist.lineage/1"
COPY_NATS_PER_IMAGE = 1e-3
"""Below this two models are one function; a model given itself costs less than 0.01 nats altogether."""
ROOT_SHARE = 0.8
"""Share of what a model usually costs given another of the same list, above which nobody is taken for its parent."""

Nats = NDArray[np.float64]


@dataclass(frozen=True)
class Descent:
    """What is proposed of one model, and the evidence.

    Attributes:
        model: Whose parent is asked for.
        parent: From which it was made; None if from none of the others.
        copies: Others of the same function: which of them came first, no distance can tell. All have one parent.
        nearest: Who helps most to make it, not counting copies; None if there is nobody else.
        mean_distance: From all others, nats, copies counted once: a parent's is smaller.
        candidate: The parent, or else the nearest: what the following numbers are about.
        nats: L'(model | candidate).
        back_nats: L'(candidate | model).
        stderr_nats: Standard error of ``nats`` over the draw of the images.
        second: Who helps most besides the candidate; None if there is nobody else.
        second_nats: L'(model | second).
        usual_nats: Median of L'(model | another) over all others, copies counted once.
        declared: What its card says; None if nothing.
        as_declared: Whether what is declared is the parent, the nearest, or a copy of either or of the model; None if
            none of it is among the models.
    """

    model: str
    parent: str | None = None
    copies: tuple[str, ...] = ()
    nearest: str | None = None
    mean_distance: float | None = None
    candidate: str | None = None
    nats: float | None = None
    back_nats: float | None = None
    stderr_nats: float | None = None
    second: str | None = None
    second_nats: float | None = None
    usual_nats: float | None = None
    declared: Declared | None = None
    as_declared: bool | None = None

    def told(self) -> str | None:
        """Compare with what the card declares; None if it declares nothing."""
        if self.declared is None:
            return None
        told = f"{self.model}: declared: {self.declared}; measured: nearest is {self.nearest or 'a copy'}"
        if self.as_declared is None:
            return f"{told}, and what is declared is not among these models"
        return told if self.as_declared else f"{told}: they differ"


@dataclass(frozen=True, repr=False)
class Lineage(Shown):
    """A parent for each of several models, or none.

    Attributes:
        descents: One per model, in the order of the matrix.
        matrix: What it was read from.
    """

    descents: tuple[Descent, ...]
    matrix: PairwiseMatrix = field(repr=False)

    @classmethod
    def of(cls, matrix: PairwiseMatrix, declared: Mapping[str, Declared] | None = None) -> "Lineage":
        """Propose parents.

        Args:
            matrix: Of directed codelengths.
            declared: What the cards of the models say.

        Raises:
            UnfitError: If it is of another measure, or a number is missing.
        """
        _check(matrix)
        copies = find_copies(matrix.distances, COPY_NATS_PER_IMAGE * matrix.images.k)
        parents, declared = find_parents(matrix.nats, copies), declared or {}
        descents = (
            _describe(matrix, copies, i, parents[i], declared.get(model.id)) for i, model in enumerate(matrix.models)
        )
        return cls(tuple(descents), matrix)

    def to_dict(self) -> dict[str, Any]:
        """Return JSON types, schema ``infodist.lineage/1``."""
        return {
            "schema": SCHEMA,
            "models": [asdict(descent) for descent in self.descents],
            "root_share": ROOT_SHARE,
            "copy_nats_per_image": COPY_NATS_PER_IMAGE,
            "matrix": self.matrix.to_dict(),
        }

    @property
    def summary(self) -> str:
        """Of how many models, on what."""
        return f"{len(self.descents)} models, {self.matrix.images}"

    def plot(self) -> "Figure":
        """Draw who was made from whom."""
        from hf_infodist.analysis.plots import draw_descent
        from hf_infodist.results.pictures import footer

        scale = Unit.BITS.of(1.0) / self.matrix.images.k
        parents = {
            one.model: (one.parent, "" if one.nats is None else number(scale * one.nats)) for one in self.descents
        }
        footnote = f"bits per image; {footer(self.matrix.images, self.matrix.protocol)}"
        return draw_descent(parents, footnote=footnote)

    def to_pandas(self) -> "pandas.DataFrame":
        """Return a row for each model; information in nats."""
        from hf_infodist.results.export import to_table

        return to_table([asdict(one) for one in self.descents], self.matrix.images)

    def text(self, unit: Unit = Unit.BITS) -> str:
        """Return a table, and what the cards say."""
        images, protocol = self.matrix.images, self.matrix.protocol
        assert protocol is not None
        each = f"{unit}/image"
        head = ["model", "made from", f"codelength\n{each}", f"±\n{each}", f"back\n{each}", "next best"]
        head += [f"its codelength\n{each}", "of usual\n%", f"mean distance\n{each}"]
        lines = [f"what it takes to make each model from another, {images}, protocol {protocol.name}"]
        scale = unit.of(1.0) / images.k
        names = [one.model for one in self.descents]
        lines += [text_table(head, [_cells(one, scale) for one in self.descents], left=(0, 1, 5), names=names)]
        lines += [
            f"{one.model} is the same function as {', '.join(one.copies)}" for one in self.descents if one.copies
        ]
        lines += [told for one in self.descents if (told := one.told())]
        return "\n".join(lines)


def find_copies(distances: Nats, most: float) -> list[tuple[int, ...]]:
    """Return for each model all that are the same function, itself included, in order.

    Args:
        distances: ``[n, n]``, nats.
        most: Largest distance between copies, over all images.
    """
    from scipy.sparse.csgraph import connected_components

    group = connected_components(np.nan_to_num(distances, nan=np.inf) <= most, directed=False)[1]
    return [tuple(np.flatnonzero(group == group[i]).tolist()) for i in range(len(distances))]


def find_parents(
    nats: Nats, copies: list[tuple[int, ...]] | None = None, *, root_share: float = ROOT_SHARE
) -> list[int | None]:
    """Return the parent of each model: whoever helps most to make it of those that are more central.

    argmin_j L'(i | j) over all j with a smaller mean distance from all others. Who is made from a model for a purpose
    of its own moves away from the others; which of the two costs less given the other tells rather which says less.
    There is no parent where that costs more than a share of what the model usually costs, the median over the others.
    Copies count as one, for which the first of them stands.

    Args:
        nats: ``[n, n]``, L'(i | j).
        copies: From `find_copies`; none if None.
        root_share: That share.
    """
    copies = copies or [(i,) for i in range(len(nats))]
    others = {group[0]: _others(nats[group[0]], copies, group[0]) for group in copies}
    means = {i: _mean_distance(nats, i, rest) for i, rest in others.items()}
    parents: dict[int, int | None] = {}
    for i, rest in others.items():
        parent = next((j for j in rest if means[j] < means[i]), None)
        dear = parent is not None and nats[i, parent] > root_share * np.median(nats[i, rest])
        parents[i] = None if dear else parent
    return [parents[group[0]] for group in copies]


def _mean_distance(nats: Nats, i: int, others: list[int]) -> float:
    return math.fsum(np.maximum(nats[i, others], nats[others, i])) / max(len(others), 1)


def _describe(
    matrix: PairwiseMatrix, copies: list[tuple[int, ...]], i: int, parent: int | None, declared: Declared | None
) -> Descent:
    """Gather the evidence for one model."""
    names, nats, others = [model.id for model in matrix.models], matrix.nats, _others(matrix.nats[i], copies, i)
    same = tuple(names[j] for j in copies[i] if j != i)
    candidate = parent if parent is not None else next(iter(others), i)
    alike = {names[j] for one in (i, candidate, *others[:1]) for j in copies[one]}
    as_declared = bool(alike & set(declared.among)) if declared and declared.among else None
    if not others:
        return Descent(names[i], copies=same, declared=declared, as_declared=as_declared)
    rest = [j for j in others if j != candidate]
    return Descent(
        model=names[i],
        parent=None if parent is None else names[parent],
        copies=same,
        nearest=names[others[0]],
        mean_distance=_mean_distance(nats, i, others),
        candidate=names[candidate],
        nats=float(nats[i, candidate]),
        back_nats=float(nats[candidate, i]),
        stderr_nats=None if np.isnan(stderr := matrix.stderr_nats[i, candidate]) else float(stderr),
        second=names[rest[0]] if rest else None,
        second_nats=float(nats[i, rest[0]]) if rest else None,
        usual_nats=float(np.median(nats[i, others])),
        declared=declared,
        as_declared=as_declared,
    )


def _others(row: Nats, copies: list[tuple[int, ...]], i: int) -> list[int]:
    """Return all but model i, the most helpful first; of copies the first only."""
    return [int(j) for j in np.argsort(row, kind="stable") if copies[j][0] == j and j not in copies[i]]


def _check(matrix: PairwiseMatrix) -> None:
    if matrix.measure != INFODIST:
        why = "parents are read from what each model costs given each other, in both directions"
        raise UnfitError(f"{matrix.measure} tells no parents", why, "use a matrix of --measure infodist")
    if not matrix.complete:
        missing = int(np.isnan(matrix.nats).sum())
        (i, j), *_ = np.argwhere(np.isnan(matrix.nats)).tolist()
        raise UnfitError(
            f"{missing} codelengths are missing, the first of {matrix.models[i].id} given {matrix.models[j].id}",
            matrix.errors.get((i, j), "they were not computed, and the one that is missing may be the parent's"),
            "type the same command again, or leave out the models that fail",
        )


def _cells(one: Descent, scale: float) -> tuple[str, ...]:
    """Return a row of the table: all codelengths times a scale."""

    def scaled(value: float | None) -> str:
        return number(None if value is None else scale * value)

    parent = one.parent or f"– (nearest: {one.nearest or 'nobody'})"
    share = f"{100 * one.nats / one.usual_nats:.0f}" if one.nats is not None and one.usual_nats else ""
    numbers = ("", "") if one.nats is None else rounded(scale * one.nats, scale * (one.stderr_nats or 0.0))
    rest = (scaled(one.back_nats), one.second or "", scaled(one.second_nats), share, scaled(one.mean_distance))
    return one.model, parent, *numbers, *rest
