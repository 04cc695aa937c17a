"""How well each measure says what is known of populations: scores of ReSi with intervals, over architectures."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hf_infodist.studies.measures.grouping import (
    Pairs,
    chance_precision,
    group_scores,
    rank_correlation,
    run_conformity,
)
from hf_infodist.studies.measures.populations import DISTANCE, NAMES, TRUTHS, Measured
from hf_infodist.studies.measures.statistics import Interval
from hf_infodist.table import text_table

DRAWS = 2000
CONFORMITY = ", conformity"
Values = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Known:
    """Populations of one architecture.

    Attributes:
        seeds: Networks that differ in the seed alone; None if that is not tested.
        groups: By kind, networks group by group.
        runs: Checkpoints, run by run.
    """

    seeds: Measured | None
    groups: dict[str, Measured]
    runs: list[Measured]

    def facts(self) -> dict[str, Any]:
        """Return what is known of the networks, and mean distances between groups in nats, ready for JSON."""
        seeds = {"seeds": {"accuracy": self.seeds.accuracy}} if self.seeds else {}
        groups = {kind: _facts(one) for kind, one in self.groups.items()}
        return {**seeds, **groups, "run": [_facts(one) for one in self.runs]}


def _facts(population: Measured) -> dict[str, Any]:
    """Return, by level, mean accuracies and the mean ``d_p`` within and between levels, itself left out."""
    levels = np.array(population.levels)
    order = list(dict.fromkeys(population.levels))
    nats = np.where(np.eye(len(levels), dtype=bool), np.nan, population.distances[DISTANCE])
    rows = {level: levels == level for level in order}
    return {
        "levels": order,
        "accuracy": [float(np.mean(np.array(population.accuracy)[rows[level]])) for level in order],
        "helped": [float(np.mean(np.array(population.helped)[rows[level]])) for level in order],
        "mean nats": [[_mean(nats[np.ix_(rows[a], rows[b])]) for b in order] for a in order],
    }


def _mean(values: Values) -> float:
    known = values[np.isfinite(values)]
    return float(known.mean()) if len(known) else float("nan")


@dataclass(frozen=True)
class Column:
    """One test.

    Attributes:
        name: Of the test.
        criterion: What is scored.
        chance: What a measure has in the mean that knows nothing.
        score: By measure, the mean over architectures.
        ahead: By measure, how far ``d_p`` is ahead, in the same draws.
        by_architecture: By measure, one score for each.
    """

    name: str
    criterion: str
    chance: float
    score: dict[str, Interval]
    ahead: dict[str, Interval]
    by_architecture: dict[str, list[float]]


def known(found: Mapping[str, Known], draws: int | None = None) -> list[Column]:
    """Score all measures in all tests.

    Args:
        found: By architecture.
        draws: Of the bootstrap; `DRAWS` if None.
    """
    every, draws = list(found.values()), DRAWS if draws is None else draws
    seeds = [one.seeds for one in every if one.seeds]
    columns = [_column(truth, "Spearman", 0.0, _correlations(seeds, truth, draws)) for truth in TRUTHS if seeds]
    for kind in every[0].groups:
        precision, conforming = _groups(every, kind, draws)
        columns.append(_column(kind, "AUPRC", _chance(every[0].groups[kind]), precision))
        columns.append(_column(kind + CONFORMITY, "conformity", 0.5, conforming))
    return [*columns, *([_column("run", "conformity", 0.5, _runs(every, draws))] if every[0].runs else [])]


def _column(name: str, criterion: str, chance: float, draws: dict[str, Values]) -> Column:
    """Make a column of scores ``[architectures, 1 + draws]`` of each measure, the first of which is that of all."""
    means = {measure: scores.mean(0) for measure, scores in draws.items()}
    return Column(
        name,
        criterion,
        chance,
        {measure: _interval(mean) for measure, mean in means.items()},
        {measure: _interval(means[DISTANCE] - mean) for measure, mean in means.items() if measure != DISTANCE},
        {measure: scores[:, 0].tolist() for measure, scores in draws.items()},
    )


def _interval(scores: Values) -> Interval:
    """Return the first with the 95 % interval of the others; draws without a score are left out."""
    drawn = scores[1:][np.isfinite(scores[1:])]
    low, high = np.quantile(drawn, [0.025, 0.975]).tolist() if len(drawn) > 1 else (np.nan, np.nan)
    return Interval(float(scores[0]), low, high, len(drawn))


def _correlations(every: Sequence[Measured], truth: str, draws: int) -> dict[str, Values]:
    def score(population: Measured, measure: str, pairs: Pairs, counts: NDArray[np.intp]) -> Values:
        x, y = pairs.values(population.distances[measure]), pairs.values(population.truths[truth])
        if not np.isfinite(x).all():
            return np.full(len(counts), np.nan)
        return rank_correlation(x, y, pairs.weights(counts))

    return _drawn(every, [0] * len(every[0].levels), score, draws)


def _groups(every: Sequence[Known], kind: str, draws: int) -> tuple[dict[str, Values], dict[str, Values]]:
    """Return average precision and conformity."""
    populations = [one.groups[kind] for one in every]

    def score(which: int) -> Callable[..., Values]:
        return lambda one, measure, pairs, counts: group_scores(one.distances[measure], pairs, counts)[which]

    groups = _numbered(populations[0])
    return _drawn(populations, groups, score(0), draws), _drawn(populations, groups, score(1), draws)


def _numbered(population: Measured) -> list[int]:
    """Return the group of each network."""
    order = list(dict.fromkeys(population.levels))
    return [order.index(level) for level in population.levels]


def _drawn(
    populations: Sequence[Measured], groups: Sequence[int], score: Callable[..., Values], draws: int
) -> dict[str, Values]:
    """Return scores ``[architectures, 1 + draws]`` of each measure, all in the same draws."""
    pairs = Pairs.of(groups)
    once = np.ones((1, len(groups)), dtype=np.intp)
    counts = [np.vstack([once, pairs.draw(draws, seed)]) for seed in range(len(populations))]
    return {
        name: np.stack([score(one, name, pairs, own) for one, own in zip(populations, counts, strict=True)])
        for name in NAMES
    }


def _chance(population: Measured) -> float:
    """Return the average precision of no knowledge, mean over the groups."""
    pairs = Pairs.of(_numbered(population))
    sizes = [[int(flags.sum()) for flags in pairs.around(group)] for group in np.unique(pairs.groups)]
    return float(np.mean([chance_precision(*both) for both in sizes]))


def _runs(every: Sequence[Known], draws: int) -> dict[str, Values]:
    count = len(every[0].runs)
    shares = [
        np.vstack([np.ones(count), np.random.default_rng(seed).multinomial(count, np.ones(count) / count, draws)])
        for seed in range(len(every))
    ]
    return {
        name: np.stack(
            [
                share @ np.array([run_conformity(run.distances[name]) for run in one.runs]) / count
                for one, share in zip(every, shares, strict=True)
            ]
        )
        for name in NAMES
    }


def table(columns: Sequence[Column], what: str) -> str:
    """Show scores, or how far ``d_p`` is ahead of each measure: a row per measure, a column per test.

    Args:
        columns: From `known`.
        what: ``score`` or ``ahead``.
    """
    heads = [f"{column.name} ({column.criterion})" for column in columns]
    rows: list[tuple[str, ...]] = []
    for name in getattr(columns[0], what):
        cells = [getattr(column, what)[name] for column in columns]
        rows.append((name, *(str(cell) if np.isfinite(cell.value) else "n/a" for cell in cells)))
    if what == "score":
        rows.append(("chance", *(f"{column.chance:.2f}" for column in columns)))
    return text_table((what if what == "score" else "d_p ahead of", *heads), rows)
