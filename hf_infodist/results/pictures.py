"""Pictures of a result, as PNG and SVG: curves and heat map. The same bytes each time."""

import base64
import html
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.textpath import TextPath
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from hf_infodist.protocol import CodingProtocol
from hf_infodist.results.records import ImagesRecord
from hf_infodist.results.words import Unit
from hf_infodist.table import short_names

Numbers = NDArray[np.float64]
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")  # Okabe & Ito 2008
FONT, _LONGEST = 8, 48  # points; characters of a name
_NUMBERED = 30  # models up to which the cells of a matrix carry their numbers
SETTINGS: dict[Any, Any] = {
    "font.size": FONT + 1,
    "svg.hashsalt": "infodist",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": False,
}


@rc_context(SETTINGS)
def save(figure: Figure, file: Path) -> list[Path]:
    """Write a figure as PNG and SVG beside one another; the suffix of ``file`` does not matter. Return both paths."""
    paths = [file.with_suffix(suffix) for suffix in (".png", ".svg")]
    file.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(paths[0], dpi=100, metadata={"Software": None})
    figure.savefig(paths[1], metadata={"Date": None, "Creator": None})
    return paths


def to_html(text: str, figure: Figure | None) -> str:
    """Return a text and a picture as HTML that needs no file beside it."""
    if figure is None:
        return f"<pre>{html.escape(text)}</pre>"
    content = io.BytesIO()
    figure.savefig(content, format="png", dpi=100)
    picture = base64.b64encode(content.getvalue()).decode()
    return f'<pre>{html.escape(text)}</pre><img alt="" src="data:image/png;base64,{picture}">'


@rc_context(SETTINGS)
def draw_curves(
    curves: Mapping[str, Sequence[tuple[int, float]]], footnote: str = "", unit: Unit = Unit.BITS
) -> Figure:
    """Draw what has been paid after so many images.

    Args:
        curves: By name, (images, cumulative nats).
        footnote: What is to be read below.
        unit: In which it is drawn.
    """
    figure = new_figure(7, 4.5)
    axes = figure.add_axes((0.1, 0.15, 0.87, 0.62))
    for (name, curve), colour, style in zip(curves.items(), COLOURS, ("-", "--", ":"), strict=False):
        images, nats = np.array([(0, 0.0), *curve]).T
        axes.plot(images, unit.of(nats), style, color=colour, label=name)
        axes.plot(images[-1], unit.of(nats)[-1], "o", color=colour)
    axes.set(xlabel="images", ylabel=f"codelength so far, {unit}", ylim=(0, None), xlim=(0, None))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    figure.legend(loc="upper left", frameon=False, fontsize=FONT)
    add_footer(figure, footnote)
    return figure


@rc_context(SETTINGS)
def draw_learning(prices: Mapping[str, Numbers], floor: float, footnote: str = "", unit: Unit = Unit.BITS) -> Figure:
    """Draw what a label costs after so many: the mean over the second half of the labels up to there.

    Args:
        prices: By name, of each label when it was new, ``[k]``, nats; the best first.
        floor: What a label costs without any image, nats.
        footnote: What is to be read below.
        unit: In which it is drawn.
    """
    figure = new_figure(8, 4.5)
    axes = figure.add_axes((0.09, 0.15, 0.55, 0.8))
    names = shortened(list(prices))
    for i, (name, nats) in enumerate(zip(names, prices.values(), strict=True)):
        ends, means = learning_curve(nats)
        style = ("-", "--", ":", "-.")[i // len(COLOURS) % 4]
        axes.plot(ends, unit.of(means), style, color=COLOURS[i % len(COLOURS)], label=name)
    axes.axhline(unit.of(floor), color="#999999", linestyle=(0, (1, 2)), label="without any image")
    axes.set(xlabel="labels", ylabel=f"{unit} per label, mean over the last half", xscale="log", ylim=(0, None))
    axes.set_xticks(ticks := [end for end in (10, 30, 100, 300, 1000, 3000, 10000) if ends[0] <= end <= ends[-1]])
    axes.set_xticklabels(list(map(str, ticks)))
    axes.minorticks_off()
    figure.legend(loc="upper left", bbox_to_anchor=(0.65, 0.96), frameon=False, fontsize=FONT)
    add_footer(figure, footnote)
    return figure


def learning_curve(nats: Numbers) -> tuple[NDArray[np.int64], Numbers]:
    """Return numbers of labels, and the mean price over the second half of the labels up to there.

    Args:
        nats: Price of each label when it was new, ``[k]``.
    """
    k = len(nats)
    ends = np.unique(np.geomspace(min(8, k), k, 60).round().astype(int))
    sums = np.concatenate([[0.0], np.cumsum(nats)])
    return ends, (sums[ends] - sums[ends // 2]) / (ends - ends // 2)


def footer(images: ImagesRecord, protocol: CodingProtocol | None) -> str:
    """Return what a picture has to say to be trusted: images, and protocol and version where something is learnt."""
    return f"{images}, protocol {protocol.name}, version {protocol.coding} of the number" if protocol else f"{images}"


def add_footer(figure: Figure, text: str) -> None:
    """Write a line below everything else."""
    figure.text(0.02, 0.015, text, ha="left", va="bottom", fontsize=FONT, color="#555555")


@rc_context(SETTINGS)
def draw_matrix(values: Numbers, names: Sequence[str], order: Sequence[int], *, unit: str = "nats") -> Figure:
    """Draw both directions of all pairs, in the order of a tree's leaves.

    Args:
        values: ``[n, n]``, teacher by student.
        names: Of the models.
        order: Of rows and columns.
        unit: Of the numbers.
    """
    n = len(names)
    told = shortened(names)
    labels = [f"{told[i]}  {place + 1}" for place, i in enumerate(order)]
    side, left = max(3.0, 0.36 * n), 0.3 + inches(labels)
    width, height = left + side + 1.1, side + 1.0
    figure = new_figure(width, height)
    axes = figure.add_axes((left / width, 0.35 / height, side / width, side / height))
    values = np.asarray(values)[np.ix_(order, order)]
    picture = axes.imshow(values, cmap="cividis_r", vmin=0)
    axes.set_yticks(range(n), labels, fontsize=FONT)
    axes.set_xticks(range(n), [str(place + 1) for place in range(n)], fontsize=FONT)
    axes.tick_params(length=0, top=False, labeltop=True, bottom=False, labelbottom=False)
    axes.spines[:].set_visible(False)
    title = f"{unit} to turn the column's model into the row's" if unit.startswith(tuple(Unit)) else unit
    axes.set_title(title, fontsize=FONT + 1, pad=8)
    if n <= _NUMBERED:
        _write_numbers(axes, values)
    bar = figure.add_axes(((left + side + 0.2) / width, 0.35 / height, 0.15 / width, side / height))
    figure.colorbar(picture, cax=bar, label=unit)
    return figure


def _write_numbers(axes: Axes, values: Numbers) -> None:
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
                fontsize=FONT - 1.5,
                color="white" if value > largest / 2 else "black",
            )


def new_figure(width: float, height: float) -> Figure:
    """Return a figure of its own, with no part in pyplot's state."""
    figure = Figure(figsize=(width, height))
    FigureCanvasAgg(figure)
    return figure


def shortened(names: Sequence[str]) -> list[str]:
    """Leave out the folder that names share, and the middle of very long ones: both ends tell models apart."""
    return [
        name if len(name) <= _LONGEST else f"{name[: _LONGEST // 3]}…{name[1 - _LONGEST * 2 // 3 :]}"
        for name in short_names(names)
    ]


def inches(labels: Sequence[str]) -> float:
    """Return the width of the longest label."""
    font = FontProperties(size=FONT)
    return max(TextPath((0, 0), label, prop=font).get_extents().width for label in labels) / 72
