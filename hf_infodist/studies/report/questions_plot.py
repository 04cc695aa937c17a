"""The picture of the study of questions: a row for each measure, a column for each question."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from hf_infodist.studies.measures.asked import FAMILIES

_KNOWN = 0.55  # from this share on cells are dark, and their numbers white


def draw(scores: Mapping[str, Mapping[str, float | None]], file: Path) -> None:
    """Draw every score as a cell; what does not apply stays empty.

    Args:
        scores: By question, then by measure.
        file: Of the picture.
    """
    measures = [name for names in FAMILIES.values() for name in names]
    table = np.array([[_value(row.get(name)) for row in scores.values()] for name in measures])
    figure = Figure(figsize=(0.62 * len(scores) + 3.2, 0.3 * len(measures) + 2.6), layout="constrained")
    axes = figure.subplots()
    axes.imshow(np.ma.masked_invalid(table), cmap="Blues", vmin=0, vmax=1.3, aspect="auto")
    for (row, column), value in np.ndenumerate(table):
        if np.isfinite(value):
            colour = "white" if value > _KNOWN else "black"
            axes.text(column, row, f"{value:.2f}", ha="center", va="center", fontsize=7, color=colour)
    axes.set_xticks(range(len(scores)), list(scores), rotation=40, ha="left", rotation_mode="anchor", fontsize=8)
    axes.set_yticks(range(len(measures)), measures, fontsize=8)
    axes.tick_params(top=True, labeltop=True, bottom=False, labelbottom=False, length=0)
    edges = np.cumsum([len(names) for names in FAMILIES.values()])[:-1]
    for edge in edges:
        axes.axhline(edge - 0.5, color="black", linewidth=0.8)
    figure.savefig(file, dpi=100, metadata={"Software": None})


def _value(value: float | None) -> float:
    return np.nan if value is None else value
