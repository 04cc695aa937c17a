"""Which models of a matrix are nearest to one of them."""

from dataclasses import asdict, dataclass
from difflib import get_close_matches
from typing import Any

from hf_infodist.analysis.geometry import nearest
from hf_infodist.errors import NotFoundError
from hf_infodist.results.matrix import INFODIST, PairwiseMatrix
from hf_infodist.table import text_table


@dataclass(frozen=True)
class Neighbour:
    """Another model: its distance, what it costs to make it from the model asked about, and that from it."""

    id: str
    distance: float
    from_model: float
    to_model: float


@dataclass(frozen=True)
class Neighbours:
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

        Raises:
            NotFoundError: If the matrix does not have the model.
        """
        names = [record.id for record in matrix.models]
        if model not in names:
            close = (get_close_matches(model, names, 1, 0) or names)[0]
            raise NotFoundError(
                f"the matrix has no model {model!r}",
                f"it has {len(names)}: {', '.join(names[:10])}{', …' if len(names) > 10 else ''}",
                f"infodist nearest {close} with the same options",
            )
        i = names.index(model)
        found = nearest(matrix.distances, i, n)
        rows = (Neighbour(names[j], d, float(matrix.nats[j, i]), float(matrix.nats[i, j])) for j, d in found)
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

    def __str__(self) -> str:
        """Return a table."""
        protocol = f", protocol {self.matrix.protocol.name}" if self.matrix.protocol else ""
        rows = [
            (one.id, *(f"{value:.5g}" for value in (one.distance, one.from_model, one.to_model)))
            for one in self.neighbours
        ]
        table = text_table(("", "distance", "it given this", "this given it"), rows)
        return f"nearest to {self.model}, {self.unit}, {self.matrix.images}{protocol}\n{table}"
