"""How well a measure tells descent: scores of a matrix against a forest that is known."""

import math
from dataclasses import dataclass
from statistics import fmean

import numpy as np
from numpy.typing import NDArray

from hf_infodist.analysis.geometry import dendrogram, triplet_accuracy
from hf_infodist.analysis.lineage import find_parents
from hf_infodist.studies.networks.forest import Birth

_APART = 2  # steps from a root to the origin of all, more than lie between any two of one tree of this depth
Values = NDArray[np.float64]
Copies = list[tuple[int, ...]]
Parents = list[int | None]


@dataclass(frozen=True)
class Answer:
    """What a measure says of one network: how it was made, and whether that is right."""

    how: str
    right: bool


def function_of(births: tuple[Birth, ...]) -> list[int]:
    """Return for each network the first that computes the same of the same classes."""
    names = [birth.name for birth in births]
    return [names.index(birth.parent) if birth.how == "neurons" else i for i, birth in enumerate(births)]  # type: ignore[arg-type]


def true_parents(births: tuple[Birth, ...]) -> list[int | None]:
    """Return who was made from whom, by number."""
    names = [birth.name for birth in births]
    return [names.index(birth.parent) if birth.parent else None for birth in births]


def path_lengths(births: tuple[Birth, ...]) -> Values:
    """Return the steps between networks along their forest, ``[n, n]``; a copy of neurons is none.

    Roots have an origin in common, two steps above.
    """
    import networkx

    graph = networkx.Graph()
    for birth in births:
        weight = _APART if birth.parent is None else int(birth.how != "neurons")
        graph.add_edge(birth.name, birth.parent or "", weight=weight)
    steps = dict(networkx.all_pairs_dijkstra_path_length(graph))
    return np.array([[float(steps[a.name][b.name]) for b in births] for a in births])


def parent_answers(values: Values, births: tuple[Birth, ...]) -> list[Answer]:
    """Ask for the parent of each network that has one: the network of the smallest value in its row.

    Networks that compute the same count as one. What does not apply to a pair is never the smallest.
    """
    function, answers = function_of(births), []
    for i, parent in enumerate(true_parents(births)):
        if parent is None:
            continue
        twin_of_other = births[i].how == "neurons"
        others = [j for j in range(len(births)) if j != i and (twin_of_other or function[j] != function[i])]
        known = [j for j in others if not math.isnan(values[i, j])]
        guess = min(known, key=lambda j: values[i, j]) if known else None
        answers.append(Answer(births[i].how, guess is not None and function[guess] == function[parent]))
    return answers


def direction_answers(values: Values, births: tuple[Birth, ...]) -> list[Answer]:
    """Ask of each edge whether the child given its parent is the smaller value; copies have no direction."""
    known = [(i, j) for i, j in _edges(births) if not math.isnan(values[i, j] + values[j, i])]
    return [Answer(births[i].how, bool(values[i, j] < values[j, i])) for i, j in known]


def _edges(births: tuple[Birth, ...]) -> list[tuple[int, int]]:
    """Return children and parents, but for copies."""
    pairs = enumerate(true_parents(births))
    return [(i, j) for i, j in pairs if j is not None and births[i].how not in ("neurons", "labels")]


def central_answers(values: Values, births: tuple[Birth, ...]) -> list[Answer]:
    """Ask of the same edges whether the parent is the more central: of a smaller mean distance from all others.

    Networks that compute the same count as one; pairs to which the measure does not apply are left out.
    """
    function, distances = function_of(births), np.maximum(values, values.T)
    firsts, means = sorted(set(function)), {}
    for i in firsts:
        known = [float(distances[i, j]) for j in firsts if j != i and not math.isnan(distances[i, j])]
        means[i] = fmean(known) if known else math.nan
    edges = [(i, function[j]) for i, j in _edges(births)]
    return [Answer(births[i].how, means[j] < means[i]) for i, j in edges if not math.isnan(means[i] + means[j])]


def triplets(values: Values, births: tuple[Birth, ...]) -> dict[str, tuple[float, int]]:
    """Return triplet accuracies, and of how many: the same tree before another, one step before two or more."""
    steps = path_lengths(births)
    far = 2 * _APART
    return {
        "same tree": triplet_accuracy(values, lambda a, b: steps[a, b] < far, lambda a, b: steps[a, b] >= far),
        "one step": triplet_accuracy(values, lambda a, b: steps[a, b] <= 1, lambda a, b: steps[a, b] > 1),
    }


def tree_correlation(distances: Values, births: tuple[Birth, ...]) -> float:
    """Return the rank correlation of the heights at which pairs join in the dendrogram with their path lengths.

    Pairs to which a measure does not apply count as the farthest. NaN if it applies to none.
    """
    from scipy.cluster.hierarchy import cophenet
    from scipy.spatial.distance import squareform
    from scipy.stats import spearmanr

    d = np.array(distances)
    np.fill_diagonal(d, 0)
    if not np.isfinite(d[~np.eye(len(d), dtype=bool)]).any():
        return math.nan
    d[np.isnan(d)] = np.nanmax(d)
    heights = cophenet(dendrogram(np.maximum(np.maximum(d, d.T), 0)).linkage)
    steps = squareform(path_lengths(births))
    return float(spearmanr(heights, steps).statistic) if np.ptp(heights) > 0 else math.nan


def nearest_central(nats: Values, copies: Copies, share: float) -> Parents:
    """Propose parents as ``infodist lineage`` does."""
    return find_parents(nats, copies, root_share=share)


def arborescence(nats: Values, copies: Copies, share: float) -> Parents:
    """Propose the forest that costs least to build from its roots on (Edmonds 1967).

    Each network costs L'(network | parent), a root a share of what it usually costs given another.
    """
    import networkx

    firsts, graph = sorted({group[0] for group in copies}), networkx.DiGraph()
    for i in firsts:
        others = [j for j in firsts if j != i]
        graph.add_edge("nobody", i, weight=share * float(np.median(nats[i, others])))
        graph.add_weighted_edges_from((j, i, float(nats[i, j])) for j in others)
    parents = {child: parent for parent, child in networkx.minimum_spanning_arborescence(graph).edges}
    return [None if parents[group[0]] == "nobody" else parents[group[0]] for group in copies]


def rule_answers(guesses: Parents, copies: Copies, births: tuple[Birth, ...]) -> list[Answer]:
    """Tell which proposals are right, of roots that they have no parent.

    Of a copy of neurons its original is right, whatever is proposed for both.
    """
    function, answers = function_of(births), []
    for i, parent in enumerate(true_parents(births)):
        guess = guesses[i]
        named, true = (None if one is None else function[one] for one in (guess, parent))
        right = parent in copies[i] if births[i].how == "neurons" else named == true
        answers.append(Answer(births[i].how, right))
    return answers
