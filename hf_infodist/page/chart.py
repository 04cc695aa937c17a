"""The map of a group of models, for a page of some width; names are placed as in the pictures that go to files."""

from collections.abc import Collection, Sequence
from typing import Any

import numpy as np
import plotly.graph_objects as go
from numpy.typing import NDArray

from hf_infodist.analysis.geometry import isomap
from hf_infodist.page.figures import BLUE, GREY, ORANGE, SMALL, as_text, empty, measured_on, short
from hf_infodist.page.matrices import Group

_HEIGHT, _SIDES, _TOP, _BOTTOM = 420, 20, 40, 108  # pixels
_POINT = SMALL / 8  # pixels of a point of matplotlib's, whose names are 8 points high
_USED = 0.62  # of the width and height, by the points; the rest is for names
_HOVER = "%{customdata[2]}<br>nearest: %{customdata[3]}, %{customdata[4]:.3g} bits per image<extra></extra>"
_NARROW, _WIDE = 280, 1000  # pixels a picture may have


def chart(found: Group, marked: Sequence[str] = (), width: float = _WIDE) -> go.Figure | None:
    """Draw the map of a group of models by Isomap; None for fewer than three. A point names its nearest, for a click.

    Args:
        found: The group; models with gaps are left out.
        marked: Names that stand out.
        width: Of the picture, in pixels.
    """
    found, width = found.without_gaps(), min(max(width, _NARROW), _WIDE)
    if len(found.models) < 3:
        return None
    bits = found.bits_per_image
    placed = isomap(bits)
    points, inner = placed.points, np.array([width - 2 * _SIDES, _HEIGHT - _TOP - _BOTTOM])
    scale = float((_USED * inner / np.maximum(np.ptp(points, axis=0), 1e-9)).min())  # pixels of a bit
    middle = (points.min(0) + points.max(0)) / 2
    low, high = middle - inner / scale / 2, middle + inner / scale / 2
    text = f"Map of {len(found.models)} models, near where their distance is small; all distances are listed below"
    figure = empty(
        _HEIGHT,
        (*measured_on(*found.settings), f"Isomap of {placed.neighbours} neighbours"),
        text,
        sides=_SIDES,
        top=_TOP,
    )
    figure.update_xaxes(visible=False, range=[low[0], high[0]])
    figure.update_yaxes(visible=False, range=[low[1], high[1]], scaleanchor="x", scaleratio=1)
    _add_points(figure, found, points, marked)
    for name in _names(points, [short(name) for name in found.models], (low, high), inner):
        figure.add_annotation(name)
    _add_scale(figure, float(inner[0]), scale)
    return figure


def _add_points(figure: go.Figure, found: Group, points: NDArray[np.float64], marked: Sequence[str]) -> None:
    bits = found.bits_per_image
    order = np.argsort(bits + np.diag(np.full(len(bits), np.inf)), axis=1)
    nearest = [(found.models[row[0]], bits[i, row[0]]) for i, row in enumerate(order)]
    figure.add_scatter(
        x=points[:, 0],
        y=points[:, 1],
        mode="markers",
        customdata=[
            [name, near, as_text(name), as_text(near), distance]
            for name, (near, distance) in zip(found.models, nearest, strict=True)
        ],
        meta=found.settings,
        cliponaxis=False,
        marker=markers(found.models, marked),
        hovertemplate=_HOVER,
    )


def markers(names: Sequence[str], marked: Collection[str]) -> dict[str, Any]:
    """Return points, of which some stand out by colour and by shape."""
    return {
        "size": 13,
        "color": [ORANGE if name in marked else BLUE for name in names],
        "symbol": ["diamond" if name in marked else "circle" for name in names],
    }


def _names(
    points: NDArray[np.float64], names: Sequence[str], box: Any, inner: NDArray[np.float64]
) -> list[dict[str, Any]]:
    """Return the names, and lines to those that are away from their points, as plotly's annotations."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    from hf_infodist.analysis.placing import place_names

    dots = 72 * _POINT  # an inch
    figure = Figure(figsize=tuple(inner / dots), dpi=dots)
    FigureCanvasAgg(figure)
    axes = figure.add_axes(
        (0, 0, 1, 1), xlim=(box[0][0], box[1][0]), ylim=(box[0][1], box[1][1]), xticks=[], yticks=[]
    )
    figure.draw_without_rendering()
    place_names(axes, points, names, axes.bbox)
    return [_annotation(text) for text in axes.texts]


def _annotation(text: Any) -> dict[str, Any]:
    x, y = text.xy
    right, up = (float(_POINT * points) for points in text.get_position())
    if not text.get_text():  # a line
        return {
            "x": x,
            "y": y,
            "ax": right,
            "ay": -up,
            "text": "",
            "arrowhead": 0,
            "arrowwidth": 1,
            "arrowcolor": GREY,
        }
    words = {"text": text.get_text(), "showarrow": False, "font": {"size": SMALL}}
    return words | {"x": x, "y": y, "xshift": right, "yshift": up, "xanchor": "left", "yanchor": "bottom"}


def _add_scale(figure: go.Figure, pixels: float, scale: float) -> None:
    """Add a bar of a round length, about a fifth as wide as the picture."""
    bits = _round(pixels / scale / 5)
    share, line = bits * scale / pixels, {"color": "rgb(128,128,128)", "width": 3}
    here: dict[str, Any] = {"xref": "paper", "yref": "paper"}
    figure.add_shape(type="line", x0=0, x1=share, y0=-0.08, y1=-0.08, line=line, **here)
    text = f"{bits:g} bits per image"
    figure.add_annotation(
        text=text, x=share, y=-0.08, xshift=8, xanchor="left", yanchor="middle", showarrow=False, **here
    )


def _round(value: float) -> float:
    """Return 1, 2 or 5 times a power of ten, no larger than a value."""
    power = 10.0 ** np.floor(np.log10(max(value, 1e-9)))
    return float(max(step * power for step in (1, 2, 5) if step * power <= value * (1 + 1e-9)))
