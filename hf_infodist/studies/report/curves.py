"""Curves of many measures over a few places: a panel per scenario, a row per kind of measure, names with numbers."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray

from hf_infodist.results.pictures import COLOURS
from hf_infodist.studies.measures.compare import INFODIST, SPACES

PAPER = (INFODIST, "parameter/EMD", "representation/EMD", "representation/linear CKA", "output/KL(A‖B)")
"""The measures that figures 2 and 3 of the paper show."""

_ROWS = {space: (INFODIST, *names) for space, names in SPACES.items()}
_STYLES = (("-", "o"), ("--", "s"), (":", "^"))
_OTHERS = COLOURS[:6]  # the last one, black, is that of the information distance
_FONT, _SIDE, _GAP = 8.5, 1.75, 0.4  # points; inches of a panel, between two
_LEFT, _ABOVE, _BELOW, _NAMES, _CHARACTER = 0.75, 0.25, 0.5, 1.9, 0.085  # inches


@dataclass(frozen=True, eq=False)
class Panel:
    """One scenario.

    Attributes:
        title: Its name.
        xlabel: What the places are.
        places: Their names, in order.
        curves: ``[seeds, places]`` by measure; NaN where it does not apply.
    """

    title: str
    xlabel: str
    places: tuple[str, ...]
    curves: Mapping[str, NDArray[np.float64]]


def draw_grid(
    panels: Sequence[Panel],
    numbers: Mapping[str, Sequence[str]],
    columns: Sequence[str],
    *,
    ylabel: str,
    top: float,
    rows: Mapping[str, Sequence[str]] | None = None,
) -> Figure:
    """Draw a row per kind of measure and a column per scenario: means over seeds, and a bar of one deviation each way.

    Args:
        panels: The scenarios.
        numbers: A few texts by measure, shown beside its name.
        columns: What these are.
        ylabel: What is drawn.
        top: Where the panels end; what lies outside is a mark at the edge, and bars of half a panel are left out.
        rows: Measures by the name of their row; all measures by what they look at if None.
    """
    rows = rows or _ROWS
    number = _CHARACTER * max([7, *(len(text) for texts in numbers.values() for text in texts)])
    aside = _NAMES + number * len(columns)
    width = _LEFT + (_SIDE + _GAP) * len(panels) + aside
    height = _ABOVE + (_SIDE + _GAP) * len(rows) + _BELOW
    with rc_context({"font.size": _FONT, "axes.spines.top": False, "axes.spines.right": False}):
        figure = Figure(figsize=(width, height))
        FigureCanvasAgg(figure)
        for line, (row, measures) in enumerate(rows.items()):
            bottom = (_BELOW + _GAP / 2 + (_SIDE + _GAP) * (len(rows) - 1 - line)) / height
            for place, panel in enumerate(panels):
                left = (_LEFT + (_SIDE + _GAP) * place) / width
                axes = figure.add_axes((left, bottom, _SIDE / width, _SIDE / height))
                _draw(axes, panel, measures, top)
                axes.set_title("" if line else panel.title, fontsize=_FONT)
                axes.tick_params(labelbottom=line == len(rows) - 1)
                axes.set_xlabel(panel.xlabel if line == len(rows) - 1 else "")
                axes.set_ylabel("" if place else f"{row}\n{ylabel}".strip())
            rest = (1 - aside / width, bottom, (aside - 0.1) / width, _SIDE / height)
            _write_names(figure.add_axes(rest), measures, numbers, columns, number)
    return figure


def save(figure: Figure, file: Path) -> None:
    """Write a figure as PNG."""
    file.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(file.with_suffix(".png"), dpi=100, metadata={"Software": None})


def _draw(axes: Axes, panel: Panel, measures: Sequence[str], top: float) -> None:
    x = np.arange(len(panel.places))
    for measure in reversed(measures):  # the information distance on top
        look = _look(measure, measures)
        values = panel.curves[measure]
        mean, spread = values.mean(0), values.std(0, ddof=min(1, len(values) - 1))
        spread[spread > top / 2] = np.nan
        axes.errorbar(x, mean, spread, **look, capsize=1.5, elinewidth=0.6)
        for outside, marker, edge in ((mean > top, "^", top * 0.985), (mean < 0, "v", top * 0.015)):
            axes.plot(
                x[outside], np.full(outside.sum(), edge), marker, color=look["color"], markersize=6, clip_on=False
            )
    axes.set(ylim=(0, top), xlim=(-0.3, len(x) - 0.7))
    axes.set_xticks(x, panel.places, fontsize=_FONT - 1.5, rotation=30 if max(map(len, panel.places)) > 5 else 0)
    axes.tick_params(axis="y", labelsize=_FONT - 1.5)


def _look(measure: str, measures: Sequence[str]) -> dict[str, Any]:
    """Return colour, line and marker of a measure, the same in all panels of its row."""
    if measure == INFODIST:
        return {"color": "black", "linestyle": "-", "marker": "o", "linewidth": 2.2, "markersize": 4}
    place = [name for name in measures if name != INFODIST].index(measure)
    line, marker = _STYLES[place // len(_OTHERS)]
    return {
        "color": _OTHERS[place % len(_OTHERS)],
        "linestyle": line,
        "marker": marker,
        "linewidth": 1.1,
        "markersize": 3,
    }


def _write_names(
    axes: Axes, measures: Sequence[str], numbers: Mapping[str, Sequence[str]], columns: Sequence[str], number: float
) -> None:
    """Write what the lines are, with numbers in columns."""
    inches = _NAMES + number * len(columns)
    axes.set(xlim=(0, inches), ylim=(len(measures) - 0.3, -0.7))
    axes.set_axis_off()
    ends = [inches - number * place for place in reversed(range(len(columns)))]
    for end, column in zip(ends, columns, strict=True):
        axes.text(end, -0.8, column, ha="right", va="bottom", fontsize=_FONT - 1, color="#555555")
    for place, measure in enumerate(measures):
        axes.plot([0, 0.25], [place, place], **_look(measure, measures), clip_on=False)
        space, _, name = measure.rpartition("/")
        shared = sum(other.endswith(f"/{name}") for other in measures) > 1
        axes.text(0.4, place, f"{name}, {space}" if shared else name, va="center")
        for end, text in zip(ends, numbers.get(measure, ()), strict=False):
            axes.text(end, place, text, ha="right", va="center")
