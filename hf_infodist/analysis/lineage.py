"""Who is a copy or kin of whom: a test of each pair of several models, and which way it went where that can be told.

How often the test is right is measured by ``studies/lineage.py``.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from hf_infodist.analysis.kinship import ALPHA, FEWEST
from hf_infodist.analysis.relations import COPY_NATS_PER_IMAGE, Descent, Evidence
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


@dataclass(frozen=True, repr=False)
class Lineage(Shown):
    """Copies and kin among several models.

    Attributes:
        descents: One per model, in the order of the matrix; none of the reference.
        matrix: What it was read from.
        reference: Names of models that only say how far strangers are.
    """

    descents: tuple[Descent, ...]
    matrix: PairwiseMatrix = field(repr=False)
    reference: tuple[str, ...] = ()

    @classmethod
    def of(
        cls,
        matrix: PairwiseMatrix,
        declared: Mapping[str, Declared] | None = None,
        *,
        families: Sequence[str] | None = None,
        reference: Collection[str] = (),
    ) -> "Lineage":
        """Test which models are copies or kin.

        Args:
            matrix: Of directed codelengths; of two architectures they may be missing.
            declared: What the cards of the models say.
            families: The architecture of each model of the matrix; one and the same if None.
            reference: Models of the matrix of whom nothing is asked but how far strangers are; one may be kin of
                another model.

        Raises:
            UnfitError: If it is of another measure, or a number is missing.
        """
        families = families or [""] * len(matrix.models)
        _check(matrix, families)
        evidence = Evidence.of(matrix, families, frozenset(reference))
        declared = declared or {}
        descents = (
            evidence.describe(i, declared.get(model.id))
            for i, model in enumerate(matrix.models)
            if model.id not in reference
        )
        return cls(tuple(descents), matrix, tuple(reference))

    def to_dict(self) -> dict[str, Any]:
        """Return JSON types, schema ``infodist.lineage/1``."""
        return {
            "schema": SCHEMA,
            "models": [asdict(descent) for descent in self.descents],
            "reference": list(self.reference),
            "alpha": ALPHA,
            "strangers_needed": FEWEST,
            "copy_nats_per_image": COPY_NATS_PER_IMAGE,
            "matrix": self.matrix.to_dict(),
        }

    @property
    def summary(self) -> str:
        """Of how many models, on what."""
        return f"{len(self.descents)} models, {self.matrix.images}"

    def plot(self) -> "Figure":
        """Draw who is a copy or kin of whom."""
        from hf_infodist.analysis.plots import draw_descent
        from hf_infodist.results.pictures import footer

        footnote = (
            f"lines join kin, and say p; a line is no direction; {footer(self.matrix.images, self.matrix.protocol)}"
        )
        return draw_descent(_joined(self.descents), footnote=footnote)

    def to_pandas(self) -> "pandas.DataFrame":
        """Return a row for each model; information in nats."""
        from hf_infodist.results.export import to_table

        return to_table([asdict(one) for one in self.descents], self.matrix.images)

    def text(self, unit: Unit = Unit.BITS) -> str:
        """Return a table, of whom nothing can be told, and what the cards say."""
        images, protocol = self.matrix.images, self.matrix.protocol
        assert protocol is not None
        each = f"{unit}/image"
        head = ["model", "relation", "nearest", "p", "made", f"codelength\n{each}", f"±\n{each}", f"back\n{each}"]
        head += [f"mean\n{each}", f"of strangers\n{each}"]
        lines = [f"copies and kin, {images}, protocol {protocol.name}; p after Holm's correction over all pairs"]
        scale = unit.of(1.0) / images.k
        names = [one.model for one in self.descents]
        lines += [text_table(head, [_cells(one, scale) for one in self.descents], left=(0, 1, 2, 4), names=names)]
        lines += [
            f"{one.model} is the same function as {', '.join(one.copies)}" for one in self.descents if one.copies
        ]
        lines += self.matrix.matches()
        lines += _silences(self.descents)
        lines += [words for one in self.descents if (words := one.words())]
        return "\n".join(lines)


def _check(matrix: PairwiseMatrix, families: Sequence[str]) -> None:
    if matrix.measure != INFODIST:
        why = "kin are told from what each model costs given each other, in both directions"
        raise UnfitError(f"{matrix.measure} tells no kin", why, "use a matrix of --measure infodist")
    same = np.array([[one == other for other in families] for one in families])
    missing = np.argwhere(np.isnan(matrix.nats) & same).tolist()
    if missing:
        i, j = missing[0]
        raise UnfitError(
            f"{len(missing)} codelengths are missing, the first of {matrix.models[i].id} given {matrix.models[j].id}",
            matrix.errors.get((i, j), "they were not computed, and the pair that is missing may be kin"),
            "type the same command again, or leave out the models that fail",
        )


def _cells(one: Descent, scale: float) -> tuple[str, ...]:
    """Return a row of the table: all codelengths times a scale."""

    def scaled(value: float | None) -> str:
        return number(None if value is None else scale * value)

    relation = one.relation if one.told or one.relation == "copy" else "cannot be told"
    numbers = ("", "") if one.nats is None else rounded(scale * one.nats, scale * (one.stderr_nats or 0.0))
    made = {"from": "from it", "to": "it from this", "unknown": ""}[one.direction]
    rest = (scaled(one.back_nats), scaled(one.mean_nats), scaled(one.strangers_nats))
    return one.model, relation, one.nearest or "", _chance(one.p_value), made, *numbers, *rest


def _chance(p: float | None) -> str:
    """Return a p-value as text; what is below 0.0001 by its power of ten at most."""
    if p is None:
        return ""
    return f"{p:.2g}" if p >= 1e-4 else "< 0.0001"


def _silences(descents: Sequence[Descent]) -> Iterator[str]:
    """Say of which models no kin can be told, and what would be needed."""
    silent: dict[tuple[str, int], list[str]] = {}
    for one in descents:
        if not one.told:
            silent.setdefault((one.family, one.strangers), []).append(one.model)
    for (family, strangers), models in silent.items():
        kind = f"{family} " if family else ""
        what = f"{', '.join(models)}: whether they are kin cannot be told" if len(models) > 1 else ""
        what = what or f"{models[0]}: whether it is kin of another cannot be told"
        yield (
            f"{what}; {strangers} {kind}model{'s' * (strangers != 1)} without common ancestors "
            f"{'are' if strangers != 1 else 'is'} here, {FEWEST} of one architecture are needed"
        )


def _joined(descents: Sequence[Descent]) -> dict[str, tuple[str | None, str]]:
    """Return for each model below whom of its kin it is drawn, and what is read on the line.

    Each model is below one that is its kin or copy; on top is who was made from none of them, as far as that can be
    told.
    """
    by_name = {one.model: one for one in descents}
    drawn: dict[str, tuple[str | None, str]] = {}
    for top in sorted(descents, key=lambda one: one.direction == "from"):
        waiting: list[tuple[str, str | None]] = [(top.model, None)]
        while waiting:
            name, above = waiting.pop(0)
            if name in drawn:
                continue
            one = by_name[name]
            drawn[name] = (above, _line(one, by_name[above]) if above else "")
            waiting += [(other, name) for other in (*one.copies, *one.kin) if other in by_name]
    return drawn


def _line(one: Descent, above: Descent) -> str:
    """Return what is read on the line between two models of one group."""
    if above.model in one.copies:
        return "copy"
    of = next((each for each, other in ((one, above), (above, one)) if each.of == other.model), None)
    return f"kin, p {_chance(of.p_value)}" if of else "kin"
