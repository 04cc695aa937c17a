"""Which models of a matrix are nearest to one of them."""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from hf_infodist.analysis.geometry import nearest
from hf_infodist.analysis.relations import COPY_NATS_PER_IMAGE, find_copies
from hf_infodist.models.declared import Declared
from hf_infodist.results.difference import ERRORS, difference_of_distances
from hf_infodist.results.matrix import INFODIST, PairwiseMatrix
from hf_infodist.results.names import find_name
from hf_infodist.results.shown import Shown
from hf_infodist.results.words import Unit, amount, number, rounded
from hf_infodist.table import text_table

if TYPE_CHECKING:
    import pandas
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class Neighbour:
    """Another model: its distance, what it costs to make it from the model asked about, and that from it.

    Attributes:
        model: Its name.
        nats: The distance, the larger of the two; of a baseline its value.
        given_nats: What this model costs given the one asked about.
        back_nats: What that costs given this one.
        stderr_nats: Standard error of the distance; None where there is none.
        farther_nats: How much farther it is than the nearest; None where the price of each image is not known.
        farther_stderr_nats: Standard error of that over the draw of the images, paired image by image.
        tied_with_nearest: Whether that may be chance.
        copy: Whether the two say the same of these images; None of a baseline.
    """

    model: str
    nats: float
    given_nats: float
    back_nats: float
    stderr_nats: float | None = None
    farther_nats: float | None = None
    farther_stderr_nats: float | None = None
    tied_with_nearest: bool | None = None
    copy: bool | None = None


@dataclass(frozen=True, repr=False)
class Neighbours(Shown):
    """The models nearest to one, nearest first.

    Attributes:
        model: Whose they are.
        neighbours: Who.
        unit: Of the distances: ``nats``, or the name of a baseline.
        matrix: Where they are from.
        declared: What the card of the model says it was made from; None if nothing, or if it was not read.
    """

    model: str
    neighbours: tuple[Neighbour, ...]
    unit: str
    matrix: PairwiseMatrix
    declared: Declared | None = None

    @classmethod
    def of(
        cls, matrix: PairwiseMatrix, model: str, n: int | None = None, declared: Declared | None = None
    ) -> "Neighbours":
        """Look up the ``n`` nearest of those that have been compared with a model; all if None.

        The model may be named by the end of its name.

        Args:
            matrix: Of distances.
            model: Which of its models.
            n: How many.
            declared: What the card of the model says.

        Raises:
            NotFoundError: If the matrix does not have the model.
            UsageError: If several of its models may be meant.
        """
        names = [record.id for record in matrix.models]
        model = find_name(model, names, "infodist nearest {} with the same options")
        i = names.index(model)
        found = nearest(matrix.distances, i, n)
        rows = [_neighbour(matrix, i, j, found[0][0]) for j, _ in found]
        if matrix.measure == INFODIST:
            copies = find_copies(matrix.distances, COPY_NATS_PER_IMAGE * matrix.images.k)[i]
            rows = [replace(one, copy=j in copies) for one, (j, _) in zip(rows, found, strict=True)]
        return cls(model, tuple(rows), "nats" if matrix.measure == INFODIST else matrix.measure, matrix, declared)

    def to_dict(self) -> dict[str, Any]:
        """Return JSON types, schema ``infodist.nearest/1``."""
        protocol = self.matrix.protocol.to_dict() if self.matrix.protocol else None
        return {
            "schema": "infodist.nearest/1",
            "model": self.model,
            "unit": self.unit,
            "neighbours": [asdict(neighbour) for neighbour in self.neighbours],
            "images": vars(self.matrix.images).copy(),
            "protocol": protocol,
            "declared": asdict(self.declared) if self.declared else None,
        }

    @property
    def summary(self) -> str:
        """Whose, and how many."""
        return f"the {len(self.neighbours)} nearest to {self.model}, {self.matrix.images}"

    def text(self, unit: Unit = Unit.BITS) -> str:
        """Return a table."""
        matrix = self.matrix
        protocol = f", protocol {matrix.protocol.name}" if matrix.protocol else ""
        scale, told = self._scale(unit)
        told = told.replace(" per ", "/")
        head = ["", *(f"{what}\n{told}" for what in ("distance", "±", "it given this", "this given it"))]
        known = any(one.farther_nats is not None for one in self.neighbours)
        rows = [self._row(one, scale)[: None if known else -1] for one in self.neighbours]
        head += [f"farther\n{told}"] if known else []
        lines = [f"nearest to {self.model}, {matrix.images}{protocol}"]
        lines += [text_table(head, rows, names=[record.id for record in matrix.models])]
        lines += [f"{self.model} is the same function as {one.model}" for one in self.neighbours if one.copy]
        names = [one.model for one in self.neighbours]
        declared = [as_declared(self.model, self.declared, names)] if self.declared else []
        return "\n".join([*lines, *self._notes(scale, told), *declared])

    @property
    def smallest_nats(self) -> tuple[float, ...]:
        """The smallest difference from the nearest that would count, two standard errors, for each of the others."""
        errors = (one.farther_stderr_nats for one in self.neighbours[1:])
        return tuple(ERRORS * error for error in errors if error is not None)

    def _row(self, one: Neighbour, scale: float) -> list[str]:
        farther = ""
        if one is self.neighbours[0]:
            farther = "nearest"
        elif one.farther_nats is not None:
            error = math.nan if one.farther_stderr_nats is None else one.farther_stderr_nats
            farther = f"{'= ' * bool(one.tied_with_nearest)}{amount(scale * one.farther_nats, scale * error)}"
        return [
            one.model,
            *rounded(scale * one.nats, scale * (one.stderr_nats or 0.0)),
            number(scale * one.given_nats),
            number(scale * one.back_nats),
            farther,
        ]

    def _notes(self, scale: float, told: str) -> list[str]:
        """Say what the last column means, and which differences so many images can tell."""
        if not self.smallest_nats:
            return []
        least, most = (number(scale * end) for end in (min(self.smallest_nats), max(self.smallest_nats)))
        return [
            "farther: than the nearest, paired by image, ± standard error; '=' is tied with it, within "
            f"{ERRORS:g} of these:",
            f"{self.matrix.images.k} images tell differences of {least if least == most else f'{least} to {most}'} "
            f"{told} and more.",
        ]

    def to_pandas(self) -> "pandas.DataFrame":
        """Return a row for each neighbour."""
        from hf_infodist.results.export import to_table

        rows = [asdict(one) | {"model": self.model, "neighbour": one.model} for one in self.neighbours]
        table = to_table(rows, self.matrix.images)
        return table[["model", "neighbour", *table.columns.drop(["model", "neighbour"])]]

    def plot(self) -> "Figure":
        """Draw the distances as bars, each with its standard error."""
        from hf_infodist.analysis.plots import draw_bars
        from hf_infodist.results.pictures import footer

        scale, unit = self._scale(Unit.BITS)
        values = {one.model: (scale * one.nats, scale * (one.stderr_nats or 0.0)) for one in self.neighbours}
        footnote = footer(self.matrix.images, self.matrix.protocol)
        return draw_bars(f"nearest to {self.model}", values, unit=unit, footnote=footnote)

    def _scale(self, unit: Unit) -> tuple[float, str]:
        """Return what distances are multiplied by to be shown, and the unit they have then."""
        matrix = self.matrix
        return (unit.of(1.0) / matrix.images.k, f"{unit} per image") if matrix.protocol else (1.0, self.unit)


def as_declared(model: str, declared: Declared, names: Sequence[str]) -> str:
    """Say where what the card of a model declares lies among its neighbours, the nearest of which is first."""
    places = [f"{name} is number {names.index(name) + 1}" for name in declared.among if name in names]
    found = ", ".join(places) or f"it is not among these {len(names)}"
    return f"{model}: declared: {declared}; by distance: {found}"


def _neighbour(matrix: PairwiseMatrix, i: int, j: int, first: int) -> Neighbour:
    """Return what is known of model ``j`` beside model ``i``, whose nearest is ``first``."""
    larger = (i, j) if matrix.nats[i, j] >= matrix.nats[j, i] else (j, i)
    there, back = float(matrix.nats[j, i]), float(matrix.nats[i, j])
    found = Neighbour(matrix.models[j].id, max(there, back), there, back, _finite(matrix.stderr_nats[larger]))
    pairs = [[(j, i), (i, j)], [(first, i), (i, first)]]
    if not all(way in matrix.image_nats for ways in pairs for way in ways):
        return found
    if j == first:
        return replace(found, farther_nats=0.0, farther_stderr_nats=0.0, tied_with_nearest=True)
    orders = matrix.protocol.orders if matrix.protocol else 1
    prices, others = ([matrix.image_nats[way] for way in ways] for ways in pairs)
    farther = difference_of_distances(prices, others, orders)
    return replace(
        found,
        farther_nats=farther.nats,
        farther_stderr_nats=_finite(farther.stderr_nats),
        tied_with_nearest=farther.tied,
    )


def _finite(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None
