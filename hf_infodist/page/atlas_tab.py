"""The tab of atlases: which of many models that are not at hand are nearest to one, and a map of all of them."""

from collections.abc import AsyncIterator
from typing import Any

import gradio as gr

from hf_infodist.page import views
from hf_infodist.page.atlas_map import atlas_map, found, sought
from hf_infodist.page.boxes import AT_ONCE, EVENT
from hf_infodist.page.compare_tab import Shown, drawn, pixels, visitor
from hf_infodist.page.events import Done, Failed, Stage, Stopped, Waiting
from hf_infodist.page.many import Answers, ManyTab, progress
from hf_infodist.page.placed import placed
from hf_infodist.page.request import Refusal
from hf_infodist.page.service import Service

_PRIVATE = "Which models of the atlas are nearest to this one? One that the atlas does not have is run."
_PUBLIC = "Which models of the atlas are nearest to this one of them?"


class AtlasTab(ManyTab):
    """The tab, inside `gr.Tabs`.

    Args:
        service: Answers questions.
        width: Holds the width of the page in pixels.
    """

    def __init__(self, service: Service, width: gr.Textbox):
        super().__init__(service, "atlas")
        names, public = service.atlases.names, service.limits.public
        with gr.Tab("Atlas", id="atlas") as tab:
            gr.Markdown(_PUBLIC if public else _PRIVATE)
            with gr.Row(equal_height=False):
                label = "Atlas" if public else "Atlas: name or folder"
                self.atlas = gr.Dropdown(
                    list(names),
                    value=names[0],
                    label=label,
                    elem_id="atlas-choice",
                    allow_custom_value=True,
                    min_width=240,
                )
                box: dict[str, Any] = {"label": "Model", "elem_id": "atlas-model", "max_lines": 1, "max_length": 1000}
                self.model = gr.Textbox(placeholder="type a letter to see names", min_width=240, **box)
            self.foot("model", "Find the nearest")
            self.find = gr.Textbox(
                label="Mark on the map",
                placeholder="a part of a name, an architecture or a base",
                elem_id="atlas-find",
                max_lines=1,
                max_length=100,
            )
            self.found = gr.HTML('<p class="quiet">The map is being drawn …</p>', elem_id="atlas-found")
            self.draw = gr.Button("Draw the map", visible=False, elem_id="atlas-draw")
            self.map = gr.Plot(label="Map of the atlas", elem_id="atlas-map", elem_classes="pickable", visible=False)
        self.asked = [self.atlas, self.model]
        self._wire(tab, [self.atlas, self.find, width])

    def _wire(self, tab: gr.Tab, seen: list[Any]) -> None:
        plot = [self.found, self.map, self.draw]
        tab.select(self.look, seen, plot, **EVENT)
        self.atlas.input(self.choose, seen, [*self.shown, *plot], **EVENT)
        self.find.input(self.look, seen, plot, trigger_mode="always_last", **AT_ONCE)
        gr.on([self.go.click, self.model.submit], self.place, self.asked, self.shown, **EVENT)
        self.draw.click(self.compute_map, seen, [*self.shown, *plot], **EVENT)

    # What happens

    async def place(self, request: gr.Request, atlas: Any, model: Any) -> AsyncIterator[Shown]:
        """Find the nearest: at once where the atlas has the model and its map, otherwise when it has been run."""
        try:
            question = self.service.atlases.placing(model, atlas)
        except Refusal as error:
            yield self.refused(error)
            return
        known = self.service.atlases.find(question)
        if known is not None:
            yield self._idle() | self.clear() | self.show(Answers([question], [known], over=True))
            return
        async for shown in self.ask(request, [question], Answers([question])):
            yield shown

    def show(self, answers: Answers) -> Shown:
        """Return the nearest, or why there are none."""
        for failed in answers.failed.values():
            return self.clear() | {self.message: views.message(failed)}
        if not answers.done:
            return {}
        word = answers.asked[0].atlas
        entries = {file.entry.id: file.entry for file in self.service.atlases.open(word).files}
        return {self.result: placed(answers.done[0], word, entries)}

    def look(self, atlas: Any, text: str, width: str) -> Shown:
        """Draw the map of an atlas, if its distances are known, and mark the models that a text is about."""
        try:
            opened = self.service.atlases.open(atlas)
        except Refusal:
            return {self.found: "", self.map: gr.Plot(None, visible=False), self.draw: gr.Button(visible=False)}
        matrix, text = self.service.atlases.matrix(opened), str(text or "")
        if matrix is None:
            words = f"The map needs what each of the {len(opened.names)} models costs given each other one."
            unknown = f'<p class="quiet">{words}</p>'
            return {self.found: unknown, self.map: gr.Plot(None, visible=False), self.draw: gr.Button(visible=True)}
        marked = sought(opened, text) if text.strip() else []
        picture = drawn(atlas_map, matrix, marked, pixels(width))
        return {self.found: found(opened, text), self.map: picture, self.draw: gr.Button(visible=False)}

    def choose(self, atlas: Any, text: str, width: str) -> Shown:
        """Turn to another atlas: no answer and no map of the one before may stay."""
        try:
            self.service.atlases.open(atlas)
        except Refusal as error:
            return self.refused(error) | self.look(atlas, text, width)
        return self._idle() | self.clear() | self.look(atlas, text, width)

    async def compute_map(self, request: gr.Request, atlas: Any, text: str, width: str) -> AsyncIterator[Shown]:
        """Have all distances of an atlas computed, and draw its map."""
        try:
            question = self.service.atlases.mapping(atlas)
        except Refusal as error:
            yield self.refused(error)
            return
        yield self._idle(running="Beginning …") | self.clear() | {self.draw: gr.Button(visible=False)}
        async for event in self.service.ask(question, visitor(request), self._window(request)):
            match event:
                case Waiting():
                    yield self._idle(running=f"Map: others are first, {event.ahead} before you.")
                case Stage():
                    yield self._idle(running=f"Map: {event.text} …")
                case Failed():
                    yield self.wrong(event) | self.look(atlas, text, width)
                case Stopped():
                    said = {self.status: progress(f"Stopped: {event.why}.")}
                    yield self._idle() | self.look(atlas, text, width) | said
                case Done():
                    yield self._idle() | self.look(atlas, text, width)
