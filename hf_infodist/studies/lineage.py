"""Who was made from whom, by the information distance and by other measures, in forests of known descent.

``infodist study lineage --work FOLDER [--scale small|paper] [--seed 0 --seed 1 …] [--output FOLDER]``

Each forest has two roots, trained on the same pictures from different weights, and eight descendants: networks
trained further on a random half, on noisy labels or on another question, a distilled student, a copy with its neurons
in another order and one with its classes in another order. All pairs are measured twice: on test pictures, and on
strange ones, of something that no training has told the networks what to make of. Scores, over all forests:

* parent: of each descendant, whether its parent is the network of the smallest value; networks that compute the same
  count as one;
* same tree, one step: triplets in which the nearer relative is nearer;
* tree: rank correlation of the dendrogram's heights with the steps along the forest;
* direction: of each edge, whether the child given its parent is the smaller value (directed measures only);
* central: of each edge, whether the parent has the smaller mean value over all others.

Beside them, how often the rule of ``infodist lineage`` is right about parents and roots, and others that were tried.

Checkpoints are kept in the work folder and codelengths in the store, so a rerun computes what is missing.
"""

import json
import logging
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from statistics import fmean
from typing import Annotated, Any

import typer

from hf_infodist.analysis.lineage import COPY_NATS_PER_IMAGE, ROOT_SHARE, find_copies
from hf_infodist.baselines.measures import MEASURES
from hf_infodist.distances.pairwise import pairwise_distances
from hf_infodist.models.classifier import Classifier
from hf_infodist.processes import make_accelerator, one_thread
from hf_infodist.protocol import PROTOCOLS
from hf_infodist.results.matrix import INFODIST, PairwiseMatrix
from hf_infodist.studies.measures import descent
from hf_infodist.studies.measures.descent import Answer, Values
from hf_infodist.studies.measures.scores import choose_share, score, shares, summarise, table
from hf_infodist.studies.networks import forest
from hf_infodist.studies.networks.data import sample
from hf_infodist.studies.networks.forest import FOREST, SCALES, Birth, grow
from hf_infodist.studies.report.options import Examples, Folder, OtherImages, OtherProtocol, Scale, Work, one_of, typed
from hf_infodist.studies.report.output import provenance, rounded

DISTANCE, CHILD, PARENT = "d_p", "L'(child | parent)", "L'(parent | child)"
RULES = {  # by which parents are proposed, and from what; the first is that of the command
    "nearest of the more central": (descent.nearest_central, CHILD),
    "arborescence": (descent.arborescence, CHILD),
    "arborescence of d_p": (descent.arborescence, DISTANCE),
}
_BASELINES = [one for one in MEASURES if one.name != "KL(B‖A)"]
KINDS = ("test", "strange")
_SHARES = [round(0.05 * step, 2) for step in range(6, 21)]
logger = logging.getLogger(__name__)


def measure_forest(forest: Sequence[Classifier], images: Any, protocol: str) -> dict[str, PairwiseMatrix]:
    """Measure all pairs by the information distance and by every baseline."""
    matrices = {}
    for name in (INFODIST, *(f"{one.space}/{one.name}" for one in _BASELINES)):
        logger.info("measuring all pairs by %s", name)
        matrices[name] = pairwise_distances(forest, images, protocol=PROTOCOLS[protocol], measure=name)
    return matrices


def readings(matrices: dict[str, PairwiseMatrix]) -> dict[str, Values]:
    """Return what is scored: ``[n, n]`` values by name, a row for the network that is asked about."""
    nats = matrices[INFODIST].nats
    found = {DISTANCE: matrices[INFODIST].distances, CHILD: nats, PARENT: nats.T}
    for name, matrix in matrices.items():
        if name == "output/KL(A‖B)":
            found |= {"output/KL(child‖parent)": matrix.nats, "output/KL(parent‖child)": matrix.nats.T}
        elif name != INFODIST:
            found[name] = matrix.distances
    return found


def examine(births: tuple[Birth, ...], forest: Sequence[Classifier], images: Any, protocol: str) -> dict[str, Any]:
    """Measure and score one forest."""
    matrices = measure_forest(forest, images, protocol)
    read, distances = readings(matrices), matrices[INFODIST].distances
    copies = find_copies(distances, COPY_NATS_PER_IMAGE * len(images))

    def by_rule(name: str, share: float) -> list[Answer]:
        rule, reading = RULES[name]
        return descent.rule_answers(rule(read[reading], copies, share), copies, births)

    return {
        "nats": rounded(matrices[INFODIST].nats),
        "stderr_nats": rounded(matrices[INFODIST].stderr_nats),
        "scores": {name: score(values, births) for name, values in read.items()},
        "rules": {
            name: {str(share): fmean(answer.right for answer in by_rule(name, share)) for share in _SHARES}
            for name in RULES
        },
        "proposed": {name: [vars(answer) for answer in by_rule(name, ROOT_SHARE)] for name in RULES},
        "baselines": {name: rounded(other.nats) for name, other in matrices.items() if name != INFODIST},
    }


def run(
    scale: forest.Scale,
    births: tuple[Birth, ...],
    seeds: Sequence[int],
    kinds: Sequence[str],
    work: Path,
    figures: dict[str, Any],
) -> None:
    """Grow and examine a forest for each seed; after each of them what is known is written to the work folder."""
    train, test = scale.load()
    samples = {}
    for kind in kinds:
        task = test if kind == "test" else scale.strange()
        images = sample(f"{task.name}, {kind}", task.images, min(scale.k, len(task.images)))
        samples[kind] = images
        figures["samples"][kind] = {"images": vars(images.record), "forests": []}
    for seed in seeds:
        forest = grow(births, train.first(scale.train), work / f"forest-{seed}", scale, seed)
        for kind, images in samples.items():
            found = figures["samples"][kind]
            found["forests"].append({"seed": seed, **examine(births, forest, images, scale.protocol)})
            conclude(found)
            (work / "lineage.json").write_text(json.dumps(figures) + "\n")


def conclude(found: dict[str, Any]) -> None:
    """Add the summary of all forests on one sample."""
    forests = found["forests"]
    found["summary"] = summarise(forests)
    for name in RULES:
        answers = [Answer(**answer) for forest in forests for answer in forest["proposed"][name]]
        by_forest = [fmean(answer["right"] for answer in forest["proposed"][name]) for forest in forests]
        found.setdefault("proposed", {})[name] = shares(answers) | {"by_forest": by_forest}
    found["rules"] = {rule: choose_share(forests, rule) for rule in RULES}


def main(
    context: typer.Context,
    work: Work,
    scale_name: Scale = "small",
    seeds: Annotated[list[int], typer.Option("--seed", help="one forest for each")] = [0, 1, 2],
    samples: Annotated[list[str], one_of(KINDS, "--sample", what="pictures to measure on")] = list(KINDS),
    k: OtherImages = None,
    protocol: OtherProtocol = None,
    train: Examples = None,
    output: Folder = None,
) -> None:
    """Train what is missing, measure what is missing, and show how often descent is told."""
    figures = {**provenance(typed(context)), "root_share": ROOT_SHARE}
    figures |= {"births": [vars(birth) for birth in FOREST], "samples": {}}
    given: dict[str, Any] = {"k": k, "protocol": protocol, "train": train}
    scale = replace(SCALES[scale_name], **{name: value for name, value in given.items() if value is not None})
    figures["settings"] = {name: value for name, value in vars(scale).items() if not callable(value)} | {
        "epsilon": PROTOCOLS[scale.protocol].epsilon
    }
    work.mkdir(parents=True, exist_ok=True)
    with one_thread(make_accelerator().device):
        run(scale, FOREST, seeds, samples, work, figures)
    if output:
        from hf_infodist.studies.report.lineage_plot import draw

        output.mkdir(parents=True, exist_ok=True)
        (output / "lineage.json").write_text(json.dumps(figures) + "\n")
        draw(figures, output / "lineage.png")
    for kind, found in figures["samples"].items():
        sys.stdout.write(
            f"{kind}: {found['images']['k']} images of {found['images']['id']}\n{table(found['summary'])}\n"
        )
