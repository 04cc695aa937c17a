"""The tab that asks which of several models to start from."""

from collections.abc import AsyncIterator
from typing import Any

import gradio as gr

from hf_infodist.page import figures
from hf_infodist.page.boxes import EVENT, Boxes, lines
from hf_infodist.page.candidates import starts, to_ranking
from hf_infodist.page.compare_tab import Shown, drawn
from hf_infodist.page.many import Answers, ManyTab
from hf_infodist.page.request import Refusal
from hf_infodist.page.service import Service
from hf_infodist.page.starts import requested_starts
from hf_infodist.protocol import LABEL_PROTOCOLS


class StartTab(ManyTab):
    """The tab, inside `gr.Tabs`.

    Args:
        service: Answers questions.
    """

    def __init__(self, service: Service):
        super().__init__(service, "start")
        with gr.Tab("Start from", id="start"):
            gr.Markdown("Which of these models to start from, to learn the labels of these images?")
            with gr.Row(equal_height=False):
                with gr.Column(min_width=260):
                    self.models = gr.Textbox(
                        "demo:cnn\ndemo:vit\nrandom:demo:cnn",
                        label="Models, one on each line",
                        elem_id="start-models",
                        lines=5,
                        max_lines=12,
                    )
                with gr.Column(min_width=260):
                    self.label = gr.Textbox(
                        label="Label column",
                        info="Only where the images have several.",
                        elem_id="start-label",
                        max_lines=1,
                        max_length=1000,
                    )
            self.boxes = Boxes(service.limits, "start-", LABEL_PROTOCOLS)
            self.foot("models", "Find the best start")
            self.curves = gr.Plot(label="Learning curves", visible=False, elem_id="start-curves")
        self.asked = [self.models, *self.boxes.all, self.label]
        self.go.click(self.rank, self.asked, [*self.shown, self.curves], **EVENT)

    async def rank(self, request: gr.Request, models: str, *settings: Any) -> AsyncIterator[Shown]:
        """Learn the labels from one model after the other, showing each answer as it comes."""
        try:
            wanted = requested_starts(lines(models), *settings, limits=self.service.limits)
        except Refusal as error:
            yield self.refused(error)
            return
        async for shown in self.ask(request, wanted, Answers(wanted)):
            yield shown

    def show(self, answers: Answers) -> Shown:
        """Return the ranking so far; its learning curves at the end, for Gradio loses pictures that follow fast."""
        found = to_ranking(answers.done) if answers.done else None
        shown = {self.result: starts(found, answers.failed, answers.asked, answers.left)}
        return shown | ({self.curves: drawn(figures.learning, found)} if found and answers.over else {})

    def clear(self) -> Shown:
        """Show no answer."""
        return super().clear() | {self.curves: gr.Plot(None, visible=False)}
