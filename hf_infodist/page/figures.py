"""What the page draws, with plotly: codelength curves, the matrix, the map."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import plotly.graph_objects as go

from hf_infodist.analysis.geometry import isomap
from hf_infodist.page.matrices import Group

BLUE, ORANGE = "#0072B2", "#D55E00"  # told apart by the colour-blind too
_GREY = "rgba(128,128,128,0.35)"
_LONG = 24  # characters of a name in a picture; hovering shows all


def curves(points: Mapping[str, Sequence[tuple[int, float]]], a: str, b: str, k: int) -> go.Figure:
    """Draw what each direction has cost so far.

    Args:
        points: (images, cumulative nats) by direction.
        a: Name of the first model.
        b: Name of the second.
        k: Images in all.
    """
    figure = _figure(320)
    for direction, name, colour, dash in (
        ("a_given_b", f"{short(a)} given {short(b)}", BLUE, "solid"),
        ("b_given_a", f"{short(b)} given {short(a)}", ORANGE, "dash"),
    ):
        xs, ys = zip(*[(0, 0.0), *points.get(direction, ())], strict=True)
        hover = "%{x} images: %{y:.1f} nats<extra></extra>"
        line = {"color": colour, "dash": dash, "width": 2.5}
        figure.add_scatter(x=xs, y=ys, name=name, mode="lines+markers", line=line, hovertemplate=hover)
    figure.update_xaxes(title="images priced", range=[0, k * 1.02])
    figure.update_yaxes(title="nats so far", rangemode="tozero")
    figure.update_layout(legend={"orientation": "h", "y": -0.3, "yanchor": "top", "x": 0})
    return figure


def matrix(found: Group) -> go.Figure:
    """Draw all distances of a group of models; a cell names its pair, for a click."""
    bits, names = found.bits_per_image, [short(name) for name in found.models]
    n = len(names)
    pairs = [[[found.models[i], found.models[j]] for j in range(n)] for i in range(n)]
    figure = _figure(max(320, 60 + 44 * n))
    figure.add_heatmap(
        z=bits,
        x=list(range(n)),
        y=list(range(n)),
        customdata=pairs,
        meta=found.settings,
        text=[[f"{v:.2f}" if np.isfinite(v) else "" for v in row] for row in bits] if n <= 12 else None,
        texttemplate="%{text}" if n <= 12 else None,
        colorscale="Cividis",
        reversescale=True,
        hovertemplate="%{customdata[0]}<br>%{customdata[1]}<br>%{z:.3g} bits per image<extra></extra>",
        colorbar={"title": {"text": "bits per image", "side": "right"}, "thickness": 12},
    )
    ticks = {"tickvals": list(range(n)), "ticktext": names, "automargin": True}
    figure.update_xaxes(**ticks, tickangle=-40, showgrid=False, constrain="domain")
    figure.update_yaxes(**ticks, autorange="reversed", showgrid=False)
    return figure


def chart(found: Group, marked: Sequence[str] = ()) -> go.Figure | None:
    """Draw the map of a group of models by Isomap; None for fewer than three. A point names its nearest, for a click.

    Args:
        found: The group; models with gaps are left out.
        marked: Names that stand out.
    """
    found = found.without_gaps()
    if len(found.models) < 3:
        return None
    bits = found.bits_per_image
    points = isomap(bits).points
    order = np.argsort(bits + np.diag(np.full(len(bits), np.inf)), axis=1)
    nearest = [(found.models[row[0]], bits[i, row[0]]) for i, row in enumerate(order)]
    custom = [[name, *near] for name, near in zip(found.models, nearest, strict=True)]
    hover = "%{customdata[0]}<br>nearest: %{customdata[1]}, %{customdata[2]:.3g} bits per image<extra></extra>"
    figure = _figure(380)
    figure.add_scatter(
        x=points[:, 0],
        y=points[:, 1],
        mode="markers+text",
        text=[short(name) for name in found.models],
        textposition=_places(points),
        customdata=custom,
        meta=found.settings,
        cliponaxis=False,
        marker={
            "size": 13,
            "color": [ORANGE if name in marked else BLUE for name in found.models],
            "symbol": ["diamond" if name in marked else "circle" for name in found.models],
        },
        hovertemplate=hover,
    )
    least, most = float(points[:, 0].min()), float(points[:, 0].max())
    margin = 0.35 * ((most - least) or 1.0)  # for names
    figure.update_xaxes(title="bits per image", range=[least - margin, most + margin])
    figure.update_yaxes(scaleanchor="x", scaleratio=1)
    return figure


def short(name: str) -> str:
    """Return a name that fits beside a point."""
    name = name.rpartition("/")[2] or name
    return name if len(name) <= _LONG else f"{name[: _LONG - 1]}…"


def _places(points: Any) -> list[str]:
    """Put each name above or below its point, away from the nearest other one."""
    apart = np.hypot(*(points[:, None] - points).T)
    np.fill_diagonal(apart, np.inf)
    nearest = apart.argmin(1)
    higher = [(points[i, 1], j) > (points[j, 1], i) for i, j in enumerate(nearest)]  # of two in one place, the first
    return ["top center" if above else "bottom center" for above in higher]


def _figure(height: int) -> go.Figure:
    """Return an empty figure without a background: the page's shows, light or dark."""
    figure = go.Figure()
    clear = {"paper_bgcolor": "rgba(0,0,0,0)", "plot_bgcolor": "rgba(0,0,0,0)"}
    figure.update_layout(**clear, height=height, margin={"l": 60, "r": 20, "t": 44, "b": 50}, autosize=True)
    figure.update_xaxes(gridcolor=_GREY, zerolinecolor=_GREY, fixedrange=True)
    figure.update_yaxes(gridcolor=_GREY, zerolinecolor=_GREY, fixedrange=True)
    return figure
