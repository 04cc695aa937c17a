"""Scores of distances against what is known of the networks (ReSi, Klabunde et al. 2024), with bootstrapped networks.

All functions take distances of pairs, and how often each pair counts in each draw of a bootstrap, ``[draws, pairs]``.
Where networks are drawn with replacement, a pair counts as often as the product of its networks' counts; a network and
itself are no pair. One row of ones gives the score itself. NaN where a draw leaves nothing to score.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.float64]
Flags = NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Pairs:
    """All pairs of ``n`` networks in groups.

    Attributes:
        first: ``[pairs]``, place of one network of each pair.
        second: ``[pairs]``, place of the other.
        groups: ``[n]``, the group of each network.
    """

    first: NDArray[np.intp]
    second: NDArray[np.intp]
    groups: NDArray[np.intp]

    @classmethod
    def of(cls, groups: Sequence[int]) -> "Pairs":
        """Pair each network with each other, once."""
        first, second = np.triu_indices(len(groups), 1)
        return cls(first, second, np.asarray(groups, dtype=np.intp))

    def values(self, matrix: Values) -> Values:
        """Return what a symmetric matrix ``[n, n]`` says of each pair."""
        return np.asarray(matrix, dtype=np.float64)[self.first, self.second]

    def weights(self, counts: NDArray[np.intp]) -> Values:
        """Return how often each pair counts, ``[draws, pairs]``, where networks count ``[draws, n]`` times."""
        return (counts[:, self.first] * counts[:, self.second]).astype(np.float64)

    def around(self, group: int) -> tuple[Flags, Flags]:
        """Return which pairs lie within a group, and which have one network in it."""
        a, b = self.groups[self.first] == group, self.groups[self.second] == group
        return a & b, a ^ b

    def draw(self, draws: int, seed: int) -> NDArray[np.intp]:
        """Return how often each network is drawn from its group with replacement, ``[draws, n]``."""
        rng, counts = np.random.default_rng(seed), np.zeros((draws, len(self.groups)), dtype=np.intp)
        for group in np.unique(self.groups):
            places = np.flatnonzero(self.groups == group)
            counts[:, places] = rng.multinomial(len(places), np.full(len(places), 1 / len(places)), size=draws)
        return counts


def average_precision(distances: Values, within: Flags, weights: Values) -> Values:
    """Return the area under the precision-recall curve, ``[draws]``: within-group pairs should be the nearest.

    Σ_t (R_t − R_{t−1}) P_t over thresholds t, with precision P and recall R of the pairs up to t; equal distances
    share a threshold.

    Args:
        distances: ``[pairs]``.
        within: ``[pairs]``, which pairs lie within a group.
        weights: ``[draws, pairs]``.
    """
    hits, all_pairs = (np.cumsum(_by_distance(distances, part), 1) for part in (weights * within, weights))
    with np.errstate(invalid="ignore", divide="ignore"):
        precision = np.where(all_pairs > 0, hits / all_pairs, 0.0)
        recall = hits / hits[:, -1:]
    return (np.diff(recall, axis=1, prepend=0.0) * precision).sum(1)


def conformity(distances: Values, within: Flags, weights: Values) -> Values:
    """Return how often a pair within the group is nearer than a pair across its border, ``[draws]``.

    Of all combinations of the one with the other; of equal distances it is not. Arguments as in `average_precision`.
    """
    near, far = (_by_distance(distances, weights * chosen) for chosen in (within, ~within))
    beyond = far.sum(1, keepdims=True) - np.cumsum(far, 1)
    with np.errstate(invalid="ignore", divide="ignore"):
        return (near * beyond).sum(1) / (near.sum(1) * far.sum(1))


def _by_distance(distances: Values, weights: Values) -> Values:
    """Return the weight that each distance has in all, nearest first, ``[draws, distances that differ]``."""
    order = np.argsort(distances, kind="stable")
    starts = np.flatnonzero(np.diff(distances[order], prepend=-np.inf) > 0)
    return np.add.reduceat(weights[:, order], starts, axis=1)


def rank_correlation(x: Values, y: Values, weights: Values) -> Values:
    """Return Spearman's correlation of two figures of the same pairs, ``[draws]``; NaN where one is constant.

    Args:
        x: ``[pairs]``.
        y: Likewise.
        weights: ``[draws, pairs]``.
    """
    with np.errstate(invalid="ignore", divide="ignore"):
        share = weights / weights.sum(1, keepdims=True)
        a, b = (_centred_ranks(figure, share) for figure in (x, y))
        return (share * a * b).sum(1) / np.sqrt((share * a**2).sum(1) * (share * b**2).sum(1))


def _centred_ranks(figure: Values, share: Values) -> Values:
    """Return ranks as shares of all pairs, less their mean; equal values have the same, ``[draws, pairs]``."""
    below = (figure[:, None] < figure) + 0.5 * (figure[:, None] == figure)  # [pairs, pairs]
    ranks = share @ below
    return np.where(np.abs(ranks - 0.5) < 1e-12, 0.0, ranks - 0.5)  # the mean of mid-ranks is a half


def group_scores(matrix: Values, pairs: Pairs, counts: NDArray[np.intp]) -> tuple[Values, Values]:
    """Return average precision and conformity, both means over the groups, ``[draws]``.

    As in ReSi, each group is scored for itself: of the pairs that have a network in it, those within it should be the
    nearest. NaN where the measure does not apply to every pair.

    Args:
        matrix: Distances ``[n, n]``.
        pairs: Of those networks.
        counts: How often each network counts, ``[draws, n]``.
    """
    values, weights = pairs.values(matrix), pairs.weights(counts)
    if not np.isfinite(values).all():
        return np.full(len(counts), np.nan), np.full(len(counts), np.nan)
    found = []
    for group in np.unique(pairs.groups):
        within, across = pairs.around(group)
        chosen = within | across
        part = values[chosen], within[chosen], weights[:, chosen]
        found.append((average_precision(*part), conformity(*part)))
    precision, conforming = np.mean(found, axis=0)
    return precision, conforming


def chance_precision(within: int, across: int) -> float:
    """Return the mean of the average precision over all orders of so many pairs, which is a little above their share.

    (1/N) Σ_n [1 + (n − 1)(W − 1)/(N − 1)] / n for W pairs within and N in all.
    """
    total = within + across
    n = np.arange(1, total + 1)
    return float(((1 + (n - 1) * (within - 1) / (total - 1)) / n).mean())


def run_conformity(matrix: Values) -> float:
    """Return how often the farther of two checkpoints along one run has the larger distance.

    Of all triples of checkpoints of the run, the first of which is compared with two that both come later, or both
    earlier; of equal distances it has not. NaN where the measure does not apply to every pair.

    Args:
        matrix: Distances ``[n, n]``, in the order of the run.
    """
    d, n = np.asarray(matrix, dtype=np.float64), len(matrix)
    if not np.isfinite(d[~np.eye(n, dtype=bool)]).all():
        return float("nan")
    later = [d[i, j] < d[i, k] for i in range(n) for j in range(i + 1, n) for k in range(j + 1, n)]
    earlier = [d[i, j] < d[i, k] for i in range(n) for j in range(i) for k in range(j)]
    return float(np.mean(later + earlier))
