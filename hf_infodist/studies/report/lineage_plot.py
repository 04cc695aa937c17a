"""The picture of the study of lineage: scores of all measures, and both directions of each edge."""

from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter

from hf_infodist.results.pictures import COLOURS

_MARKERS = "osD^v"
_SCORES = {"parent": "parent, first guess", "same tree": "triplets, same tree", "one step": "triplets, one step",
           "tree": "tree, rank correlation"}  # fmt: skip


def draw(figures: dict[str, Any], file: Path) -> None:
    """Draw what `studies.lineage` has found as PNG: a row for each sample of pictures."""
    samples = figures["samples"]
    measures = len(next(iter(samples.values()))["summary"])
    figure = Figure(figsize=(11.5, len(samples) * (1.6 + 0.2 * measures)), layout="constrained")
    rows = figure.subplots(len(samples), 2, width_ratios=(1.45, 1), squeeze=False)
    for (left, right), found in zip(rows, samples.values(), strict=True):
        _draw_scores(left, found["summary"])
        _draw_directions(right, figures["births"], found["forests"])
        left.set_title(found["images"]["id"], loc="left", fontsize=11, x=-0.45)
        for axes in (left, right):
            axes.spines[["top", "right"]].set_visible(False)
    for axes in rows[0]:
        axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1.02), ncols=3, frameon=False, fontsize=9)
    figure.savefig(file, dpi=100, metadata={"Software": None})


def _draw_scores(axes: Axes, summary: dict[str, dict[str, Any]]) -> None:
    """Draw a line of marks for each measure, the best on top; bars are 95 % intervals of the first guess."""
    names = sorted(
        summary, key=lambda name: (summary[name]["parent"]["share"], summary[name]["one step"]["mean"] or 0)
    )
    rows = np.arange(len(names))
    for place, (score, label) in enumerate(_SCORES.items()):
        values = [summary[name][score]["share" if score == "parent" else "mean"] for name in names]
        known = [(value, row) for value, row in zip(values, rows, strict=True) if value is not None]
        x, y = np.array(known).T
        axes.plot(x, y, _MARKERS[place], color=COLOURS[place], label=label, markersize=6, markeredgecolor="white")
    low, high = np.array([summary[name]["parent"]["interval"] for name in names]).T
    axes.hlines(rows, low, high, color=COLOURS[0], linewidth=1.2, alpha=0.5)
    axes.set_yticks(rows, names, fontsize=9)
    axes.set(xlim=(min(-0.02, axes.get_xlim()[0]), 1.02), xlabel="share right, or rank correlation")
    axes.grid(axis="x", color="#dddddd", linewidth=0.6)
    axes.set_axisbelow(True)
    for tick in axes.get_yticklabels():
        tick.set_fontweight("bold" if "/" not in tick.get_text() else "normal")  # this package's


def _draw_directions(axes: Axes, births: list[dict[str, Any]], forests: list[dict[str, Any]]) -> None:
    """Draw each edge by what it costs down and up; above the diagonal the child given its parent is the cheaper."""
    place = {birth["name"]: i for i, birth in enumerate(births)}
    hows = [how for how in dict.fromkeys(birth["how"] for birth in births) if how not in ("root", "neurons", "labels")]
    for number, how in enumerate(hows):
        edges = [(i, place[birth["parent"]]) for i, birth in enumerate(births) if birth["how"] == how]
        nats = [(one["nats"][i][j], one["nats"][j][i]) for one in forests for i, j in edges]
        axes.plot(*np.array(nats).T, _MARKERS[number], color=COLOURS[number], label=how, markeredgecolor="white")
    axes.set(xscale="log", yscale="log")
    ends = [min(axes.get_xlim()[0], axes.get_ylim()[0]), max(axes.get_xlim()[1], axes.get_ylim()[1])]
    axes.plot(ends, ends, color="#888888", linewidth=0.8, zorder=0)
    axes.set(xlim=ends, ylim=ends, xlabel="L'(child | parent), nats", ylabel="L'(parent | child), nats")
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(LogLocator(subs=(1, 3)))
        axis.set_major_formatter("{x:g}")
        axis.set_minor_formatter(NullFormatter())
