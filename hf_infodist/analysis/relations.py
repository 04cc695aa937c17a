"""What is known of how models are related: copies, kin by a test of each pair, and which way it went."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from hf_infodist.analysis.direction import Direction, tell_direction
from hf_infodist.analysis.kinship import KinTest, Values, compare_with_strangers
from hf_infodist.models.declared import Declared
from hf_infodist.results.matrix import PairwiseMatrix

COPY_NATS_PER_IMAGE = 1e-3
"""Below this two models are one function; a model given itself costs less than 0.01 nats altogether."""
COPY_SHARE = 0.05
"""Share of the median distance from others that copies may be apart: models that say next to nothing are all near."""

Relation = Literal["copy", "kin", "none"]
Groups = list[tuple[int, ...]]


@dataclass(frozen=True)
class Descent:
    """What is found of one model, and the evidence.

    Attributes:
        model: Whose relations are asked for.
        relation: To ``of``: ``copy``, the same function on these images; ``kin``, nearer than strangers of one
            architecture are; ``none`` where nobody is, or where nothing can be told.
        of: The closest copy or kin; None if there is neither.
        p_value: How often strangers would be as near as the nearest, after Holm's correction over all pairs; None
            where there are too few models to tell.
        p_alone: The same of this one pair.
        direction: Whether the model was made ``from`` the other or the other way, ``to``.
        kin: All others that are kin and no copies.
        copies: Others of the same function.
        nearest: Of whom the numbers are: who is nearest by the test, or by distance where there is none.
        mean_nats: Geometric mean of the codelengths of each given the other, which is what is tested.
        strangers_nats: The same as two strangers would have it; None where it is not known.
        nats: L'(model | nearest).
        back_nats: L'(nearest | model).
        stderr_nats: Standard error of ``nats`` over the draw of the images.
        family: Its architecture; pairs of two architectures are not tested.
        strangers: How many models of that architecture without common ancestors there are, itself included.
        declared: What its card says; None if nothing.
        as_declared: Whether what is declared is a copy or kin; None if nothing is declared, or it cannot be told.
    """

    model: str
    relation: Relation = "none"
    of: str | None = None
    p_value: float | None = None
    p_alone: float | None = None
    direction: Direction = "unknown"
    kin: tuple[str, ...] = ()
    copies: tuple[str, ...] = ()
    nearest: str | None = None
    mean_nats: float | None = None
    strangers_nats: float | None = None
    nats: float | None = None
    back_nats: float | None = None
    stderr_nats: float | None = None
    family: str = ""
    strangers: int = 0
    declared: Declared | None = None
    as_declared: bool | None = None

    @property
    def told(self) -> bool:
        """Whether there are enough models to tell kin from strangers."""
        return self.p_value is not None

    def words(self) -> str | None:
        """Compare with what the card declares; None if it declares nothing."""
        if self.declared is None:
            return None
        said = f"{self.model}: declared: {self.declared}; measured: "
        if not self.declared.among:
            return f"{said}{self._found()}, and what is declared is not among these models"
        if self.as_declared is None:
            return f"{said}too few models to tell"
        return f"{said}{self._found()}" + ("" if self.as_declared else ": they differ")

    def _found(self) -> str:
        return f"{self.relation} of {self.of}" if self.of else "no kin"


@dataclass(frozen=True, eq=False)
class Evidence:
    """What is known of all models of a matrix.

    Attributes:
        matrix: Of their codelengths.
        families: The architecture of each.
        groups: Of each, all that are the same function.
        test: Of one or two models of each group.
        rows: Of each model, where in the test these are.
    """

    matrix: PairwiseMatrix
    families: Sequence[str]
    groups: Groups
    test: KinTest
    rows: tuple[tuple[int, ...], ...]

    @classmethod
    def of(cls, matrix: PairwiseMatrix, families: Sequence[str], reference: frozenset[str]) -> "Evidence":
        """Find copies, and test one of each."""
        distances = matrix.distances
        groups = find_copies(distances, COPY_NATS_PER_IMAGE * matrix.images.k)
        chosen = [i for i, group in enumerate(groups) if i in group[:2]]  # two, so that copies are tested too
        asked = np.array([matrix.models[i].id not in reference for i in chosen])
        means = np.sqrt(np.maximum(matrix.nats, 0) * np.maximum(matrix.nats.T, 0))[np.ix_(chosen, chosen)]
        known = means[np.isfinite(means) & (means > 0)]
        test = compare_with_strangers(
            np.maximum(means, 1e-6 * np.median(known) if len(known) else 1.0),  # copies are at 0
            [families[i] for i in chosen],
            asked[:, None] | asked,
        )
        rows = tuple(tuple(chosen.index(j) for j in group[:2]) for group in groups)
        return cls(matrix, families, groups, test, rows)

    @property
    def row(self) -> list[int]:
        """Of each model, where in the test the first of its group is."""
        return [rows[0] for rows in self.rows]

    def describe(self, i: int, declared: Declared | None) -> Descent:
        """Gather what is known of one model."""
        names = [model.id for model in self.matrix.models]
        copies = [j for j in self.groups[i] if j != i]
        kin = self._kin(i)
        j = next(iter([*copies, *kin]), self._nearest(i))
        relation: Relation = "copy" if copies else "kin" if kin else "none"
        base = Descent(
            names[i], copies=tuple(names[j] for j in copies), family=self.families[i], strangers=self._strangers(i)
        )
        if j is None:
            return replace(base, declared=declared)
        there, back = float(self.matrix.nats[i, j]), float(self.matrix.nats[j, i])
        stderr = float(self.matrix.stderr_nats[i, j])
        return replace(
            base,
            relation=relation,
            of=None if relation == "none" else names[j],
            p_value=self._known(self.test.adjusted, i, j),
            p_alone=self._known(self.test.chance, i, j),
            direction=self._direction(i, j) if relation == "kin" else "unknown",
            kin=tuple(names[j] for j in kin),
            nearest=names[j],
            mean_nats=math.sqrt(max(there, 0) * max(back, 0)),
            strangers_nats=self._known(self.test.expected, i, j),
            nats=there,
            back_nats=back,
            stderr_nats=None if np.isnan(stderr) else stderr,
            declared=declared,
            as_declared=self._as_declared(i, copies + kin, declared),
        )

    def _kin(self, i: int) -> list[int]:
        """Return kin of a model that are no copies, the surest first."""
        row = self.test.chance[self.row[i]]
        found = [j for j, at in enumerate(self.row) if j not in self.groups[i] and self.test.kin[self.row[i], at]]
        return sorted(found, key=lambda j: (row[self.row[j]], self.matrix.distances[i, j]))

    def _nearest(self, i: int) -> int | None:
        """Return who is nearest to a model: by the test where it says anything, else by distance."""
        others = [j for j, d in enumerate(self.matrix.distances[i]) if j not in self.groups[i] and np.isfinite(d)]
        chances = {j: chance for j in others if (chance := self._known(self.test.chance, i, j)) is not None}
        if chances:
            return min(chances, key=lambda j: chances[j])
        return min(others, key=lambda j: self.matrix.distances[i, j], default=None)

    def _strangers(self, i: int) -> int:
        return int(self.test.strangers[self.row[i]])

    def _known(self, values: Values, i: int, j: int) -> float | None:
        """Return what the test says of a pair; copies are tested as the first two of their group are."""
        value = values[self.rows[i][0], self.rows[j][-1 if j in self.groups[i] else 0]]
        return None if np.isnan(value) else float(value)

    def _direction(self, i: int, j: int) -> Direction:
        others = [x for x, at in enumerate(self.row) if self.groups[x][0] == x and not self._related(at, i, j)]
        others = [x for x in others if self.families[x] == self.families[i]]
        return tell_direction(self.matrix.nats, i, j, others)

    def _related(self, at: int, i: int, j: int) -> bool:
        kin = self.test.kin
        return at in (self.row[i], self.row[j]) or bool(kin[at, self.row[i]] or kin[at, self.row[j]])

    def _as_declared(self, i: int, related: list[int], declared: Declared | None) -> bool | None:
        """Tell whether what a card says is among copies and kin; None if the test says nothing of it."""
        among = [j for j, model in enumerate(self.matrix.models) if declared and model.id in declared.among]
        if set(among) & set(related):
            return True
        tested = [j for j in among if self._known(self.test.chance, i, j) is not None]
        return False if tested else None


def find_copies(distances: Values, most: float, share: float = COPY_SHARE) -> Groups:
    """Return for each model all that are the same function, itself included, in order.

    Args:
        distances: ``[n, n]``, nats.
        most: Largest distance between copies, over all images.
        share: Of the median distance of either from models that are farther than that, likewise.
    """
    from scipy.sparse.csgraph import connected_components

    known = np.nan_to_num(distances, nan=np.inf)
    far = [row[row > most] for row in known]
    usual = np.array([np.median(row[np.isfinite(row)]) if np.isfinite(row).any() else np.inf for row in far])
    near = known <= np.minimum(most, share * np.minimum(usual[:, None], usual))
    group = connected_components(near, directed=False)[1]
    return [tuple(np.flatnonzero(group == group[i]).tolist()) for i in range(len(distances))]
