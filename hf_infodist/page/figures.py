"""What the page draws with plotly, beside the map: codelength curves, the matrix, the tree."""

import html
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import plotly.graph_objects as go

from hf_infodist.analysis.geometry import dendrogram
from hf_infodist.environment import installed
from hf_infodist.page.matrices import Group
from hf_infodist.page.request import Comparison
from hf_infodist.protocol import LABEL_PROTOCOLS, PROTOCOLS, CodingProtocol
from hf_infodist.results.ranking import Ranking
from hf_infodist.results.words import to_bits

BLUE, ORANGE = "#0072B2", "#D55E00"  # told apart by the colour-blind too
GREY = "rgba(128,128,128,0.35)"
DASHES = ("solid", "dash", "dot", "dashdot")
SMALL = 12  # pixels of the font of names and footers
_LABELS = [n * 10**power for power in range(1, 6) for n in (1, 2, 5)]  # ticks
_LONG = 24  # characters of a name in a picture; hovering shows all


def curves(points: Mapping[str, Sequence[tuple[int, float]]], asked: Comparison) -> go.Figure:
    """Draw what each direction has cost so far.

    Args:
        points: (images, cumulative nats) by direction.
        asked: The comparison.
    """
    text = f"Curves: what {asked.a} and {asked.b} have cost given each other, image by image"
    figure = empty(380, measured_on(asked.images, asked.k, asked.protocol, asked.seed), text, top=88)
    a, b = short(asked.a), short(asked.b)
    for direction, name, colour, dash in (
        ("a_given_b", f"{a} given {b}", BLUE, "solid"),
        ("b_given_a", f"{b} given {a}", ORANGE, "dash"),
    ):
        xs, ys = zip(*[(0, 0.0), *((n, to_bits(nats)) for n, nats in points.get(direction, ()))], strict=True)
        hover = "%{x} images: %{y:.1f} bits<extra></extra>"
        line = {"color": colour, "dash": dash, "width": 2.5}
        figure.add_scatter(x=xs, y=ys, name=name, mode="lines+markers", line=line, hovertemplate=hover)
    figure.update_xaxes(title="images priced", range=[0, asked.k * 1.02])
    figure.update_yaxes(title="bits so far", rangemode="tozero")
    figure.update_layout(legend={"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0})
    return figure


def learning(found: Ranking) -> go.Figure:
    """Draw what a label costs after so many, for each model: the mean over the last half of them."""
    from hf_infodist.results.pictures import COLOURS, learning_curve

    images, colours = found.images, COLOURS[:-1]  # the last is black, which a dark page hides
    names = [one.id for one in found.candidates]
    text = f"Learning curves: what a label costs after so many, learnt from {', '.join(names)}; the best first"
    footer = measured_on(images.id, images.k, found.protocol.name, images.seed, LABEL_PROTOCOLS)
    figure = empty(400 + 22 * len(names), footer, text, top=88)
    for i, one in enumerate(found.candidates):
        ends, means = learning_curve(one.image_nats)
        line = {"color": colours[i % len(colours)], "dash": DASHES[i // len(colours) % len(DASHES)], "width": 2.5}
        hover = "%{x} labels: %{y:.3g} bits per label<extra></extra>"
        figure.add_scatter(x=ends, y=to_bits(means), name=short(one.id), mode="lines", line=line, hovertemplate=hover)
    floor = to_bits(found.frequency_nats) / images.k
    line = {"color": "grey", "dash": "dot"}
    figure.add_scatter(x=ends[[0, -1]], y=[floor, floor], name="without any image", mode="lines", line=line)
    figure.update_xaxes(title="labels", type="log", tickvals=_LABELS)
    figure.update_yaxes(title="bits per label, mean over the last half", rangemode="tozero")
    figure.update_layout(legend={"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0})
    return figure


def matrix(found: Group) -> go.Figure:
    """Draw all distances of a group of models, near ones beside one another; a cell names its pair, for a click."""
    found = found.in_order()
    bits, names = found.bits_per_image, [short(name) for name in found.models]
    n = len(names)
    text = f"Matrix of {n} models: bits per image of each pair; listed below"
    figure = empty(max(340, 210 + 44 * n), measured_on(*found.settings), text)
    figure.add_heatmap(
        z=bits,
        x=list(range(n)),
        y=list(range(n)),
        customdata=[[[a, b, as_text(a), as_text(b)] for b in found.models] for a in found.models],
        meta=found.settings,
        text=[[f"{v:.2f}" if np.isfinite(v) else "" for v in row] for row in bits] if n <= 12 else None,
        texttemplate="%{text}" if n <= 12 else None,
        colorscale="Cividis",
        reversescale=True,
        hovertemplate="%{customdata[2]}<br>%{customdata[3]}<br>%{z:.3g} bits per image<extra></extra>",
        colorbar={"title": {"text": "bits per image", "side": "right"}, "thickness": 12},
    )
    ticks = {"tickvals": list(range(n)), "ticktext": names, "automargin": True}
    figure.update_xaxes(**ticks, tickangle=-40, showgrid=False, constrain="domain", side="top")
    figure.update_yaxes(**ticks, autorange="reversed", showgrid=False)
    return figure


def tree(found: Group) -> go.Figure | None:
    """Draw how models join into groups, the nearest first; None for fewer than three.

    Args:
        found: The group; models with gaps are left out.
    """
    from scipy.cluster.hierarchy import dendrogram as drawn_by_scipy

    found = found.without_gaps()
    if len(found.models) < 3:
        return None
    drawn = drawn_by_scipy(dendrogram(found.bits_per_image).linkage, no_plot=True)
    names = [short(found.models[i]) for i in drawn["leaves"]]
    text = f"Tree of {len(names)} models, in the order {', '.join(names)}"
    figure = empty(190 + 28 * len(names), measured_on(*found.settings), text, sides=20)
    for places, heights in zip(drawn["icoord"], drawn["dcoord"], strict=True):
        line = {"color": BLUE, "width": 1.5}
        hover = "joined at %{x:.3g} bits per image<extra></extra>"
        figure.add_scatter(x=heights, y=places, mode="lines", line=line, showlegend=False, hovertemplate=hover)
    highest = max(map(max, drawn["dcoord"]))
    leaves = [10 * place + 5 for place in range(len(names))]
    figure.update_xaxes(title="groups join at, bits per image", range=[1.03 * highest, 0])
    figure.update_yaxes(tickvals=leaves, ticktext=names, side="right", automargin=True, showgrid=False, zeroline=False)
    figure.update_yaxes(range=[10 * len(names), 0])
    return figure


# What all pictures share


def measured_on(
    images: str, k: int, protocol: str, seed: int, presets: Mapping[str, CodingProtocol] = PROTOCOLS
) -> tuple[str, str]:
    """Return what the numbers of a picture hold for, in two short lines: the version of the coding is the preset's."""
    preset = presets.get(protocol)
    coding = f", coding {preset.coding}" if preset else ""
    return f"{k} images of {short(images)}", f"seed {seed}, protocol {protocol}{coding}"


def short(name: str) -> str:
    """Return a name that fits beside a point."""
    name = name.rstrip("/").rpartition("/")[2] or name
    return as_text(name if len(name) <= _LONG else f"{name[: _LONG - 1]}…")


def as_text(name: str) -> str:
    """Return a name that is text in plotly's pictures too, which take some of HTML for what it is."""
    return html.escape(name, quote=False)


def empty(height: int, footer: Sequence[str], text: str, *, sides: int = 60, top: int = 44) -> go.Figure:
    """Return an empty figure without a background: the page's shows, light or dark.

    Args:
        height: Pixels.
        footer: Lines on images, their number and the protocol: under the picture, with the version of the code.
        text: What the picture shows, for those who cannot see it.
        sides: Pixels left and right of what is drawn.
        top: Pixels above it.
    """
    figure, bottom = go.Figure(), 64 + SMALL * (len(footer) + 1)
    clear = {"paper_bgcolor": "rgba(0,0,0,0)", "plot_bgcolor": "rgba(0,0,0,0)"}
    figure.update_layout(**clear, height=height, autosize=True, meta={"alt": f"{text}. {', '.join(footer)}"})
    figure.update_layout(margin={"l": sides, "r": 20, "t": top, "b": bottom})
    figure.update_xaxes(gridcolor=GREY, zerolinecolor=GREY, fixedrange=True)
    figure.update_yaxes(gridcolor=GREY, zerolinecolor=GREY, fixedrange=True)
    lines = [*footer, f"hf-infodist {installed('hf-infodist')}"]
    corner: dict[str, Any] = {"xref": "paper", "yref": "paper", "x": 0, "y": 0, "xanchor": "left", "yanchor": "bottom"}
    place = corner | {"xshift": 8 - sides, "yshift": 4 - bottom, "align": "left", "showarrow": False}
    figure.add_annotation(text="<br>".join(lines), font={"size": SMALL}, **place)
    return figure
