"""By how much measures change when a network is re-parameterised: the arithmetic of table 1."""

from typing import Any

import numpy as np

from hf_infodist.studies.measures.compare import INFODIST, MEASURES, rounded
from hf_infodist.table import text_table

SCENARIOS = (
    "scaling",
    "neuron swapping",
    "perturbation",
    "adversarial perturbation",
    "initialisation",
    "architecture",
)


def change(row: dict[str, Any], run: dict[str, Any], measure: str, unit: str = "unmodified") -> float:
    """Return by how much a measure has changed since the unmodified pair; NaN where there is no such share.

    Args:
        row: What the measures say of a modified pair.
        run: One seed: ``unmodified``, ``same task``, and ``rows``, what they say of pairs.
        measure: Which.
        unit: ``unmodified``: of what it says of that pair. ``contrast``: of how far that is from what it says of two
            networks of the same task.
    """
    value, before, same = (one["values"][measure] for one in (row, run["unmodified"], run["same task"]))
    if None in (value, before, same):
        return np.nan
    of = abs(before if unit == "unmodified" else before - same)
    return (value - before) / of if of else np.nan


def relative_changes(run: dict[str, Any], measure: str, unit: str = "unmodified") -> dict[str, float]:
    """Return the size of `change`, averaged over coefficients, by scenario; where a measure does not apply is none."""
    changes: dict[str, list[float]] = {}
    for row in run["rows"]:
        changes.setdefault(row["scenario"], []).append(abs(change(row, run, measure, unit)))
    means = {scenario: float(np.mean(values)) for scenario, values in changes.items()}
    return {scenario: mean for scenario, mean in means.items() if np.isfinite(mean)}


def table(runs: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Return mean and standard deviation over seeds of the relative change, by measure and scenario.

    Three more columns, each a mean over the scenarios in which the measure applies, as in the paper: ``mean``; ``seeds
    first``, where every value is averaged over seeds before changes are taken, which leaves less of their chance; and
    ``of contrast``, the mean in another unit, see `change`.
    """
    rows, together = {}, average(runs)
    for measure in MEASURES:
        seeds = [relative_changes(run, measure) for run in runs]
        cells = {scenario: [one[scenario] for one in seeds] for scenario in SCENARIOS if scenario in seeds[0]}
        if cells:
            cells["mean"] = [_mean(one) for one in seeds]
            cells["seeds first"] = [_mean(relative_changes(together, measure))]
            cells["of contrast"] = [_mean(relative_changes(run, measure, "contrast")) for run in runs]
        rows[measure] = {name: _mean_and_spread(values) for name, values in cells.items()}
    return rows


def average(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """Return a run whose values are means over seeds; None where one has none."""

    def mean(rows: list[dict[str, Any]]) -> dict[str, Any]:
        values = {measure: [row["values"][measure] for row in rows] for measure in MEASURES}
        return {**rows[0], "values": {name: None if None in all_ else _mean(all_) for name, all_ in values.items()}}

    rows = [mean(list(places)) for places in zip(*(run["rows"] for run in runs), strict=True)]
    return {"rows": rows, **{name: mean([run[name] for run in runs]) for name in ("unmodified", "same task")}}


def _mean(values: Any) -> float:
    return float(np.mean(list(values.values() if isinstance(values, dict) else values)))


def _mean_and_spread(values: list[float]) -> dict[str, Any]:
    spread = float(np.std(values, ddof=1)) if len(values) > 1 else None
    return {"mean": rounded(float(np.mean(values))), "sd": rounded(spread), "seeds": len(values)}


def as_text(rows: dict[str, dict[str, Any]]) -> str:
    """Show a table: a row per measure, the most invariant first."""
    columns = list(rows[INFODIST])
    in_order = sorted(rows.items(), key=lambda row: row[1]["mean"]["mean"] if row[1] else np.inf)
    lines = [(measure, *(shown(cells.get(name)) for name in columns)) for measure, cells in in_order]
    return text_table(("relative change", *columns), lines)


def shown(cell: dict[str, Any] | None) -> str:
    """Return mean ± standard deviation as text."""
    if cell is None:
        return "n/a"
    return f"{cell['mean']:.3f}" + ("" if cell["sd"] is None else f" ± {cell['sd']:.3f}")
