"""By how much measures change when a network is re-parameterised: the arithmetic of table 1."""

from typing import Any

import numpy as np

from hf_infodist.studies._compare import INFODIST, MEASURES, SIMILARITIES, rounded

SCENARIOS = (
    "scaling",
    "neuron swapping",
    "perturbation",
    "adversarial perturbation",
    "initialisation",
    "architecture",
)


def ratio(row: dict[str, Any], unmodified: dict[str, Any], measure: str, *, as_distance: bool = False) -> float:
    """Return what a measure says of a pair, over what it says of the unmodified one; NaN where it says nothing."""
    value, before = row["values"][measure], unmodified["values"][measure]
    if value is None or before is None:
        return np.nan
    return (1 - value) / (1 - before) if as_distance and measure in SIMILARITIES else value / before


def relative_changes(run: dict[str, Any], measure: str, *, as_distance: bool = False) -> dict[str, float]:
    """Return |m(c) − m| / |m|, averaged over coefficients, by scenario; where a measure does not apply there is none.

    Args:
        run: One seed: ``rows`` of scenario and values, the unmodified pair first.
        measure: Which.
        as_distance: Whether to take 1 less the value of a similarity.
    """
    changes: dict[str, list[float]] = {}
    for row in run["rows"][1:]:
        changes.setdefault(row["scenario"], []).append(
            abs(ratio(row, run["rows"][0], measure, as_distance=as_distance) - 1)
        )
    means = {scenario: float(np.mean(values)) for scenario, values in changes.items()}
    return {scenario: mean for scenario, mean in means.items() if np.isfinite(mean)}


def table(runs: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Return mean and standard deviation over seeds of the relative change, by measure and scenario.

    The column ``mean`` is over the scenarios in which the measure applies, as in the paper; ``mean as distance`` is
    the same with 1 less the value of a similarity.
    """
    rows = {}
    for measure in MEASURES:
        seeds = [relative_changes(run, measure) for run in runs]
        cells = {scenario: [one[scenario] for one in seeds] for scenario in SCENARIOS if scenario in seeds[0]}
        if cells:
            cells["mean"] = [float(np.mean(list(one.values()))) for one in seeds]
            distances = [relative_changes(run, measure, as_distance=True) for run in runs]
            cells["mean as distance"] = [float(np.mean(list(one.values()))) for one in distances]
        rows[measure] = {name: _mean_and_spread(values) for name, values in cells.items()}
    return rows


def _mean_and_spread(values: list[float]) -> dict[str, Any]:
    spread = float(np.std(values, ddof=1)) if len(values) > 1 else None
    return {"mean": rounded(float(np.mean(values))), "sd": rounded(spread), "seeds": len(values)}


def as_text(rows: dict[str, dict[str, Any]]) -> str:
    """Show a table: a row per measure, the most invariant first."""
    columns = list(rows[INFODIST])
    lines = [f"{'relative change':<36}" + "".join(f"{name[:16]:>18}" for name in columns)]
    for measure, cells in sorted(rows.items(), key=lambda row: row[1]["mean"]["mean"] if row[1] else np.inf):
        texts = [shown(cells.get(name)) for name in columns]
        lines.append(f"{measure:<36}" + "".join(f"{text:>18}" for text in texts))
    return "\n".join(lines)


def shown(cell: dict[str, Any] | None) -> str:
    """Return mean ± standard deviation as text."""
    if cell is None:
        return "n/a"
    return f"{cell['mean']:.3f}" + ("" if cell["sd"] is None else f" ± {cell['sd']:.3f}")
