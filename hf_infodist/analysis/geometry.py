"""What a matrix of distances looks like: a map, a tree, who is near whom, and where it is no metric.

The functions take symmetric distances ``[n, n]`` in any unit, 0 on the diagonal and every entry known.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from hf_infodist.errors import UnfitError, UsageError

if TYPE_CHECKING:
    from hf_infodist.results.matrix import PairwiseMatrix

Distances = NDArray[np.float64]
NEIGHBOURS = 5  # of each model in the graph of a map, where so few connect all; scikit-learn's default


@dataclass(frozen=True, eq=False)
class Map:
    """Points whose distances resemble those of the models.

    Attributes:
        points: Coordinates ``[n, 2 or 3]``, in the unit of the distances; the widest axis first.
        neighbours: Edges from each model in the graph along which distances were taken.
        trustworthiness: 1 if who is near on the map is near in truth, lower where strangers have come near; NaN for
            fewer than three models that differ.
    """

    points: Distances
    neighbours: int
    trustworthiness: float


@dataclass(frozen=True, eq=False)
class Tree:
    """Models joined step by step, the nearest groups first.

    Attributes:
        linkage: One row per join, as scipy has it: both groups, their distance, the size of the new group.
        order: The models in the order of the leaves.
        correlation: Of the distances with the heights at which two models join; 1 if the tree tells all.
    """

    linkage: NDArray[np.float64]
    order: tuple[int, ...]
    correlation: float


@dataclass(frozen=True)
class Triangles:
    """Where a detour is shorter than the direct way.

    Attributes:
        triples: Number of triples of models.
        violations: How many of them break d(i, k) ≤ d(i, j) + d(j, k).
        beyond_error: How many break it by more than two standard errors; None where errors are not known.
        worst: i, j, k of the largest d(i, k) / (d(i, j) + d(j, k)), whether or not it exceeds 1; None below three.
        worst_ratio: That ratio; NaN likewise.
    """

    triples: int
    violations: int
    beyond_error: int | None
    worst: tuple[int, int, int] | None
    worst_ratio: float


@dataclass(frozen=True, eq=False)
class Geometry:
    """Everything that is drawn and said of one matrix."""

    plane: Map
    space: Map | None
    tree: Tree
    triangles: Triangles

    @classmethod
    def of_matrix(cls, matrix: "PairwiseMatrix") -> "Geometry":
        """Measure the distances of a matrix; the standard error of one is that of its larger direction."""
        errors = np.where(matrix.nats >= matrix.nats.T, matrix.stderr_nats, matrix.stderr_nats.T)
        known = np.isfinite(errors[~np.eye(len(errors), dtype=bool)]).all()
        return cls.of(matrix.distances, errors if known else None)

    @classmethod
    def of(cls, distances: Distances, errors: Distances | None = None) -> "Geometry":
        """Measure distances ``[n, n]``, with standard errors if known; a map in space needs four models."""
        space = isomap(distances, 3) if len(distances) > 3 else None
        return cls(isomap(distances, 2), space, dendrogram(distances), triangles(distances, errors))

    def to_dict(self) -> dict[str, Any]:
        """Return JSON types; models are counted from 0, in the order of the matrix."""
        maps = {"map_2d": self.plane, "map_3d": self.space}
        tree = {"linkage": self.tree.linkage.tolist(), "order": list(self.tree.order)}
        return {
            **{name: _map_to_dict(chart) for name, chart in maps.items() if chart is not None},
            "tree": tree | {"correlation": _or_none(self.tree.correlation)},
            "triangles": vars(self.triangles) | {"worst_ratio": _or_none(self.triangles.worst_ratio)},
        }

    def __str__(self) -> str:
        """Say how far the pictures can be trusted."""
        maps = [self.plane] if self.space is None else [self.plane, self.space]
        trust = " and ".join(f"{chart.trustworthiness:.2f} in {chart.points.shape[1]} dimensions" for chart in maps)
        found = self.triangles
        beyond = "" if found.beyond_error is None else f", {found.beyond_error} by more than two standard errors"
        return (
            f"the map's trustworthiness is {trust}, from {self.plane.neighbours} neighbours each\n"
            f"the tree's heights correlate with the distances by {self.tree.correlation:.2f}\n"
            f"{found.violations} of {found.triples} triangles are violated{beyond}; the longest direct way is "
            f"{found.worst_ratio:.2f} of a detour"
        )


def check_distances(distances: Distances, least: int = 2) -> Distances:
    """Return distances as float64 if they are whole and symmetric.

    Raises:
        UnfitError: If an entry is missing, or the matrix is not one of distances, or too small.
    """
    d = np.asarray(distances, np.float64)
    if d.ndim != 2 or len(d) != len(d.T) or len(d) < least:
        raise UnfitError(
            f"a matrix of shape {list(d.shape)} cannot be drawn",
            f"at least {least} models are needed, each against each",
            "name more models for infodist matrix",
        )
    if len(missing := np.argwhere(np.triu(np.isnan(d + d.T)))):
        i, j = missing[0].tolist()
        raise UnfitError(
            f"{len(missing)} of {math.comb(len(d), 2)} distances are missing, the first between models {i} and {j}",
            "a map made of the others would be about other models",
            "type the same infodist matrix command again: it computes what is missing, and says what fails",
        )
    if not (np.isfinite(d).all() and (d >= 0).all() and np.array_equal(d, d.T) and not d.diagonal().any()):
        raise UnfitError(
            "these numbers are not distances",
            "distances are finite, symmetric, never negative, and 0 between a model and itself",
            "use the distances of a matrix, which are the larger of both directions",
        )
    return d


def isomap(distances: Distances, dimensions: int = 2, neighbours: int | None = None) -> Map:
    """Place models by Isomap (Tenenbaum, de Silva & Langford 2000), as section 4.1 of the paper does.

    Distances are taken along the graph that joins each model with its nearest ones, then placed by classical scaling.

    Args:
        distances: ``[n, n]``.
        dimensions: 2 or 3.
        neighbours: How many each is joined with. If None the fewest, from 5 on, that leave the graph in one piece;
            all others where there are no more.

    Raises:
        UsageError: If so few neighbours leave the graph in pieces, or the dimensions are not 2 or 3.
        UnfitError: If the distances cannot be drawn.
    """
    from sklearn.manifold import Isomap

    if dimensions not in (2, 3):
        raise UsageError(f"a map cannot have {dimensions} dimensions", "it is to be looked at", "choose 2 or 3")
    d = check_distances(distances, dimensions + 1)
    most = len(d) - 1
    if neighbours is None:
        neighbours = next(m for m in range(min(NEIGHBOURS, most), most + 1) if _in_one_piece(d, m))
    elif not 0 < neighbours <= most or not _in_one_piece(d, neighbours):
        raise UsageError(
            f"{neighbours} neighbours do not join {len(d)} models",
            "distances along the graph need it to be in one piece",
            "leave the number out to have the fewest that do",
        )
    method = Isomap(n_neighbors=neighbours, n_components=dimensions, metric="precomputed", eigen_solver="dense")
    points = method.fit_transform(d)
    return Map(points, neighbours, trustworthiness(d, points))


def _in_one_piece(d: Distances, neighbours: int) -> bool:
    from scipy.sparse.csgraph import connected_components
    from sklearn.neighbors import kneighbors_graph

    graph = kneighbors_graph(d, neighbours, metric="precomputed")
    return connected_components(graph, directed=False, return_labels=False) == 1


def trustworthiness(distances: Distances, points: Distances, neighbours: int = NEIGHBOURS) -> float:
    """Return how far near points are near models (Venna & Kaski 2001): 1 if all are.

    Args:
        distances: Of the models, ``[n, n]``.
        points: Their places, ``[n, d]``.
        neighbours: How many are near; fewer than n / 2, and cut to that.
    """
    from sklearn import manifold

    single = [i for i, row in enumerate(distances) if not (row[:i] == 0).any()]  # of copies, only one has a rank
    near = min(neighbours, (len(single) - 1) // 2)
    if near < 1:
        return math.nan
    there, here = distances[np.ix_(single, single)], points[single]
    return float(manifold.trustworthiness(there, here, n_neighbors=near, metric="precomputed"))


def dendrogram(distances: Distances) -> Tree:
    """Join models into a tree, and order its leaves so that neighbours are near (Bar-Joseph et al. 2001).

    Groups are as far apart as their members are on average (UPGMA): that needs no space in which the models lie, as
    Ward's and the centroid method do, and one chance neighbour does not chain groups, as single linkage does.
    """
    from scipy.cluster.hierarchy import cophenet, leaves_list, linkage, optimal_leaf_ordering
    from scipy.spatial.distance import squareform

    pairs = squareform(check_distances(distances))
    tree = optimal_leaf_ordering(linkage(pairs, "average"), pairs)
    heights = cophenet(tree)
    varied = np.ptp(pairs) > 0 and np.ptp(heights) > 0
    correlation = float(np.corrcoef(pairs, heights)[0, 1]) if varied else math.nan
    return Tree(tree, tuple(leaves_list(tree).tolist()), correlation)


def nearest(distances: Distances, i: int, n: int | None = None) -> list[tuple[int, float]]:
    """Return the ``n`` models nearest to model ``i`` with their distances, nearest first; all others if None.

    Missing distances are left out.
    """
    row = np.asarray(distances, np.float64)[i]
    others = [int(j) for j in np.argsort(row, kind="stable") if j != i and not np.isnan(row[j])]
    return [(j, float(row[j])) for j in others[:n]]


def triangles(distances: Distances, errors: Distances | None = None) -> Triangles:
    """Look for detours that are shorter than the direct way.

    Args:
        distances: ``[n, n]``.
        errors: Their standard errors, ``[n, n]``, taken as independent.
    """
    d = check_distances(distances)
    excess = d[:, None, :] - (d[:, :, None] + d[None, :, :])  # [i, j, k]: direct from i to k less the way over j
    i, j, k = np.indices(excess.shape)
    triple = (i < k) & (i != j) & (j != k)
    if not triple.any():
        return Triangles(0, 0, None if errors is None else 0, None, math.nan)
    tolerance = 1e-9 * d.max()  # round-off
    beyond = None
    if errors is not None:
        square = np.asarray(errors, np.float64) ** 2
        spread = np.sqrt(square[:, None, :] + square[:, :, None] + square[None, :, :])
        beyond = int(((excess > 2 * spread + tolerance) & triple).sum())
    way = d[:, :, None] + d[None, :, :]
    ratio = np.divide(d[:, None, :], way, out=np.where(d[:, None, :] > 0, np.inf, 1.0) + 0 * way, where=way > 0)
    worst = np.unravel_index(np.argmax(np.where(triple, ratio, -1.0)), ratio.shape)
    return Triangles(
        triples=math.comb(len(d), 3),
        violations=int(((excess > tolerance) & triple).sum()),
        beyond_error=beyond,
        worst=(int(worst[0]), int(worst[1]), int(worst[2])),
        worst_ratio=float(ratio[worst]),
    )


def triplet_accuracy(
    distances: Distances, near: Callable[[int, int], bool], far: Callable[[int, int], bool] | None = None
) -> tuple[float, int]:
    """Return how often a model is nearer to its own kind than to others, and of how many triplets.

    Of every anchor a, member p with ``near(a, p)`` and stranger q with ``far(a, q)``, the share of d(a, p) < d(a, q);
    a tie counts half. 0.5 is chance. Triplets with a missing distance are left out; NaN if there are no others.

    Args:
        distances: ``[n, n]``; need not be symmetric.
        near: Whether a model (the second) is of the anchor's kind.
        far: Whether it is a stranger; if None whoever is not ``near``.
    """
    d, n, hits = np.asarray(distances, np.float64), len(distances), []
    for a in range(n):
        others = [b for b in range(n) if b != a]
        members = [b for b in others if near(a, b)]
        strangers = [b for b in others if (far(a, b) if far else not near(a, b))]
        pairs = [(d[a, p], d[a, q]) for p in members for q in strangers]
        hits += [float(p < q) + 0.5 * float(p == q) for p, q in pairs if not np.isnan(p + q)]
    return (float(np.mean(hits)), len(hits)) if hits else (math.nan, 0)


def _map_to_dict(chart: Map) -> dict[str, Any]:
    return {
        "points": chart.points.tolist(),
        "neighbours": chart.neighbours,
        "trustworthiness": _or_none(chart.trustworthiness),
    }


def _or_none(value: float) -> float | None:
    return value if math.isfinite(value) else None
