"""The tab of known pairs: matrix, map and list of each group that may be compared."""

from typing import Any

import gradio as gr

from hf_infodist.page import figures, views
from hf_infodist.page.service import Service

EVENT: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden", "concurrency_limit": None}
AT_ONCE: dict[str, Any] = EVENT | {"queue": False}


class MatrixTab:
    """The tab, inside `gr.Tabs`.

    Args:
        service: Has what is known.
    """

    def __init__(self, service: Service):
        self.service = service
        with gr.Tab("Matrix and map", id="known") as tab:
            gr.Markdown("Pairs that were compared here. Click a cell, or a point and its nearest, to see that pair.")
            self.group = gr.Dropdown([], label="Images and protocol", elem_id="group")
            self.matrix = gr.Plot(label="Distances", elem_id="matrix", elem_classes="clickable")
            self.map = gr.Plot(label="Map", elem_id="map", elem_classes="clickable")
            self.pairs = gr.HTML(elem_id="pairs")
        drawn = [self.matrix, self.map, self.pairs]
        tab.select(self.groups, self.group, [self.group, *drawn], **EVENT)
        self.group.input(self.draw, self.group, drawn, **EVENT)

    def groups(self, title: str | None) -> list[Any]:
        """Fill the tab."""
        titles = [found.title for found in self.service.groups()]
        chosen = title if title in titles else next(iter(titles), None)
        return [gr.Dropdown(titles, value=chosen), *self.draw(chosen)]

    def draw(self, title: str | None) -> list[Any]:
        """Draw a group."""
        found = next((found for found in self.service.groups() if found.title == title), None)
        if found is None:
            return [None, None, "<p>No pair has been compared yet.</p>"]
        return [figures.matrix(found), figures.chart(found), views.pairs(found.title, found.pairs())]
