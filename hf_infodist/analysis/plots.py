"""Pictures of a matrix, as PNG and SVG: heat map, tree, map. The same bytes each time."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
from matplotlib import rc_context
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from hf_infodist.analysis.geometry import Distances, Geometry, Map, Tree
from hf_infodist.analysis.placing import place_names
from hf_infodist.results.pictures import (
    COLOURS,
    FONT,
    SETTINGS,
    add_footer,
    draw_matrix,
    inches,
    new_figure,
    save,
    shortened,
)

_FOOTNOTE_INCHES = 6.5  # that a footnote takes
_MARKERS = "os^DvPX*"


def draw_all(
    geometry: Geometry,
    nats: Distances,
    names: Sequence[str],
    folder: Path,
    *,
    groups: Sequence[str] | None = None,
    unit: str = "nats",
    footnote: str = "",
) -> list[Path]:
    """Write heat map, tree and maps of a matrix into a folder.

    Args:
        geometry: Of its distances.
        nats: Both directions, ``[n, n]``, teacher by student.
        names: Of the models.
        folder: Made if it is not there.
        groups: A family per model, shown by colour and marker.
        unit: Of the numbers.
        footnote: What is to be read below each picture.
    """
    order = geometry.tree.order
    look: dict[str, Any] = {"groups": groups, "unit": unit}
    figures = {"matrix": draw_matrix(nats, names, order, unit=unit), "tree": draw_tree(geometry.tree, names, **look)}
    figures["map2d"] = draw_map(geometry.plane, names, **look)
    if geometry.space is not None:
        figures["map3d"] = draw_map(geometry.space, names, **look)
    for figure in figures.values():
        add_footer(figure, footnote)
    return [path for name, figure in figures.items() for path in save(figure, folder / name)]


@rc_context(SETTINGS)
def draw_tree(tree: Tree, names: Sequence[str], *, groups: Sequence[str] | None = None, unit: str = "nats") -> Figure:
    """Draw how models join into groups, and how far apart these are."""
    from scipy.cluster.hierarchy import dendrogram

    n, labels = len(names), shortened(names)
    right, height = 0.3 + inches(labels), 1.1 + 0.24 * n
    width = max(4.5 + right, _FOOTNOTE_INCHES)
    figure = new_figure(width, height)
    axes = figure.add_axes(
        (0.2 / width, 0.75 / height, (width - 0.2 - right) / width, (height - 0.85 - _legend(groups)) / height)
    )
    drawn = dendrogram(tree.linkage, no_plot=True)
    for places, heights in zip(drawn["icoord"], drawn["dcoord"], strict=True):
        axes.plot(heights, places, color="#555555", linewidth=1.2)
    axes.set(xlim=(1.03 * tree.linkage[-1, 2], 0), ylim=(10 * n, 0))
    axes.set_xlabel(f"mean distance at which groups join, {unit}")
    axes.yaxis.tick_right()
    axes.set_yticks([10 * place + 5 for place in range(n)], [labels[i] for i in drawn["leaves"]], fontsize=FONT)
    axes.tick_params(axis="y", length=0, pad=8)
    axes.spines["left"].set_visible(False)
    for name, members, colour, marker in _families(groups, n):
        at = [10 * drawn["leaves"].index(i) + 5 for i in members]
        axes.plot([0] * len(at), at, marker, color=colour, label=name, clip_on=False, markersize=5)
    _add_legend(figure, groups)
    return figure


@rc_context(SETTINGS)
def draw_map(chart: Map, names: Sequence[str], *, groups: Sequence[str] | None = None, unit: str = "nats") -> Figure:
    """Draw models as points in a plane or in space; their names never overlap.

    A line leads from a name to its point where it lies farther off. In space each point stands on a stem, which tells
    its height.
    """
    flat = chart.points.shape[1] == 2
    across, up = np.ptp(chart.points, axis=0)[:2]
    width, height = 8.5, 8.5 * float(np.clip(up / max(across, up, 1e-9), 0.55, 0.85)) if flat else 7.0
    figure = new_figure(width, height)
    plane, space = (0.1, 0.65 / height, 0.86, 1 - 1.1 / height), (0, 0.03, 1, 0.92)
    axes: Any = figure.add_axes(plane if flat else space, projection=None if flat else "3d")
    points = chart.points
    for name, members, colour, marker in _families(groups, len(names)):
        axes.plot(*points[members].T, marker, color=colour, label=name, markersize=7, markeredgecolor="white")
    if flat:
        axes.set(xlabel=f"first axis, {unit}", ylabel=f"second axis, {unit}")
        axes.set_aspect("equal", adjustable="datalim")
        axes.margins(0.2)
    else:
        _stand_on_floor(axes, points)
        axes.set(xlabel=f"first axis, {unit}", ylabel="second axis", zlabel="third axis")
    _add_legend(figure, groups)
    figure.text(0.98, 0.015, _quality(chart), ha="right", va="bottom", fontsize=FONT, color="#555555")
    figure.draw_without_rendering()  # limits and projection are known from here on
    places, page = (points, axes.bbox) if flat else (_projected(axes, points), cast(Any, figure.bbox))
    place_names(axes, places, shortened(names), page)
    return figure


@rc_context(SETTINGS)
def draw_bars(
    title: str, values: Mapping[str, tuple[float, float]], *, unit: str = "nats", footnote: str = ""
) -> Figure:
    """Draw numbers with their standard errors, the first on top.

    Args:
        title: Of what.
        values: By name, a number and its standard error.
        unit: Of both.
        footnote: What is to be read below.
    """
    labels = shortened(list(values))
    left, height = 0.3 + inches(labels), 1.2 + 0.28 * len(values)
    width = max(left + 4.5, _FOOTNOTE_INCHES)
    figure = new_figure(width, height)
    axes = figure.add_axes((left / width, 0.75 / height, 1 - (left + 0.3) / width, (height - 1.15) / height))
    sizes, errors = zip(*values.values(), strict=True)
    axes.barh(range(len(values)), sizes, xerr=errors, color=COLOURS[0], ecolor="#555555", height=0.6)
    axes.set_yticks(range(len(values)), labels, fontsize=FONT)
    axes.set(ylim=(len(values) - 0.4, -0.6), xlim=(0, None), xlabel=unit)
    axes.set_title(title, fontsize=FONT + 1)
    axes.tick_params(axis="y", length=0)
    add_footer(figure, footnote)
    return figure


@rc_context(SETTINGS)
def draw_descent(parents: Mapping[str, tuple[str | None, str]], *, footnote: str = "") -> Figure:
    """Draw who is related to whom: a model below one of its kin and to the right of it.

    Args:
        parents: By name, the one above or None, and what is to be read on the line to it.
        footnote: What is to be read below.
    """
    places = {name: (depth, row) for row, (depth, name) in enumerate(_below(parents, None, 0))}
    labels, deepest = shortened(list(places)), max(depth for depth, _ in places.values())
    width, height = max(1.0 + 0.9 * deepest + inches(labels), _FOOTNOTE_INCHES), 0.9 + 0.3 * len(places)
    figure = new_figure(width, height)
    axes = figure.add_axes((0, 0.4 / height, 1, (height - 0.6) / height))
    axes.set(xlim=(-0.3, width / 0.9 - 0.3), ylim=(len(places) - 0.5, -0.5))
    axes.axis("off")
    for label, (name, (x, y)) in zip(labels, places.items(), strict=True):
        parent, told = parents[name]
        if parent is not None:
            left, top = places[parent]
            axes.plot([left, left, x], [top, y, y], color="#555555", linewidth=1.2, zorder=1)
            axes.text(left + 0.08, y - 0.05, told, fontsize=FONT - 1.5, va="bottom")
        axes.plot(x, y, "o", color=COLOURS[parent is not None], zorder=2)
        axes.text(x + 0.12, y, label, fontsize=FONT, va="center")
    add_footer(figure, footnote)
    return figure


def _below(parents: Mapping[str, tuple[str | None, str]], parent: str | None, depth: int) -> Iterator[tuple[int, str]]:
    """Yield each model with its depth, parents before their children."""
    for name in [name for name, (above, _) in parents.items() if above == parent]:
        yield depth, name
        yield from _below(parents, name, depth + 1)


def _quality(chart: Map) -> str:
    return f"Isomap of {chart.neighbours} neighbours, trustworthiness {chart.trustworthiness:.2f}"


def _stand_on_floor(axes: Any, points: Distances) -> None:
    """Draw stems, and give all three axes one scale; an axis of hardly any extent gets a fifth of the widest."""
    extent = np.ptp(points, axis=0)
    sides = 1.2 * np.maximum(extent, 0.2 * extent.max())
    middle = (points.min(0) + points.max(0)) / 2
    low, high = middle - sides / 2, middle + sides / 2
    for x, y, z in points:
        axes.plot([x, x], [y, y], [low[2], z], color="#bbbbbb", linewidth=0.8)
    axes.set(xlim=(low[0], high[0]), ylim=(low[1], high[1]), zlim=(low[2], high[2]))
    axes.set_box_aspect(sides, zoom=0.95)
    for axis, side in zip((axes.xaxis, axes.yaxis, axes.zaxis), sides, strict=True):
        axis.set_major_locator(MaxNLocator(max(2, round(6 * side / sides.max()))))
        axis.labelpad = 12
    axes.tick_params(labelsize=FONT - 1)


def _projected(axes: Any, points: Distances) -> Distances:
    """Return where points in space appear, in the two coordinates of the drawn axes."""
    from mpl_toolkits.mplot3d import proj3d

    x, y, _ = proj3d.proj_transform(*points.T, axes.get_proj())
    return np.stack([x, y], 1)


# What all figures share


def _families(groups: Sequence[str] | None, n: int) -> Iterator[tuple[str, list[int], str, str]]:
    """Yield name, members, colour and marker of each family; all models are one if there are none."""
    groups = groups or [""] * n
    for place, name in enumerate(dict.fromkeys(groups)):
        members = [i for i, group in enumerate(groups) if group == name]
        yield name, members, COLOURS[place % len(COLOURS)], _MARKERS[place % len(_MARKERS)]


def _legend(groups: Sequence[str] | None) -> float:
    """Return how many inches the legend of families takes."""
    return 0.3 if groups else 0.0


def _add_legend(figure: Figure, groups: Sequence[str] | None) -> None:
    if groups:
        figure.legend(loc="upper left", ncols=4, frameon=False, fontsize=FONT, handletextpad=0.2)
