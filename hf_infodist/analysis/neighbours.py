"""Which models of a matrix are nearest to one of them."""

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from hf_infodist.analysis.geometry import nearest
from hf_infodist.results.matrix import INFODIST, PairwiseMatrix
from hf_infodist.results.names import find_name
from hf_infodist.results.shown import Shown
from hf_infodist.results.words import Unit, number, rounded
from hf_infodist.table import text_table

if TYPE_CHECKING:
    import pandas
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class Neighbour:
    """Another model: its distance, what it costs to make it from the model asked about, and that from it.

    Attributes:
        id: Its name.
        distance: The larger of the two.
        from_model: What it costs given the model asked about.
        to_model: What that costs given this one.
        stderr: Standard error of the distance; None where there is none.
    """

    id: str
    distance: float
    from_model: float
    to_model: float
    stderr: float | None = None


@dataclass(frozen=True, repr=False)
class Neighbours(Shown):
    """The models nearest to one, nearest first.

    Attributes:
        model: Whose they are.
        neighbours: Who.
        unit: Of the distances: ``nats``, or the name of a baseline.
        matrix: Where they are from.
    """

    model: str
    neighbours: tuple[Neighbour, ...]
    unit: str
    matrix: PairwiseMatrix

    @classmethod
    def of(cls, matrix: PairwiseMatrix, model: str, n: int | None = None) -> "Neighbours":
        """Look up the ``n`` nearest of those that have been compared with a model; all if None.

        The model may be named by the end of its name.

        Raises:
            NotFoundError: If the matrix does not have the model.
            UsageError: If several of its models may be meant.
        """
        names = [record.id for record in matrix.models]
        model = find_name(model, names, "infodist nearest {} with the same options")
        i = names.index(model)
        found = nearest(matrix.distances, i, n)
        rows = (_neighbour(matrix, i, j) for j, _ in found)
        return cls(model, tuple(rows), "nats" if matrix.measure == INFODIST else matrix.measure, matrix)

    def to_dict(self) -> dict[str, Any]:
        """Return JSON types, schema ``infodist.nearest/1``."""
        protocol = self.matrix.protocol.to_dict() if self.matrix.protocol else None
        return {
            "schema": "infodist.nearest/1",
            "model": self.model,
            "unit": self.unit,
            "nearest": [asdict(neighbour) for neighbour in self.neighbours],
            "images": vars(self.matrix.images).copy(),
            "protocol": protocol,
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
        rows = [
            (
                one.id,
                *rounded(scale * one.distance, scale * (one.stderr or 0.0)),
                number(scale * one.from_model),
                number(scale * one.to_model),
            )
            for one in self.neighbours
        ]
        told = told.replace(" per ", "/")
        head = ("", *(f"{what}\n{told}" for what in ("distance", "±", "it given this", "this given it")))
        table = text_table(head, rows, names=[record.id for record in matrix.models])
        return f"nearest to {self.model}, {matrix.images}{protocol}\n{table}"

    def to_pandas(self) -> "pandas.DataFrame":
        """Return a row for each neighbour."""
        from hf_infodist.results.export import to_table

        rows = [{"model": self.model, "neighbour": one.id, **asdict(one)} for one in self.neighbours]
        return to_table(rows, self.matrix.images).drop(columns="id")

    def plot(self) -> "Figure":
        """Draw the distances as bars, each with its standard error."""
        from hf_infodist.analysis.plots import draw_bars
        from hf_infodist.results.pictures import footer

        scale, unit = self._scale(Unit.BITS)
        values = {one.id: (scale * one.distance, scale * (one.stderr or 0.0)) for one in self.neighbours}
        footnote = footer(self.matrix.images, self.matrix.protocol)
        return draw_bars(f"nearest to {self.model}", values, unit=unit, footnote=footnote)

    def _scale(self, unit: Unit) -> tuple[float, str]:
        """Return what distances are multiplied by to be shown, and the unit they have then."""
        matrix = self.matrix
        return (unit.of(1.0) / matrix.images.k, f"{unit} per image") if matrix.protocol else (1.0, self.unit)


def _neighbour(matrix: PairwiseMatrix, i: int, j: int) -> Neighbour:
    larger = (i, j) if matrix.nats[i, j] >= matrix.nats[j, i] else (j, i)
    stderr = float(matrix.stderr_nats[larger])
    there, back = float(matrix.nats[j, i]), float(matrix.nats[i, j])
    return Neighbour(matrix.models[j].id, max(there, back), there, back, None if np.isnan(stderr) else stderr)
