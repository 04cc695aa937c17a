"""The map of an atlas: drawn once, and models marked on it whose names, architectures or bases contain a text."""

from collections.abc import Collection
from functools import lru_cache

import plotly.graph_objects as go

from hf_infodist.page.atlases import matches
from hf_infodist.page.chart import chart, markers
from hf_infodist.page.matrices import Group
from hf_infodist.page.views import safe
from hf_infodist.results.atlas.folder import Atlas
from hf_infodist.results.matrix import PairwiseMatrix

_MOST = 300  # models of a map: names of more cannot be read
_LISTED = 10
_LONGEST = 100  # characters that are searched for


def sought(atlas: Atlas, text: str) -> list[str]:
    """Return the names of the models that a text is about; of all if there is none."""
    text = text.strip()[:_LONGEST]
    return [file.entry.id for file in atlas.files if matches(file.entry, text)]


def found(atlas: Atlas, text: str) -> str:
    """Say which models a text is about."""
    names, text = sought(atlas, text), text.strip()[:_LONGEST]
    if not text:
        return ""
    if not names:
        return f'<p class="quiet">No name, architecture or base of a model contains {safe(repr(text))}.</p>'
    more = ", …" if len(names) > _LISTED else ""
    listed = f"{', '.join(names[:_LISTED])}{more}"
    return f'<p class="quiet">{len(names)} of {len(atlas.files)} models: {safe(listed)}</p>'


def atlas_map(matrix: PairwiseMatrix, marked: Collection[str], width: float) -> go.Figure | None:
    """Draw the map of an atlas; None for fewer than three models, or too many.

    Args:
        matrix: All its distances.
        marked: Names that stand out.
        width: Of the picture, in pixels.
    """
    group = Group(matrix)
    if len(group.models) > _MOST:
        return None
    drawn = _drawn(matrix, round(width))
    if drawn is None:
        return None
    figure = go.Figure(drawn)
    figure.data[0].marker = markers(group.models, marked)
    words = f"; marked: {', '.join(marked)}" if marked else ""
    figure.layout.meta = {"alt": f"Map of the {len(group.models)} models of the atlas, near where alike{words}"}
    return figure


@lru_cache(maxsize=16)
def _drawn(matrix: PairwiseMatrix, width: int) -> go.Figure | None:
    return chart(Group(matrix), (), width)
