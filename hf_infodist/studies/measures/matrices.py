"""All pairs of some networks, by the information distance and by every baseline, and what families they fall into."""

import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hf_infodist.analysis.geometry import Geometry, triplet_accuracy
from hf_infodist.analysis.plots import draw_all
from hf_infodist.baselines.measures import MEASURES
from hf_infodist.distances.pairwise import pairwise_distances
from hf_infodist.images.sample import Images
from hf_infodist.models.classifier import Classifier
from hf_infodist.protocol import CodingProtocol
from hf_infodist.results.matrix import INFODIST, PairwiseMatrix
from hf_infodist.studies.measures.statistics import Interval, mean
from hf_infodist.studies.report.output import provenance, rounded, show, to_json
from hf_infodist.table import text_table

_BASELINES = [f"{one.space}/{one.name}" for one in MEASURES if one.space != "parameter" and one.name != "KL(B‖A)"]
logger = logging.getLogger(__name__)
Relation = Callable[[int, int], bool]
Answers = dict[str, dict[str, dict[str, Any]]]  # by question, then by measure


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
    distances: Mapping[str, NDArray[np.float64]], questions: Mapping[str, tuple[Relation, Relation]]
) -> Answers:
    """Return triplet accuracy and number of triplets, by question and measure; triplets without a number are left out.

    Args:
        distances: By measure, ``[n, n]``.
        questions: Who is of an anchor's kind, and who is a stranger.
    """
    answers: Answers = {}
    for question, (near, far) in questions.items():
        answers[question] = {}
        for name, values in distances.items():
            share, count = triplet_accuracy(values, near, far)
            if count:
                answers[question][name] = {"accuracy": share, "triplets": count}
    return answers


def over_repeats(repeats: Sequence[Answers]) -> dict[str, dict[str, Interval]]:
    """Return the mean of the same answers of networks that were trained again, with Student's interval.

    Args:
        repeats: From `triplets`; measures that say nothing of one of them are left out.
    """
    return {
        question: {
            name: mean([answers[question][name]["accuracy"] for answers in repeats])
            for name in row
            if all(name in answers[question] for answers in repeats)
        }
        for question, row in repeats[0].items()
    }


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


def table(answers: Answers) -> str:
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
    answers: Answers,
    more: dict[str, Any],
    *,
    groups: Sequence[str],
    output: Path | None,
    repeats: Sequence[dict[str, Any]] = (),
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
        repeats: Of the networks that were trained again the answers, ``triplets``, and what else is known.
    """
    matrix = matrices[INFODIST]
    names, geometry = [model.id for model in matrix.models], Geometry.of_matrix(matrix)
    if output:
        draw_all(geometry, matrix.nats, names, output, groups=groups)
        others = {name: rounded(other.distances) for name, other in matrices.items() if name != INFODIST}
        figures = {**provenance(command), "matrix": matrix.to_dict(), "geometry": geometry.to_dict()}
        figures |= {"triplets": answers, **more, "baselines": others, **({"repeats": repeats} if repeats else {})}
        (output / f"{study}.json").write_text(to_json(figures) + "\n")
    lines = [f"{name}: " + ", ".join(f"{one} {value:.3g}" for one, value in row.items()) for name, row in more.items()]
    shown = [str(matrix), table(answers), str(geometry), *lines]
    if len(repeats) > 1:
        told = over_repeats([one["triplets"] for one in repeats])
        names = list(next(iter(told.values())))
        rows = [(name, *(str(row.get(name, "n/a")) for row in told.values())) for name in names]
        shown.append(text_table((f"mean of {len(repeats)} repeats", *told), rows))
    show(*shown)
