"""The tab that asks which of many models is nearest to one."""

from collections.abc import AsyncIterator
from typing import Any

import gradio as gr

from hf_infodist.page.boxes import EVENT, Boxes, lines
from hf_infodist.page.compare_tab import Shown
from hf_infodist.page.many import Answers, ManyTab
from hf_infodist.page.matrix_tab import titled
from hf_infodist.page.ranking import ranking
from hf_infodist.page.records import Record
from hf_infodist.page.request import Comparison, Refusal, few_enough, named, requested
from hf_infodist.page.service import Service


class NearestTab(ManyTab):
    """The tab, inside `gr.Tabs`.

    Args:
        service: Answers questions.
    """

    def __init__(self, service: Service):
        super().__init__(service, "nearest")
        with gr.Tab("Nearest", id="nearest") as tab:
            gr.Markdown("Which of these models is nearest to this one?")
            with gr.Row(equal_height=False):
                with gr.Column(min_width=260):
                    box: dict[str, Any] = {
                        "label": "Model",
                        "elem_id": "nearest-model",
                        "max_lines": 1,
                        "max_length": 1000,
                    }
                    self.model = gr.Textbox(placeholder="org/name", **box)
                    self.group = gr.Dropdown([], label="Or take the models of", elem_id="nearest-group")
                with gr.Column(min_width=260):
                    others: dict[str, Any] = {"label": "The others, one on each line", "elem_id": "nearest-others"}
                    self.others = gr.Textbox(lines=5, max_lines=12, **others)
            self.boxes = Boxes(service.limits, "nearest-")
            self.foot("model", "Find the nearest")
        values = [self.model, self.others, *self.boxes.all]
        self.asked = [*values, self.group]
        tab.select(self._groups, None, self.group, **EVENT)
        self.group.input(self._take, [self.model, self.group], values, **EVENT)
        gr.on([self.go.click, self.model.submit], self.rank, values, self.shown, **EVENT)

    def _groups(self) -> gr.Dropdown:
        return gr.Dropdown(list(titled(self.service.groups())), value=None)

    def _take(self, model: str, title: str | None) -> list[Any]:
        """Fill the boxes from a group; its first model is the one that is asked about if none of it is named yet."""
        group = titled(self.service.groups()).get(title or "")
        if group is None:
            return [gr.skip()] * 6
        model = model if model in group.models else group.models[0]
        return [model, "\n".join(name for name in group.models if name != model), *group.settings]

    async def rank(self, request: gr.Request, model: str, others: str, *settings: Any) -> AsyncIterator[Shown]:
        """Compare one model with the others, one after the other, showing each answer as it comes."""
        try:
            wanted = self._wanted(model, others, settings)
        except Refusal as error:
            yield self.refused(error)
            return
        known = {pair: record.to_dict() for pair in wanted if (record := self.service.find(pair))}
        unknown = [pair for pair in wanted if pair not in known]
        async for shown in self.ask(request, unknown, Answers(wanted, list(known.values()))):
            yield shown

    def show(self, answers: Answers) -> Shown:
        """Return the ranking so far."""
        records = list(map(Record.from_dict, answers.done))
        return {self.result: ranking(answers.asked[0].a, records, answers.failed, answers.left)}

    def _wanted(self, model: str, others: str, settings: Any) -> list[Comparison]:
        """Return the comparisons that are asked for; those that are known may be of names that are not taken here."""
        names = [name for name in dict.fromkeys(lines(others)) if name != str(model).strip()]
        if not names:
            raise Refusal(
                "b", "there are no others yet", "one model has no nearest", "type their names, one on each line"
            )
        few_enough("b", names, self.service.limits)
        asked = []
        for name in names:
            pair = named(model, name, *settings)
            known = pair and pair.a and self.service.find(pair)
            asked.append(pair if known else requested(model, name, *settings, limits=self.service.limits))
        return [pair for pair in asked if pair]
