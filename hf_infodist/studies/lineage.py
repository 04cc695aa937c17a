"""Who was made from whom, told by the information distance and by other measures, in forests of known descent.

`infodist study lineage --work FOLDER [--scale small|paper] [--seeds 0 1 2] [--output FOLDER]`

Each forest has two roots, trained on the same pictures from different weights, and eight descendants: networks
trained further on a random half, on noisy labels or on another question, a distilled student, a copy with its neurons
in another order and one with its classes in another order. All pairs are measured on test pictures. Scores, each over
all forests:

* parent: of each descendant, whether its parent is the network of the smallest value; networks that compute the same
  count as one;
* same tree, one step: triplets in which the nearer relative is nearer;
* tree: rank correlation of the dendrogram's heights with the steps along the forest;
* direction: of each edge, whether the child given its parent is the smaller value (directed measures only).

Checkpoints are kept in the work folder and codelengths in the store, so a rerun computes what is missing.
"""

import argparse
import json
import logging
import math
import sys
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

import numpy as np

from hf_infodist.baselines.measures import MEASURES
from hf_infodist.lineage import COPY_NATS_PER_IMAGE, ROOT_SHARE
from hf_infodist.models import Classifier
from hf_infodist.pairwise import INFODIST, PairwiseMatrix, pairwise_distances
from hf_infodist.processes import one_thread
from hf_infodist.protocol import PROTOCOLS
from hf_infodist.studies import _descent, _matrix
from hf_infodist.studies._descent import Answer, Values
from hf_infodist.studies._forest import FOREST, SCALES, Birth, Scale, grow
from hf_infodist.training import make_accelerator

DISTANCE, CHILD, PARENT = "d_p", "L'(child | parent)", "L'(parent | child)"
_BASELINES = [one for one in MEASURES if one.name != "KL(B‖A)"]
_SHARES = [round(0.05 * step, 2) for step in range(6, 21)]
_LOG = logging.getLogger(__name__)


def measure(forest: Sequence[Classifier], images: Any, protocol: str) -> dict[str, PairwiseMatrix]:
    """Measure all pairs by the information distance and by every baseline."""
    matrices = {}
    for name in (INFODIST, *(f"{one.space}/{one.name}" for one in _BASELINES)):
        _LOG.info("measuring all pairs by %s", name)
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


def score(values: Values, births: tuple[Birth, ...]) -> dict[str, Any]:
    """Return all scores of one measure on one forest; answers are kept one by one."""
    directed = not np.array_equal(values, values.T, equal_nan=True)
    directions = _descent.direction_answers(values, births) if directed else []
    triplets = _descent.triplets(values, births)
    return {
        "parent": [vars(answer) for answer in _descent.parent_answers(values, births)],
        **{name: share if count else None for name, (share, count) in triplets.items()},
        "triplets": {name: count for name, (_, count) in triplets.items()},
        "tree": None if math.isnan(tree := _descent.tree_correlation(values, births)) else tree,
        "direction": [vars(answer) for answer in directions],
    }


def examine(births: tuple[Birth, ...], forest: Sequence[Classifier], images: Any, protocol: str) -> dict[str, Any]:
    """Measure and score one forest."""
    matrices = measure(forest, images, protocol)
    read, copy_nats = readings(matrices), COPY_NATS_PER_IMAGE * len(images)

    def by_rule(name: str, share: float) -> list[Answer]:
        return _descent.rule_answers(read[name], births, share, copy_nats)

    return {
        "nats": _matrix.rounded(matrices[INFODIST].nats),
        "stderr_nats": _matrix.rounded(matrices[INFODIST].stderr_nats),
        "scores": {name: score(values, births) for name, values in read.items()},
        "rules": {
            name: {str(share): fmean(answer.right for answer in by_rule(name, share)) for share in _SHARES}
            for name in (DISTANCE, CHILD, PARENT)
        },
        "proposed": [vars(answer) for answer in by_rule(CHILD, ROOT_SHARE)],
        "baselines": {name: _matrix.rounded(other.nats) for name, other in matrices.items() if name != INFODIST},
    }


def summarise(forests: Sequence[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Return mean and spread over forests of each score, and of answers the share over all with its 95 % interval."""
    summary: dict[str, dict[str, Any]] = {}
    for name in forests[0]["scores"]:
        rows = [forest["scores"][name] for forest in forests]
        summary[name] = {key: _spread([row[key] for row in rows]) for key in ("same tree", "one step", "tree")}
        for key in ("parent", "direction"):
            answers = [Answer(**answer) for row in rows for answer in row[key]]
            rights = [[answer["right"] for answer in row[key]] for row in rows]
            summary[name][key] = _shares(answers) | {"by_forest": [fmean(one) if one else None for one in rights]}
    return summary


def choose_share(forests: Sequence[dict[str, Any]], rule: str) -> dict[str, Any]:
    """Return how often a rule is right at each share, and at the share that is best on all other forests."""
    curves = [forest["rules"][rule] for forest in forests]
    mean = {share: fmean(curve[share] for curve in curves) for share in curves[0]}
    left_out = []
    for number, curve in enumerate(curves):
        others = [other for place, other in enumerate(curves) if place != number] or [curve]
        best = max(fmean(other[share] for other in others) for share in curve)
        plateau = [share for share in curve if fmean(other[share] for other in others) == best]
        left_out.append(curve[plateau[len(plateau) // 2]])
    return {"mean": mean, "left_out_forest": _spread(left_out)}


def _spread(values: Sequence[float | None]) -> dict[str, Any]:
    known = [value for value in values if value is not None]
    return {
        "mean": fmean(known) if known else None,
        "standard_deviation": stdev(known) if len(known) > 1 else None,
        "by_forest": list(values),
    }


def _shares(answers: Sequence[Answer]) -> dict[str, Any]:
    """Return the share of right answers with Wilson's interval, and by how the networks were made."""
    from scipy.stats import binomtest

    by_how: dict[str, list[bool]] = defaultdict(list)
    for answer in answers:
        by_how[answer.how].append(answer.right)
    right, count = sum(answer.right for answer in answers), len(answers)
    interval = binomtest(right, count).proportion_ci(method="wilson") if count else None
    return {
        "right": right,
        "count": count,
        "share": right / count if count else None,
        "interval": [interval.low, interval.high] if interval else None,
        "by_how": {how: [sum(rights), len(rights)] for how, rights in by_how.items()},
    }


def table(summary: dict[str, dict[str, Any]]) -> str:
    """Show the summary: a row per measure."""
    columns = ("parent", "same tree", "one step", "tree", "direction")
    lines = [f"{'':<36}" + "".join(f"{column:>16}" for column in columns)]
    for name, row in summary.items():
        cells = [_cell(row[column]) for column in columns]
        lines.append(f"{name:<36}" + "".join(f"{cell:>16}" for cell in cells))
    return "\n".join(lines)


def _cell(score: dict[str, Any]) -> str:
    if "share" in score:
        return f"{score['share']:.2f} ({score['count']})" if score["count"] else "n/a"
    if score["mean"] is None:
        return "n/a"
    return f"{score['mean']:.2f}" + (f" ± {score['standard_deviation']:.2f}" if score["standard_deviation"] else "")


def run(scale: Scale, births: tuple[Birth, ...], seeds: Sequence[int], work: Path, figures: dict[str, Any]) -> None:
    """Grow and examine a forest for each seed; after each of them what is known is written to the work folder."""
    train, test = scale.load()
    images = _matrix.sample(f"{test.name} test", test.images, min(scale.k, len(test.images)))
    figures |= {"images": images.to_dict(), "births": [vars(birth) for birth in births], "forests": []}
    for seed in seeds:
        forest = grow(births, train.first(scale.train), work / f"forest-{seed}", scale, seed)
        figures["forests"].append({"seed": seed, **examine(births, forest, images, scale.protocol)})
        figures["summary"] = summarise(figures["forests"])
        proposed = [Answer(**answer) for forest in figures["forests"] for answer in forest["proposed"]]
        figures["proposed"] = _shares(proposed)
        figures["rules"] = {rule: choose_share(figures["forests"], rule) for rule in (DISTANCE, CHILD, PARENT)}
        (work / "lineage.json").write_text(json.dumps(figures, indent=1) + "\n")


def main(argv: list[str] | None = None) -> None:
    """Train what is missing, measure what is missing, and show how often descent is told."""
    words = list(sys.argv[1:] if argv is None else argv)
    parser = argparse.ArgumentParser("infodist study lineage", description=__doc__)
    parser.add_argument("--work", type=Path, required=True, help="folder that keeps the checkpoints")
    parser.add_argument("--scale", choices=SCALES, default="small")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], help="one forest for each")
    parser.add_argument("--output", type=Path, help="folder that receives lineage.json and lineage.png")
    parser.add_argument("-k", type=int, help="images of every pair, instead of those of the scale")
    parser.add_argument("--protocol", "-p", choices=PROTOCOLS, help="instead of that of the scale")
    parser.add_argument("--train", type=int, help="pictures to train on, instead of those of the scale")
    args = parser.parse_args(words)
    figures = {**_matrix.provenance("lineage", words), "root_share": ROOT_SHARE}
    changes = {name: value for name in ("k", "protocol", "train") if (value := getattr(args, name)) is not None}
    scale = replace(SCALES[args.scale], **changes)
    figures["settings"] = {name: value for name, value in vars(scale).items() if not callable(value)} | {
        "epsilon": PROTOCOLS[scale.protocol].epsilon
    }
    args.work.mkdir(parents=True, exist_ok=True)
    with one_thread(make_accelerator().device):
        run(scale, FOREST, args.seeds, args.work, figures)
    if args.output:
        from hf_infodist.studies._lineage_plot import draw

        args.output.mkdir(parents=True, exist_ok=True)
        (args.output / "lineage.json").write_text(json.dumps(figures, indent=1) + "\n")
        draw(figures, args.output / "lineage.png")
    sys.stdout.write(table(figures["summary"]) + "\n")


if __name__ == "__main__":
    from hf_infodist.cli import main as infodist

    infodist(["study", "lineage", *sys.argv[1:]])
