"""Which of many models are nearer to one another than strangers are: a test, held against the other pairs.

Two strangers, models of one task and one architecture without a common ancestor, are taken to have

    log d(i, j) = ½ (log L'(i | j) + log L'(j | i)) = level_i + level_j + noise

since what a codelength costs is, but for noise, a product of how dear the one model is to learn and how good a start
the other is; of the larger of the two that does not hold. A pair is kin if its d lies farther below that than the
noise of strangers explains: by Student's t, with the pair itself left out, and with Holm's correction over all pairs.
Kin are among the pairs, and must not be taken for strangers: levels start from least absolute deviations, which a
minority of outliers does not move, and pairs that look like kin are left out of the fit until nothing changes. Pairs
of two architectures are not tested: strangers of one architecture are nearer than those.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.float64]
Pairs = NDArray[np.bool_]

ALPHA = 0.05
"""Chance that anybody at all is called kin where nobody is."""
FEWEST = 5
"""Models of one architecture without common ancestors from which on strangers are known well enough."""
MARGIN = 0.15
"""By how much more than the noise kin have to be nearer, in the logarithm of the distance."""
_SCREEN = 0.01  # chance below which a pair is left out of the fit
_ROUNDS = 30


@dataclass(frozen=True, eq=False)
class KinTest:
    """What a test says of every pair of n models.

    Attributes:
        expected: ``[n, n]``, at which distance two strangers of these levels are; NaN where nothing is tested.
        chance: ``[n, n]``, how often strangers are as near as that; NaN likewise.
        adjusted: ``[n, n]``, the same after Holm's correction over all pairs that are tested; NaN likewise.
        strangers: ``[n]``, how many models without common ancestors each was held against, itself included.
    """

    expected: Values
    chance: Values
    adjusted: Values
    strangers: NDArray[np.int64]

    @property
    def kin(self) -> Pairs:
        """Pairs that are kin, ``[n, n]``."""
        return np.nan_to_num(self.adjusted, nan=1.0) <= ALPHA

    @property
    def told(self) -> Pairs:
        """Of which models anything can be told, ``[n]``."""
        return self.strangers >= FEWEST


@dataclass(frozen=True, eq=False)
class _Family:
    """Pairs of models of one architecture: ``logs`` ``[N]`` of their distances, and who is in them, ``[N, m]``."""

    logs: Values
    design: Values


@dataclass(frozen=True, eq=False)
class _Fit:
    """What a fit to some pairs says of all of them: what each exceeds it by, ``[N]``, and in standard errors."""

    excess: Values
    error: Values


def compare_with_strangers(
    distances: Values, families: Sequence[str] | None = None, asked: Pairs | None = None, *, margin: float = MARGIN
) -> KinTest:
    """Test of all pairs of models of one architecture whether they are nearer than strangers.

    Args:
        distances: ``[n, n]``, geometric means of both codelengths, positive, any unit, each function once.
        families: The architecture of each; one and the same if None.
        asked: ``[n, n]``, the pairs that are tested; all if None. The others only say how far strangers are.
        margin: See `MARGIN`.
    """
    n = len(distances)
    expected, chance, strangers = np.full((n, n), np.nan), np.full((n, n), np.nan), np.zeros(n, np.int64)
    for members in _members(families or [""] * n):
        first, second = np.triu_indices(len(members), 1)
        logs = np.log(distances[np.ix_(members, members)][first, second])
        family = _Family(logs, _design(len(members), first, second))
        left, count = _strangers(family, margin)
        strangers[members] = count
        if count >= FEWEST:
            fit = _fit(family, left)
            for square, values in (
                (expected, np.exp(logs - fit.excess)),
                (chance, _chance(fit, count, margin)),
            ):
                square[members[first], members[second]] = square[members[second], members[first]] = values
    tested = np.triu(np.isfinite(chance) if asked is None else np.isfinite(chance) & (asked | asked.T), 1)
    adjusted = np.full((n, n), np.nan)
    adjusted[tested] = holm(chance[tested])
    return KinTest(expected, chance, np.where(np.isnan(adjusted), adjusted.T, adjusted), strangers)


def holm(chances: Values) -> Values:
    """Return p-values after Holm's (1979) correction for so many tests: ``[N]`` from ``[N]``."""
    order = np.argsort(chances, kind="stable")
    left = len(chances) - np.arange(len(chances))
    adjusted = np.empty(len(chances))
    adjusted[order] = np.minimum(1.0, np.maximum.accumulate(left * chances[order]))
    return adjusted


def _members(families: Sequence[str]) -> Iterator[NDArray[np.intp]]:
    for family in dict.fromkeys(families):
        yield np.flatnonzero([one == family for one in families])


def _strangers(family: _Family, margin: float) -> tuple[Pairs, int]:
    """Return which pairs are taken for strangers, ``[N]``, and how many groups of kin the other pairs make."""
    count = family.design.shape[1]
    if count < FEWEST:
        return np.ones(len(family.logs), bool), count
    rest = family.logs - family.design @ _least_deviations(family)
    inexact = np.abs(rest) > 1e-9 * np.abs(family.logs).max()  # as many as there are levels are fitted exactly
    spread = 1.4826 * np.median(np.abs(rest[inexact])) if inexact.any() else 1e-9
    left, before = rest + margin > -2.5 * spread, list[Pairs]()
    for _ in range(_ROUNDS):
        groups = _groups(family, left)
        if groups < FEWEST:
            break
        after = _chance(_fit(family, left), groups, margin) > _SCREEN
        if any((after == one).all() for one in (left, *before)):
            break
        before.append(left)
        left = after
    return left, _groups(family, left)


def _groups(family: _Family, left: Pairs) -> int:
    """Return how many groups the models make if all pairs that are not left are one."""
    from scipy.sparse.csgraph import connected_components

    linked = family.design[~left]
    return int(connected_components(linked.T @ linked, directed=False)[0])


def _least_deviations(family: _Family) -> Values:
    """Return levels that make the sum of the absolute deviations least, ``[m]``."""
    from scipy.optimize import linprog

    pairs, count = family.design.shape
    cost = np.r_[np.zeros(count), np.ones(2 * pairs)]
    equations = np.hstack([family.design, np.eye(pairs), -np.eye(pairs)])
    bounds = [(None, None)] * count + [(0, None)] * (2 * pairs)
    return np.asarray(linprog(cost, A_eq=equations, b_eq=family.logs, bounds=bounds, method="highs").x[:count])


def _fit(family: _Family, left: Pairs) -> _Fit:
    """Fit levels to the pairs that are left by least squares, and hold each pair against the others."""
    logs, design = family.logs, family.design
    part = design[left]
    inverse = np.linalg.pinv(part.T @ part)
    rest = logs - design @ (inverse @ part.T @ logs[left])
    leverage = np.einsum("ij,jk,ik->i", design, inverse, design)
    stay = np.where(left, 1 - leverage, 1.0)
    alone = stay < 1e-9  # without it nothing is known of its levels
    stay = np.where(alone, 1.0, stay)
    dof = np.maximum(left.sum() - np.linalg.matrix_rank(part) - left, 1)
    squares = np.maximum((rest[left] ** 2).sum() - left * rest**2 / stay, 0) / dof
    error = np.sqrt(squares * np.where(left, 1 / stay, 1 + leverage))
    return _Fit(rest / stay, np.where(alone, np.inf, np.maximum(error, 1e-12)))


def _chance(fit: _Fit, groups: int, margin: float) -> Values:
    """Return how often strangers are so near, ``[N]``.

    Distances of two models to kin of one another are no independent witnesses, so degrees of freedom are counted as if
    each group were one model.
    """
    from scipy.stats import t

    return np.asarray(t.cdf((fit.excess + margin) / fit.error, max(groups * (groups - 3) // 2 - 1, 1)))


def _design(count: int, first: NDArray[np.intp], second: NDArray[np.intp]) -> Values:
    """Return ``[N, m]``: ones where a model takes part in a pair."""
    pairs = np.arange(len(first))
    design = np.zeros((len(first), count))
    design[pairs, first] = design[pairs, second] = 1
    return design
