"""Scores of many measures on many forests, and their summary."""

import math
from collections import defaultdict
from collections.abc import Sequence
from statistics import fmean, stdev
from typing import Any

import numpy as np

from hf_infodist.studies.measures import descent
from hf_infodist.studies.measures.descent import Answer, Values
from hf_infodist.studies.networks.forest import Birth
from hf_infodist.table import text_table


def score(values: Values, births: tuple[Birth, ...]) -> dict[str, Any]:
    """Return all scores of one measure on one forest; answers are kept one by one."""
    directed = not np.array_equal(values, values.T, equal_nan=True)
    directions = descent.direction_answers(values, births) if directed else []
    triplets = descent.triplets(values, births)
    return {
        "parent": [vars(answer) for answer in descent.parent_answers(values, births)],
        **{name: share if count else None for name, (share, count) in triplets.items()},
        "triplets": {name: count for name, (_, count) in triplets.items()},
        "tree": None if math.isnan(tree := descent.tree_correlation(values, births)) else tree,
        "direction": [vars(answer) for answer in directions],
        "central": [vars(answer) for answer in descent.central_answers(values, births)],
    }


def summarise(forests: Sequence[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Return mean and spread over forests of each score, and of answers the share over all with its 95 % interval."""
    summary: dict[str, dict[str, Any]] = {}
    for name in forests[0]["scores"]:
        rows = [forest["scores"][name] for forest in forests]
        summary[name] = {key: _spread([row[key] for row in rows]) for key in ("same tree", "one step", "tree")}
        for key in ("parent", "direction", "central"):
            answers = [Answer(**answer) for row in rows for answer in row[key]]
            rights = [[answer["right"] for answer in row[key]] for row in rows]
            summary[name][key] = shares(answers) | {"by_forest": [fmean(one) if one else None for one in rights]}
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


def table(summary: dict[str, dict[str, Any]]) -> str:
    """Show the summary: a row per measure."""
    columns = ("parent", "same tree", "one step", "tree", "direction", "central")
    lines = [(name, *(_cell(row[column]) for column in columns)) for name, row in summary.items()]
    return text_table(("", *columns), lines)


def _cell(score: dict[str, Any]) -> str:
    if "share" in score:
        return f"{score['share']:.2f} ({score['count']})" if score["count"] else "n/a"
    if score["mean"] is None:
        return "n/a"
    return f"{score['mean']:.2f}" + (f" ± {score['standard_deviation']:.2f}" if score["standard_deviation"] else "")


def shares(answers: Sequence[Answer]) -> dict[str, Any]:
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


def _spread(values: Sequence[float | None]) -> dict[str, Any]:
    known = [value for value in values if value is not None]
    return {
        "mean": fmean(known) if known else None,
        "standard_deviation": stdev(known) if len(known) > 1 else None,
        "by_forest": list(values),
    }
