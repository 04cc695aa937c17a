"""The picture of ReSi's tests: a panel for each, a line for each measure."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes

from hf_infodist.studies.measures.known import CONFORMITY, Column
from hf_infodist.studies.measures.populations import DISTANCE, TRUTHS
from hf_infodist.studies.report.output import new_figure, save


def draw(columns: Sequence[Column], output: Path) -> None:
    """Draw scores with their intervals as ``resi.png``; dashed is what a measure has that knows nothing."""
    shown = [column for column in columns if not column.name.endswith(CONFORMITY)]
    names = list(reversed(shown[0].score))
    figure = new_figure(13.5, 1.2 + 0.22 * len(names))
    for place, (axes, column) in enumerate(zip(np.ravel(figure.subplots(1, len(shown))), shown, strict=True)):
        _panel(axes, column, names)
        axes.set_yticks(range(len(names)), names if place == 0 else [""] * len(names), fontsize=8)
    save(figure, output, "resi")


def _panel(axes: Axes, column: Column, names: Sequence[str]) -> None:
    axes.axvline(column.chance, color="#888888", linewidth=0.8, linestyle="--", zorder=0)
    for row, name in enumerate(names):
        one, colour = column.score[name], "tab:red" if name == DISTANCE else "tab:grey"
        if np.isfinite(one.value):
            axes.plot([one.low, one.high], [row, row], color=colour)
            axes.plot(one.value, row, "o", color=colour, markersize=4)
        for value in column.by_architecture[name]:
            axes.plot(value, row, "|", color=colour, markersize=6)
    title = f"seeds: {column.name}" if column.name in TRUTHS else column.name
    axes.set_title(title, fontsize=9)
    axes.set_xlabel(column.criterion, fontsize=9)
    axes.set_xlim(right=1.03)
