"""The tab of known pairs: matrix, tree, map and list of each group that may be compared."""

from collections import Counter
from collections.abc import Iterable
from typing import Any

import gradio as gr

from hf_infodist.page import figures, views
from hf_infodist.page.boxes import EVENT
from hf_infodist.page.chart import chart
from hf_infodist.page.compare_tab import drawn, pixels
from hf_infodist.page.matrices import Group
from hf_infodist.page.service import Service


class MatrixTab:
    """The tab, inside `gr.Tabs`.

    Args:
        service: Has what is known.
        width: Holds the width of the page in pixels.
    """

    def __init__(self, service: Service, width: gr.Textbox):
        self.service = service
        with gr.Tab("Matrix", id="known") as tab:
            gr.Markdown("Pairs that were compared here. Click a cell, or a point and its nearest, to see that pair.")
            self.group = gr.Dropdown([], label="Images and protocol", elem_id="group")
            self.matrix = gr.Plot(label="Distances", elem_id="matrix", elem_classes="clickable")
            self.tree = gr.Plot(label="Tree", elem_id="tree")
            self.map = gr.Plot(label="Map", elem_id="map", elem_classes="clickable")
            self.pairs = gr.HTML(elem_id="pairs")
        shown = [self.matrix, self.tree, self.map, self.pairs]
        tab.select(self.groups, [self.group, width], [self.group, *shown], **EVENT)
        self.group.input(self.draw, [self.group, width], shown, **EVENT)

    def groups(self, title: str | None, width: str) -> list[Any]:
        """Fill the tab."""
        titles = list(titled(self.service.groups()))
        chosen = title if title in titles else next(iter(titles), None)
        return [gr.Dropdown(titles, value=chosen), *self.draw(chosen, width)]

    def draw(self, title: str | None, width: str) -> list[Any]:
        """Draw a group; a picture that cannot be drawn is left out."""
        found = titled(self.service.groups()).get(title or "")
        if found is None:
            return [gr.Plot(None, visible=False)] * 3 + ["<p>No pair has been compared yet.</p>"]
        pictures = [drawn(figures.matrix, found), drawn(figures.tree, found), drawn(chart, found, (), pixels(width))]
        return [*pictures, views.pairs(found.title, found.pairs())]


def titled(groups: Iterable[Group]) -> dict[str, Group]:
    """Return groups by their titles; of several with one title the later ones are numbered."""
    seen: Counter[str] = Counter()
    titles = {}
    for group in groups:
        seen[group.title] += 1
        titles[f"{group.title} ({seen[group.title]})" if seen[group.title] > 1 else group.title] = group
    return titles
