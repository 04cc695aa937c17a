"""Pictures of a result or a matrix, as PNG and SVG: curves, heat map, tree, map. The same bytes each time."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.textpath import TextPath
from matplotlib.ticker import MaxNLocator

from hf_infodist.analysis.geometry import Distances, Geometry, Map, Tree
from hf_infodist.analysis.placing import NAME_POINTS, place_names
from hf_infodist.results.codelength import to_bits
from hf_infodist.results.distance import InformationDistance

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")  # Okabe & Ito 2008
_MARKERS = "os^DvPX*"
_FONT, _LONGEST = NAME_POINTS, 48  # points; characters of a name
_NUMBERED = 30  # models up to which the cells of a matrix carry their numbers
_SETTINGS: dict[Any, Any] = {
    "font.size": _FONT + 1,
    "svg.hashsalt": "infodist",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": False,
}


@rc_context(_SETTINGS)
def save(figure: Figure, file: Path) -> list[Path]:
    """Write a figure as PNG and SVG beside one another; the suffix of ``file`` does not matter. Return both paths."""
    paths = [file.with_suffix(suffix) for suffix in (".png", ".svg")]
    file.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(paths[0], dpi=100, metadata={"Software": None})
    figure.savefig(paths[1], metadata={"Date": None, "Creator": None})
    return paths


def draw_all(
    geometry: Geometry,
    nats: Distances,
    names: Sequence[str],
    folder: Path,
    *,
    groups: Sequence[str] | None = None,
    unit: str = "nats",
) -> list[Path]:
    """Write heat map, tree and maps of a matrix into a folder.

    Args:
        geometry: Of its distances.
        nats: Both directions, ``[n, n]``, teacher by student.
        names: Of the models.
        folder: Made if it is not there.
        groups: A family per model, shown by colour and marker.
        unit: Of the numbers.
    """
    paths = save(draw_matrix(nats, names, geometry.tree.order, unit=unit), folder / "matrix")
    paths += save(draw_tree(geometry.tree, names, groups=groups, unit=unit), folder / "tree")
    paths += save(draw_map(geometry.plane, names, groups=groups, unit=unit), folder / "map2d")
    if geometry.space is not None:
        paths += save(draw_map(geometry.space, names, groups=groups, unit=unit), folder / "map3d")
    return paths


@rc_context(_SETTINGS)
def draw_curves(result: InformationDistance) -> Figure:
    """Draw what both directions have cost after so many images, in nats and in bits."""
    figure = _figure(7, 4.5)
    axes = figure.add_axes((0.1, 0.11, 0.8, 0.66))
    a, b = _short(result.model_a.id), _short(result.model_b.id)
    for code, name, colour, style in (
        (result.a_given_b, f"{a}\n given {b}", COLOURS[0], "-"),
        (result.b_given_a, f"{b}\n given {a}", COLOURS[1], "--"),
    ):
        images, nats = np.array([(0, 0.0), *code.curve()]).T
        axes.plot(images, nats, style, color=colour, label=f"{name}: {nats[-1]:.1f} nats")
        axes.plot(images[-1], nats[-1], "o", color=colour)
    axes.set(xlabel="images", ylabel="codelength so far, nats", ylim=(0, None), xlim=(0, None))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    bits = axes.secondary_yaxis("right", functions=(to_bits, lambda bits: bits / to_bits(1.0)))
    bits.set_ylabel("bits")
    figure.legend(loc="upper left", frameon=False, fontsize=_FONT)
    return figure


@rc_context(_SETTINGS)
def draw_matrix(nats: Distances, names: Sequence[str], order: Sequence[int], *, unit: str = "nats") -> Figure:
    """Draw both directions of all pairs, in the order of a tree's leaves.

    Args:
        nats: ``[n, n]``, teacher by student.
        names: Of the models.
        order: Of rows and columns.
        unit: Of the numbers.
    """
    n = len(names)
    labels = [f"{_short(names[i])}  {place + 1}" for place, i in enumerate(order)]
    side, left = max(3.0, 0.36 * n), 0.3 + _inches(labels)
    width, height = left + side + 1.1, side + 1.0
    figure = _figure(width, height)
    axes = figure.add_axes((left / width, 0.35 / height, side / width, side / height))
    values = np.asarray(nats)[np.ix_(order, order)]
    picture = axes.imshow(values, cmap="cividis_r", vmin=0)
    axes.set_yticks(range(n), labels, fontsize=_FONT)
    axes.set_xticks(range(n), [str(place + 1) for place in range(n)], fontsize=_FONT)
    axes.tick_params(length=0, top=False, labeltop=True, bottom=False, labelbottom=False)
    axes.spines[:].set_visible(False)
    title = "nats to make the column's model into the row's" if unit == "nats" else unit
    axes.set_title(title, fontsize=_FONT + 1, pad=8)
    if n <= _NUMBERED:
        _write_numbers(axes, values)
    bar = figure.add_axes(((left + side + 0.2) / width, 0.35 / height, 0.15 / width, side / height))
    figure.colorbar(picture, cax=bar, label=unit)
    return figure


def _write_numbers(axes: Axes, values: Distances) -> None:
    """Write each number into its cell, light on dark and dark on light."""
    largest = np.nanmax(values)
    for (row, column), value in np.ndenumerate(values):
        if row != column:
            text = f"{value:.0f}" if largest >= 10 else f"{value:.2f}".removeprefix("0")
            axes.text(
                column,
                row,
                text if np.isfinite(value) else "–",
                ha="center",
                va="center",
                fontsize=_FONT - 1.5,
                color="white" if value > largest / 2 else "black",
            )


@rc_context(_SETTINGS)
def draw_tree(tree: Tree, names: Sequence[str], *, groups: Sequence[str] | None = None, unit: str = "nats") -> Figure:
    """Draw how models join into groups, and how far apart these are."""
    from scipy.cluster.hierarchy import dendrogram

    n, labels = len(names), [_short(name) for name in names]
    right, height = 0.3 + _inches(labels), 0.9 + 0.24 * n
    width = 4.5 + right
    figure = _figure(width, height)
    axes = figure.add_axes(
        (0.2 / width, 0.55 / height, (width - 0.2 - right) / width, (height - 0.65 - _legend(groups)) / height)
    )
    drawn = dendrogram(tree.linkage, no_plot=True)
    for places, heights in zip(drawn["icoord"], drawn["dcoord"], strict=True):
        axes.plot(heights, places, color="#555555", linewidth=1.2)
    axes.set(xlim=(1.03 * tree.linkage[-1, 2], 0), ylim=(10 * n, 0))
    axes.set_xlabel(f"mean distance at which groups join, {unit}")
    axes.yaxis.tick_right()
    axes.set_yticks([10 * place + 5 for place in range(n)], [labels[i] for i in drawn["leaves"]], fontsize=_FONT)
    axes.tick_params(axis="y", length=0, pad=8)
    axes.spines["left"].set_visible(False)
    for name, members, colour, marker in _families(groups, n):
        at = [10 * drawn["leaves"].index(i) + 5 for i in members]
        axes.plot([0] * len(at), at, marker, color=colour, label=name, clip_on=False, markersize=5)
    _add_legend(figure, groups)
    return figure


@rc_context(_SETTINGS)
def draw_map(chart: Map, names: Sequence[str], *, groups: Sequence[str] | None = None, unit: str = "nats") -> Figure:
    """Draw models as points in a plane or in space; their names never overlap.

    A line leads from a name to its point where it lies farther off. In space each point stands on a stem, which tells
    its height.
    """
    flat = chart.points.shape[1] == 2
    across, up = np.ptp(chart.points, axis=0)[:2]
    width, height = 8.5, 8.5 * float(np.clip(up / max(across, up, 1e-9), 0.55, 0.85)) if flat else 7.0
    figure = _figure(width, height)
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
        axes.set(xlabel=f"first axis, {unit}", ylabel=f"second axis, {unit}", zlabel=f"third axis, {unit}")
    _add_legend(figure, groups)
    figure.text(0.98, 0.015, _quality(chart), ha="right", va="bottom", fontsize=_FONT, color="#555555")
    figure.draw_without_rendering()  # limits and projection are known from here on
    places, page = (points, axes.bbox) if flat else (_projected(axes, points), cast(Any, figure.bbox))
    place_names(axes, places, [_short(name) for name in names], page)
    return figure


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
    axes.tick_params(labelsize=_FONT - 1)


def _projected(axes: Any, points: Distances) -> Distances:
    """Return where points in space appear, in the two coordinates of the drawn axes."""
    from mpl_toolkits.mplot3d import proj3d

    x, y, _ = proj3d.proj_transform(*points.T, axes.get_proj())
    return np.stack([x, y], 1)


# What all figures share


def _figure(width: float, height: float) -> Figure:
    """Return a figure of its own, with no part in pyplot's state."""
    figure = Figure(figsize=(width, height))
    FigureCanvasAgg(figure)
    return figure


def _short(name: str) -> str:
    """Leave out the middle of a very long name; both its beginning and its end tell models apart."""
    return name if len(name) <= _LONGEST else f"{name[: _LONGEST // 3]}…{name[1 - _LONGEST * 2 // 3 :]}"


def _inches(labels: Sequence[str]) -> float:
    """Return the width of the longest label."""
    font = FontProperties(size=_FONT)
    return max(TextPath((0, 0), label, prop=font).get_extents().width for label in labels) / 72


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
        figure.legend(loc="upper left", ncols=4, frameon=False, fontsize=_FONT, handletextpad=0.2)
