"""All pairs of some networks, by the information distance and by every baseline, and what families they fall into."""

import json
import logging
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from hf_infodist.analysis.geometry import Geometry, triplet_accuracy
from hf_infodist.analysis.plots import draw_all
from hf_infodist.baselines.measures import MEASURES
from hf_infodist.distances.pairwise import pairwise_distances
from hf_infodist.images.sample import Images
from hf_infodist.models.classifier import Classifier
from hf_infodist.protocol import CodingProtocol
from hf_infodist.results.matrix import INFODIST, PairwiseMatrix
from hf_infodist.studies.report.output import provenance, rounded
from hf_infodist.table import text_table

_BASELINES = [f"{one.space}/{one.name}" for one in MEASURES if one.space != "parameter" and one.name != "KL(B‖A)"]
logger = logging.getLogger(__name__)
Relation = Callable[[int, int], bool]


def all_pairs(models: Sequence[Classifier], images: Images, protocol: CodingProtocol) -> dict[str, PairwiseMatrix]:
    """Measure each model against each, by the information distance first and by every baseline that says something.

    Codelengths that the store has are taken from there.
    """
    matrices = {}
    for measure in (INFODIST, *_BASELINES):
        logger.info("measuring all pairs by %s", measure)
        matrices[measure] = pairwise_distances(models, images, protocol=protocol, measure=measure)
    off_diagonal = ~np.eye(len(models), dtype=bool)
    return {name: matrix for name, matrix in matrices.items() if np.isfinite(matrix.distances[off_diagonal]).any()}


def triplets(
    matrices: dict[str, PairwiseMatrix], questions: dict[str, tuple[Relation, Relation]]
) -> dict[str, dict[str, Any]]:
    """Return triplet accuracy and number of triplets, by question and measure; triplets without a number are left out.

    Args:
        matrices: By measure.
        questions: Who is of an anchor's kind, and who is a stranger.
    """
    answers: dict[str, dict[str, Any]] = {}
    for question, (near, far) in questions.items():
        answers[question] = {}
        for name, matrix in matrices.items():
            share, count = triplet_accuracy(matrix.distances, near, far)
            if count:
                answers[question][name] = {"accuracy": share, "triplets": count}
    return answers


def shares_of_variance(nats: np.ndarray, groups: Sequence[str]) -> dict[str, float]:
    """Return how much of the variance of log codelengths the mean of each teacher, and of each student, explains.

    Of pairs of different groups only. Where ``teacher`` is near 1, a teacher costs much the same whoever is taught.

    Args:
        nats: ``[M, M]``; rows are teachers, columns are students.
        groups: A family per model.
    """
    apart = np.array(groups)[:, None] != np.array(groups)[None, :]
    logs = np.log(np.where(apart, nats, 1.0))
    away = np.where(apart, logs - logs[apart].mean(), 0.0)

    def explained(axis: int) -> float:
        counts = apart.sum(axis)
        means = away.sum(axis) / np.maximum(counts, 1)
        return float((counts * means**2).sum() / (away**2).sum())

    return {"teacher": explained(1), "student": explained(0)}


def table(answers: dict[str, dict[str, Any]]) -> str:
    """Show the answers: a row per measure, a column per question."""
    names = list(dict.fromkeys(name for row in answers.values() for name in row))

    def text(cell: dict[str, Any] | None) -> str:
        return f"{cell['accuracy']:.2f} ({cell['triplets']})" if cell else "n/a"

    lines = [(name, *(text(row.get(name)) for row in answers.values())) for name in names]
    return text_table(("triplet accuracy (triplets)", *answers), lines)


def finish(
    study: str,
    command: str,
    matrices: dict[str, PairwiseMatrix],
    answers: dict[str, dict[str, Any]],
    more: dict[str, Any],
    *,
    groups: Sequence[str],
    output: Path | None,
) -> None:
    """Print the answers, and write figures and pictures of the information distance into a folder.

    Args:
        study: Its name.
        command: What runs it.
        matrices: By measure.
        answers: From `triplets`.
        more: Other figures, by name.
        groups: A family per model.
        output: The folder.
    """
    matrix = matrices[INFODIST]
    names, geometry = [model.id for model in matrix.models], Geometry.of_matrix(matrix)
    if output:
        draw_all(geometry, matrix.nats, names, output, groups=groups)
        others = {name: rounded(other.distances) for name, other in matrices.items() if name != INFODIST}
        figures = {**provenance(command), "matrix": matrix.to_dict(), "geometry": geometry.to_dict()}
        figures |= {"triplets": answers, **more, "baselines": others}
        (output / f"{study}.json").write_text(json.dumps(figures, indent=1) + "\n")
    lines = [f"{name}: " + ", ".join(f"{one} {value:.3g}" for one, value in row.items()) for name, row in more.items()]
    sys.stdout.write("\n\n".join([str(matrix), table(answers), str(geometry), *lines]) + "\n")
