"""How often ``infodist lineage`` is right about networks whose descent is known."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from hf_infodist.analysis.lineage import Lineage
from hf_infodist.analysis.relations import Descent
from hf_infodist.results.matrix import PairwiseMatrix
from hf_infodist.studies.networks.births import Birth

COPIES = ("neurons", "rounded", "labels")


@dataclass(frozen=True)
class Grown:
    """A network of a forest.

    Attributes:
        id: Its forest and its name.
        birth: How it was made.
        root: Name of the network that it descends from, or its own.
        parent: Id of its parent; None of a root.
        architecture: Which.
    """

    id: str
    birth: Birth
    root: str
    parent: str | None
    architecture: str


@dataclass(frozen=True)
class Answer:
    """What is said of a network, and what is true.

    Attributes:
        model: Its id.
        how: How it was made.
        truth: Its closest relation to another network of its forest.
        found: Which relation is named.
        of: Whose.
        right: Whether that one has this relation.
        p_value: Of the nearest, corrected.
        ratio: Mean codelength of the nearest over that of strangers; None where it is not known.
        direction: Which is told.
        direction_right: Whether it is, where one of the two was made from the other; None where none is told.
    """

    model: str
    how: str
    truth: str
    found: str
    of: str | None
    right: bool
    p_value: float | None
    ratio: float | None
    direction: str
    direction_right: bool | None


def grown(seed: int, births: Sequence[Birth], architecture: str) -> list[Grown]:
    """Return the networks of a forest with their roots, in order."""
    parents = {birth.name: birth.parent for birth in births}

    def root(name: str) -> str:
        above = parents[name]
        return name if above is None else root(above)

    def full(name: str) -> str:
        return f"{seed}/{name}"

    return [
        Grown(
            full(birth.name),
            birth,
            full(root(birth.name)),
            full(birth.parent) if birth.parent else None,
            birth.architecture or architecture,
        )
        for birth in births
    ]


def part(matrix: PairwiseMatrix, ids: Sequence[str]) -> PairwiseMatrix:
    """Return some models of a matrix, in an order."""
    at = [[model.id for model in matrix.models].index(one) for one in ids]
    here = np.ix_(at, at)
    models = tuple(matrix.models[i] for i in at)
    return replace(
        matrix, models=models, nats=matrix.nats[here], stderr_nats=matrix.stderr_nats[here], errors={}, twins=()
    )


def ask(matrix: PairwiseMatrix, asked: Sequence[Grown], reference: Sequence[Grown] = ()) -> Lineage:
    """Test some networks, beside others that only say how far strangers are."""
    everyone = [*asked, *reference]
    families = [one.architecture for one in everyone]
    ids = [one.id for one in everyone]
    return Lineage.of(part(matrix, ids), families=families, reference=[one.id for one in reference])


def answers(found: Lineage, forest: Sequence[Grown]) -> Iterator[Answer]:
    """Yield for each network of a forest what is said of it and whether that is right."""
    by_id = {one.id: one for one in forest}
    for descent in found.descents:
        yield _answer(descent, by_id)


def _answer(descent: Descent, by_id: dict[str, Grown]) -> Answer:
    own, other = by_id[descent.model], by_id.get(descent.of or "")
    relatives = [one for one in by_id.values() if one.id != own.id and one.root == own.root]
    copies = [one for one in relatives if _function(one) == _function(own)]
    related = {"copy": copies, "kin": relatives, "none": []}
    ratio = descent.mean_nats / descent.strangers_nats if descent.strangers_nats else None  # type: ignore[operator]
    right = other in related[descent.relation] if descent.relation != "none" else not relatives
    return Answer(
        own.id,
        own.birth.how,
        "copy" if copies else "kin" if relatives else "none",
        descent.relation,
        descent.of,
        right,
        descent.p_value,
        ratio,
        descent.direction,
        _direction(descent, own, other),
    )


def _function(one: Grown) -> str | None:
    """Return the id of the network whose outputs it has."""
    return one.parent if one.birth.how in COPIES else one.id


def _direction(descent: Descent, own: Grown, other: Grown | None) -> bool | None:
    """Tell whether a direction is right; None where none is told, or neither is made from the other."""
    if descent.direction == "unknown" or other is None:
        return None
    true = {other.id: "from"}.get(own.parent or "") or {own.id: "to"}.get(other.parent or "")
    return None if true is None else descent.direction == true


def scores(given: Sequence[Answer]) -> dict[str, Any]:
    """Return precision and recall of copies and of kin, with 95 % intervals, and recall by how networks were made."""
    summary: dict[str, Any] = {}
    for relation in ("copy", "kin"):
        named = [one.right for one in given if one.found == relation]
        there = [one for one in given if one.truth == relation]
        hits = [one.found != "none" and one.right for one in there]
        summary[relation] = {"precision": share(named), "recall": share(hits)}
        by_how = Counter(one.how for one in there)
        found = Counter(one.how for one, hit in zip(there, hits, strict=True) if hit)
        summary[relation]["by_how"] = {how: [found[how], count] for how, count in by_how.items()}
    summary["alone"] = share([one.found == "none" for one in given if one.truth == "none"])
    summary["direction"] = share([one.direction_right for one in given if one.direction_right is not None])
    return summary


def share(rights: Sequence[bool]) -> dict[str, Any]:
    """Return how many are right, of how many, the share and Wilson's 95 % interval."""
    from scipy.stats import binomtest

    right, count = sum(rights), len(rights)
    if not count:
        return {"right": 0, "count": 0, "share": None, "interval": None}
    interval = binomtest(right, count).proportion_ci(method="wilson")
    return {"right": right, "count": count, "share": right / count, "interval": [interval.low, interval.high]}


def unrelated_groups(
    matrix: PairwiseMatrix, roots: Sequence[Grown], each: int, draws: int, seed: int = 0
) -> dict[str, Any]:
    """Draw groups of independently trained networks, and count in how many any kin is named.

    Args:
        matrix: Of all of them.
        roots: Networks without common ancestors.
        each: Networks of each architecture in a group.
        draws: Groups.
        seed: Of the draws.
    """
    rng, architectures = np.random.default_rng(seed), sorted({one.architecture for one in roots})
    named, silent = [], 0
    for _ in range(draws):
        group = []
        for architecture in architectures:
            family = [one for one in roots if one.architecture == architecture]
            group += [family[i] for i in rng.permutation(len(family))[:each]]
        found = ask(matrix, group).descents
        named.append(any(one.relation != "none" for one in found))
        silent += sum(not one.told for one in found)
    return {"each": each, "draws": draws, "any_kin": share(named), "silent_models": silent}
