"""Distances of many models as one matrix."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from hf_infodist.errors import UnfitError
from hf_infodist.protocol import CodingProtocol
from hf_infodist.results.records import ImagesRecord, ModelRecord, package_versions
from hf_infodist.results.shown import Shown
from hf_infodist.results.words import Unit, number
from hf_infodist.table import text_table

if TYPE_CHECKING:
    import pandas
    from matplotlib.figure import Figure

SCHEMA = "infodist.matrix/1"
INFODIST = "infodist"  # the measure of this package; any other is a baseline's name


@dataclass(frozen=True, eq=False, repr=False)
class PairwiseMatrix(Shown):
    """All pairs of ``n`` models.

    Attributes:
        models: Which, in the order of rows and columns.
        nats: ``[n, n]``, L'(teacher i | student j) in nats, 0 on the diagonal, NaN where it failed or is missing. Of a
            baseline its value, as a distance: 1 less the value where larger is more similar.
        stderr_nats: ``[n, n]``, standard error of each over the draw of the images; NaN where there is none.
        measure: ``infodist``, or a baseline as ``space/name``.
        images: The sample: id, split, k, seed, fingerprint.
        protocol: How students were trained and priced; None of a baseline, for which nobody learns.
        errors: What went wrong, by (teacher, student), one line each.
        twins: Pairs (i, j), i < j, with identical weights, preprocessing and labels: one network under two names. They
            are at distance 0 without being run, and have their numbers with third models in common.
        matched: Pairs (i, j): the classes of i, which share no name with those of others, were taken for those of j by
            what both say, where that was asked for. Codelengths are then lower, as nobody has to find out.
        image_nats: Price of each image by (teacher, student), ``[k]``, where it is known: differences of two distances
            are paired by them. No file of a matrix has it.
    """

    models: tuple[ModelRecord, ...]
    nats: NDArray[np.float64]
    stderr_nats: NDArray[np.float64]
    measure: str
    images: ImagesRecord
    protocol: CodingProtocol | None = None
    errors: dict[tuple[int, int], str] = field(default_factory=dict)
    twins: tuple[tuple[int, int], ...] = ()
    matched: tuple[tuple[int, int], ...] = ()
    image_nats: Mapping[tuple[int, int], NDArray[np.float64]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Refuse arrays that do not fit the models."""
        n = len(self.models)
        for name, array in (("nats", self.nats), ("stderr_nats", self.stderr_nats)):
            if array.shape != (n, n):
                why = f"{n} models have {n} rows and {n} columns"
                raise UnfitError(f"{name} has the shape {array.shape}", why, "give one row and one column per model")

    def only(self, rows: Sequence[int]) -> "PairwiseMatrix":
        """Return the matrix of some of the models, in that order."""
        place, here = {row: new for new, row in enumerate(rows)}, np.ix_(rows, rows)

        def moved(pairs: Iterable[tuple[int, int]]) -> dict[tuple[int, int], tuple[int, int]]:
            return {(i, j): (place[i], place[j]) for i, j in pairs if i in place and j in place}

        return replace(
            self,
            models=tuple(self.models[row] for row in rows),
            nats=self.nats[here],
            stderr_nats=self.stderr_nats[here],
            errors={new: self.errors[old] for old, new in moved(self.errors).items()},
            twins=tuple(sorted((min(pair), max(pair)) for pair in moved(self.twins).values())),
            matched=tuple(moved(self.matched).values()),
            image_nats={new: self.image_nats[old] for old, new in moved(self.image_nats).items()},
        )

    @property
    def distances(self) -> NDArray[np.float64]:
        """d(i, j) = max(nats[i, j], nats[j, i]), equation (7), ``[n, n]``; NaN unless both directions are there."""
        return np.maximum(self.nats, self.nats.T)

    @property
    def complete(self) -> bool:
        """Whether every pair has its number."""
        return bool(np.isfinite(self.nats).all())

    def to_dict(self) -> dict[str, Any]:
        """Return JSON types, schema ``infodist.matrix/1``."""
        return {
            "schema": SCHEMA,
            "measure": self.measure,
            "models": [vars(model).copy() for model in self.models],
            "nats": _to_lists(self.nats),
            "stderr_nats": _to_lists(self.stderr_nats),
            "distances": _to_lists(self.distances),
            "twins": [list(pair) for pair in self.twins],
            "matched": [list(pair) for pair in self.matched],
            "errors": [{"teacher": i, "student": j, "error": text} for (i, j), text in sorted(self.errors.items())],
            "images": vars(self.images).copy(),
            "protocol": self.protocol.to_dict() if self.protocol else None,
            "versions": package_versions(),
        }

    @classmethod
    def from_dict(cls, fields: dict[str, Any]) -> "PairwiseMatrix":
        """Rebuild a matrix from `to_dict`, to the bit.

        Raises:
            UnfitError: If it is something else.
        """
        if fields.get("schema") != SCHEMA:
            what = f"this is no matrix of distances: its schema is {fields.get('schema')!r}"
            raise UnfitError(what, f"a matrix has the schema {SCHEMA!r}", "make one: infodist matrix … -o matrix.json")
        return cls(
            tuple(ModelRecord(**model) for model in fields["models"]),
            np.array(fields["nats"], dtype=np.float64),  # None becomes NaN
            np.array(fields["stderr_nats"], dtype=np.float64),
            fields["measure"],
            ImagesRecord(**fields["images"]),
            CodingProtocol.from_dict(fields["protocol"]) if fields["protocol"] else None,
            {(error["teacher"], error["student"]): error["error"] for error in fields["errors"]},
            tuple((i, j) for i, j in fields["twins"]),
            tuple((i, j) for i, j in fields.get("matched", ())),  # which older files do not have
        )

    def text(self, unit: Unit = Unit.BITS) -> str:
        """Return a table: a row per teacher, a column per student."""
        names = [model.id for model in self.models]
        protocol = f", protocol {self.protocol.name}" if self.protocol else ""
        sample = f"{self.images}{protocol}"
        what = f"{unit} per image to turn the column's model into the row's" if self.protocol else self.measure
        columns = range(len(names))
        rows = [[name, *(self._cell(i, j, unit) for j in columns)] for i, name in enumerate(names)]
        lines = [f"{what}, {sample}", text_table(["", *map(str, columns)], rows, names=names, numbered=True)]
        lines += [f"{i} and {j} are the same network" for i, j in self.twins]
        lines += self.matches()
        lines += [f"{i} given {j} failed: {text}" for (i, j), text in sorted(self.errors.items())]
        return "\n".join(lines)

    def matches(self) -> list[str]:
        """Say whose classes were taken for whose."""
        names = [model.id for model in self.models]
        return [
            f"classes of {names[i]} share no name with others, and were taken for those of {names[j]} by what both say"
            for i, j in self.matched
        ]

    @property
    def summary(self) -> str:
        """How many models, on what."""
        return f"{len(self.models)} models, {self.measure}, {self.images}"

    def shown(self, unit: Unit = Unit.BITS) -> tuple[NDArray[np.float64], str]:
        """Return both directions as people see them, ``[n, n]``, and in which unit: per image, of a codelength."""
        if self.protocol is None:
            return self.nats, self.measure
        return unit.of(self.nats) / self.images.k, f"{unit} per image"

    def plot(self, unit: Unit = Unit.BITS) -> "Figure":
        """Draw both directions of all pairs, in the order of the models."""
        from hf_infodist.results.pictures import add_footer, draw_matrix, footer

        values, told = self.shown(unit)
        figure = draw_matrix(values, [model.id for model in self.models], range(len(self.models)), unit=told)
        add_footer(figure, footer(self.images, self.protocol))
        return figure

    def to_pandas(self) -> "pandas.DataFrame":
        """Return a row for each teacher and student: nats of an information distance, else the measure."""
        from hf_infodist.results.export import to_table

        names, n = [model.id for model in self.models], len(self.models)
        rows = [
            {
                "teacher": names[i],
                "student": names[j],
                "nats" if self.protocol else self.measure: self.nats[i, j],
                "stderr_nats": self.stderr_nats[i, j],
            }
            for i in range(n)
            for j in range(n)
        ]
        return to_table(rows, self.images)

    def _cell(self, i: int, j: int, unit: Unit) -> str:
        value = self.nats[i, j]
        if not np.isfinite(value):
            return "failed" if (i, j) in self.errors else "missing"
        return number(self.shown(unit)[0][i, j])


def _to_lists(array: NDArray[np.float64]) -> list[list[float | None]]:
    """Return rows of numbers; None where JSON has no number."""
    return [[value if np.isfinite(value) else None for value in row] for row in array.tolist()]
