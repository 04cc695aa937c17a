"""Who is a copy or kin of whom, in forests of known descent and in groups of strangers.

``infodist study lineage --work FOLDER [--scale small|paper] [--seed 10 --seed 11 …] [--output FOLDER]``

Each forest has twelve networks of three architectures: five roots, trained on the same pictures from different
weights, and descendants that are trained further on a random half, on noisy labels or on another question, a distilled
student, a copy that computes the same and one with its classes in another order. All pairs of one architecture are
measured, over all forests. Then

* each forest is asked about, with the roots of all other forests for a reference: precision and recall of copies and
  of kin; kin named in the reference are wrong;
* groups of roots, none of which is related to another, are asked about alone: in how many is any kin named;
* of all pairs of strangers: how often p is below 0.05 and 0.01 before any correction;
* of each edge between parent and child: what the two codelengths and third models say of the direction.

Checkpoints are kept in the work folder and codelengths in the store, so a rerun computes what is missing.
"""

import logging
import sys
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from hf_infodist.analysis.direction import tell_direction
from hf_infodist.analysis.kinship import ALPHA, FEWEST, MARGIN, compare_with_strangers
from hf_infodist.distances.pairwise import pairwise_distances
from hf_infodist.models.classifier import Classifier
from hf_infodist.processes import make_accelerator, one_thread
from hf_infodist.protocol import PROTOCOLS
from hf_infodist.results.files import merge
from hf_infodist.results.matrix import PairwiseMatrix
from hf_infodist.studies.measures.kin import (
    COPIES,
    Answer,
    Grown,
    answers,
    ask,
    grown,
    part,
    scores,
    share,
    unrelated_groups,
)
from hf_infodist.studies.networks import forest
from hf_infodist.studies.networks.data import sample
from hf_infodist.studies.networks.forest import SCALES, grow
from hf_infodist.studies.report.options import Examples, Folder, OtherImages, OtherProtocol, Scale, Work, typed
from hf_infodist.studies.report.output import write

DEFAULT_ARCHITECTURE = "default"
logger = logging.getLogger(__name__)


def plant(scale: forest.Scale, seeds: Sequence[int], work: Path) -> tuple[list[Grown], list[Classifier]]:
    """Return the networks of all forests, trained first where the folder does not have them."""
    pictures = scale.load()[0].first(scale.train)
    facts: list[Grown] = []
    networks: list[Classifier] = []
    for seed in seeds:
        births = scale.births(seed)
        those = grown(seed, births, DEFAULT_ARCHITECTURE)
        trees = grow(births, pictures, work / f"forest-{seed}", scale, seed)
        facts += those
        networks += [replace(network, id=one.id) for network, one in zip(trees, those, strict=True)]
    return facts, networks


def measure(facts: Sequence[Grown], networks: Sequence[Classifier], images: Any, protocol: str) -> PairwiseMatrix:
    """Measure all pairs of one architecture; the others are missing."""
    matrices = []
    for architecture in dict.fromkeys(one.architecture for one in facts):
        family = [network for network, one in zip(networks, facts, strict=True) if one.architecture == architecture]
        logger.info("measuring all pairs of %d networks: %s", len(family), architecture)
        if len(family) > 1:
            matrices.append(pairwise_distances(family, images, protocol=PROTOCOLS[protocol], match_classes=True))
    return merge(matrices)


def ask_forests(matrix: PairwiseMatrix, facts: Sequence[Grown]) -> list[Answer]:
    """Ask about each forest, with the roots of all others for a reference."""
    known = {model.id for model in matrix.models}
    facts = [one for one in facts if one.id in known]
    found: list[Answer] = []
    for seed in dict.fromkeys(one.id.partition("/")[0] for one in facts):
        own = [one for one in facts if one.id.startswith(f"{seed}/")]
        others = [one for one in facts if one not in own and one.birth.how == "root"]
        found += answers(ask(matrix, own, others), own)
    return found


def strangers(matrix: PairwiseMatrix, roots: Sequence[Grown]) -> dict[str, Any]:
    """Return how often roots look like kin before any correction, with and without the margin."""
    found: dict[str, Any] = {}
    for margin in (0.0, MARGIN):
        chances: list[float] = []
        for architecture in dict.fromkeys(one.architecture for one in roots):
            family = [one.id for one in roots if one.architecture == architecture]
            test = compare_with_strangers(_positive(part(matrix, family)), margin=margin)
            chances += test.chance[np.triu_indices(len(family), 1)].tolist()
        known = [one for one in chances if np.isfinite(one)]
        found[f"margin {margin:g}"] = {f"p < {p:g}": share([one < p for one in known]) for p in (0.05, 0.01)}
    return found


def _positive(matrix: PairwiseMatrix) -> Any:
    return np.maximum(np.sqrt(np.maximum(matrix.nats * matrix.nats.T, 0)), 1e-12)


def edges(matrix: PairwiseMatrix, facts: Sequence[Grown]) -> dict[str, Any]:
    """Return of each edge from a child to its parent what may tell the direction, negative where it points right.

    * cheaper: log L'(child | parent) − log L'(parent | child);
    * corrected: the same less what it costs strangers to be made from either, and either from strangers;
    * start: how much better a start for strangers the parent is, of opposite sign; the rule of ``infodist lineage``.
    """
    roots = [one for one in facts if one.birth.how == "root"]
    rows: list[dict[str, Any]] = []
    names = [model.id for model in matrix.models]
    logs = np.log(np.maximum(matrix.nats, 1e-12))
    for one in facts:
        if one.parent is None or one.birth.how in COPIES or one.id not in names:
            continue
        others = [names.index(r.id) for r in roots if r.architecture == one.architecture and r.root != one.root]
        i, j = names.index(one.id), names.index(one.parent)
        cheaper = logs[i, j] - logs[j, i]
        dearer, start = (logs[i, others] - logs[j, others]).mean(), (logs[others, i] - logs[others, j]).mean()
        told = tell_direction(matrix.nats, i, j, others)
        row = {"cheaper": cheaper, "corrected": cheaper - dearer + start, "start": -start}
        rows.append({"child": one.id, "how": one.birth.how, **{k: float(v) for k, v in row.items()}, "told": told})
    signs = {name: share([row[name] < 0 for row in rows]) for name in ("cheaper", "corrected", "start")}
    rule = share([row["told"] == "from" for row in rows if row["told"] != "unknown"])
    return {"edges": rows, "points_right": signs, "told": rule}


def main(
    context: typer.Context,
    work: Work,
    scale_name: Scale = "small",
    seeds: Annotated[list[int], typer.Option("--seed", help="one forest for each")] = [0, 1, 2],
    k: OtherImages = None,
    protocol: OtherProtocol = None,
    train: Examples = None,
    each: Annotated[int, typer.Option("--each", help="networks of each architecture in a group of strangers")] = 7,
    draws: Annotated[int, typer.Option("--draws", help="groups of strangers")] = 200,
    output: Folder = None,
) -> None:
    """Train what is missing, measure what is missing, and show how often relations are told."""
    given: dict[str, Any] = {"k": k, "protocol": protocol, "train": train}
    scale = replace(SCALES[scale_name], **{name: value for name, value in given.items() if value is not None})
    work.mkdir(parents=True, exist_ok=True)
    test = scale.load()[1]
    images = sample(f"{test.name}, test", test.images, min(scale.k, len(test.images)))
    with one_thread(make_accelerator().device):
        facts, networks = plant(scale, seeds, work)
        matrix = measure(facts, networks, images, scale.protocol)
    known = {model.id for model in matrix.models}
    roots = [one for one in facts if one.birth.how == "root" and one.id in known]
    found = ask_forests(matrix, facts)
    figures = {
        "settings": {name: value for name, value in vars(scale).items() if not callable(value)},
        "seeds": list(seeds),
        "rule": {"alpha": ALPHA, "fewest": FEWEST, "margin": MARGIN},
        "images": vars(images.record),
        "summary": scores(found),
        "strangers": strangers(matrix, roots),
        "groups": unrelated_groups(matrix, roots, each, draws),
        "direction": edges(matrix, facts),
        "answers": [asdict(one) for one in found],
        "architectures": {one.id: one.architecture for one in facts},
    }
    write("lineage", typed(context), figures, output)
    if output:
        from hf_infodist.studies.report.lineage_plot import draw

        draw(found, output / "lineage.png")
    sys.stdout.write(_told(figures))


def _told(figures: dict[str, Any]) -> str:
    """Return the summary as text."""

    def of(one: dict[str, Any]) -> str:
        return f"{one['right']} of {one['count']}" + (f" ({one['share']:.3f})" if one["count"] else "")

    summary = figures["summary"]
    lines = [
        f"{relation}: precision {of(summary[relation]['precision'])}, recall {of(summary[relation]['recall'])}, "
        f"by how {summary[relation]['by_how']}"
        for relation in ("copy", "kin")
    ]
    lines += [f"without relatives, none named: {of(summary['alone'])}"]
    lines += [f"groups of strangers in which kin are named: {of(figures['groups']['any_kin'])}"]
    lines += [f"direction told right: {of(summary['direction'])}; of all edges {of(figures['direction']['told'])}"]
    lines += [f"{name} points right: {of(one)}" for name, one in figures["direction"]["points_right"].items()]
    lines += [
        f"strangers, {m}: {', '.join(f'{n} {of(v)}' for n, v in o.items())}" for m, o in figures["strangers"].items()
    ]
    return "\n".join(lines) + "\n"
