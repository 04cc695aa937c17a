"""Names beside their points that cover neither one another nor a point."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.path import Path
from matplotlib.transforms import Bbox

from hf_infodist.analysis.geometry import Distances

NAME_POINTS = 8  # size of the font
_NAME: dict[str, Any] = {"textcoords": "offset points", "fontsize": NAME_POINTS, "ha": "left", "va": "bottom"}
_AIR = np.array([3, 1])  # points beside and above a name
_LINE = {"arrowstyle": "-", "color": "#888888", "linewidth": 0.6, "shrinkA": 0, "shrinkB": 3}
_RINGS = [(8 + 6 * ring, turn) for ring in range(40) for turn in np.linspace(0, 2, 8 + 4 * ring, endpoint=False)]
_AROUND, _ALIGNED = (  # points from a point, in rings, and which part of a name comes there
    np.array([place for r, t in _RINGS for place in [(r * np.cos(np.pi * t), r * np.sin(np.pi * t))] * 3]),
    np.array([part for _ in _RINGS for part in ((0.0, 0.5), (1.0, 0.5), (0.5, 0.5))]),
)


def place_names(axes: Any, places: Distances, names: Sequence[str], page: Bbox) -> None:
    """Write each name at the best free spot around its point, the longest names first.

    Where a name is away from its point, a line leads there.

    Args:
        axes: Drawn once, so that their limits are known.
        places: Of the points, ``[n, 2]``, in the coordinates of the axes.
        names: One each.
        page: Within which names have to be, in pixels.
    """
    figure = axes.get_figure(root=True)
    pixels, point = axes.transData.transform(places), figure.dpi / 72  # in pixels
    texts = [Axes.annotate(axes, names[i], tuple(places[i]), (0, 0), **_NAME) for i in range(len(names))]
    sizes = np.array([text.get_window_extent(figure.canvas.get_renderer()).size for text in texts]) + 2 * point * _AIR
    written = list(_written(axes))
    for i in np.argsort(-sizes[:, 0], kind="stable"):
        near = np.where(np.arange(len(names)) == i, 5, 10) * point  # a name beside another's point would seem its own
        dots = [Bbox([pixel - radius, pixel + radius]) for pixel, radius in zip(pixels, near, strict=True)]
        box = _best_spot(pixels[i], sizes[i], point, dots + written, page)
        written.append(box)
        texts[i].set_position((box.min - pixels[i]) / point + _AIR)
        end = np.clip(pixels[i], box.min, box.max)
        if np.linalg.norm(end - pixels[i]) > 12 * point:
            Axes.annotate(axes, "", tuple(places[i]), (end - pixels[i]) / point, "data", arrowprops=_LINE, **_NAME)


def _best_spot(pixel: Distances, size: Distances, point: float, taken: Sequence[Bbox], page: Bbox) -> Bbox:
    """Return the nearest box that covers nothing; a line to it that crosses another name counts as much farther."""
    low = pixel + point * _AROUND - _ALIGNED * size  # [spots, 2]
    edges = np.array([[box.min, box.max] for box in taken])  # [taken, 2, 2]
    apart = (low[:, None] >= edges[:, 1]) | (low[:, None] + size <= edges[:, 0])  # along either axis
    free = np.all(np.any(apart, axis=2), axis=1) & (low >= page.min).all(1) & (low + size <= page.max).all(1)
    gaps = np.linalg.norm(pixel - np.clip(pixel, low, low + size), axis=1)
    others = [box for box in taken if not box.contains(*pixel)]
    best, least = Bbox([pixel, pixel + size]), np.inf
    for spot in np.argsort(np.where(free, gaps, np.inf), kind="stable")[: free.sum()]:
        if gaps[spot] >= least:
            break
        line = Path([pixel, np.clip(pixel, low[spot], low[spot] + size)])
        cost = gaps[spot] + 200 * point * sum(line.intersects_bbox(other) for other in others)
        if cost < least:
            best, least = Bbox([low[spot], low[spot] + size]), cost
    return best


def _written(axes: Any) -> Iterator[Bbox]:
    """Yield the boxes of what stands at the axes."""
    for axis in axes._axis_map.values():
        texts = [tick.label1 for tick in axis.majorTicks] + [axis.label]  # asking for tick labels would move them
        yield from (text.get_window_extent() for text in texts if text.get_text())
