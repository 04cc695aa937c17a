"""The tab that asks which of many models is nearest to one."""

from collections.abc import AsyncIterator
from typing import Any

import gradio as gr

from hf_infodist.page import views
from hf_infodist.page.boxes import AT_ONCE, EVENT, Boxes, buttons
from hf_infodist.page.compare_tab import Shown, visitor
from hf_infodist.page.events import Block, Done, Failed, Stage, Stopped, Waiting
from hf_infodist.page.matrix_tab import titled
from hf_infodist.page.ranking import ranking
from hf_infodist.page.records import Record
from hf_infodist.page.request import Comparison, Refusal, named, requested, told
from hf_infodist.page.service import Service


class NearestTab:
    """The tab, inside `gr.Tabs`.

    Args:
        service: Answers questions.
    """

    def __init__(self, service: Service):
        self.service = service
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
            self.message = gr.HTML(elem_id="nearest-model-message")
            with gr.Row():
                self.go, self.halt = buttons("Find the nearest", "nearest-")
            self.status, self.result = gr.HTML(elem_id="nearest-status"), gr.HTML(elem_id="nearest-result")
        self._asked = [self.model, self.others, *self.boxes.all]
        shown = [self.message, self.status, self.result, self.go, self.halt, self.group, *self._asked]
        tab.select(self._groups, None, self.group, **EVENT)
        self.group.input(self._take, [self.model, self.group], [self.model, self.others, *self.boxes.all], **EVENT)
        gr.on([self.go.click, self.model.submit], self.rank, self._asked, shown, **EVENT)
        self.halt.click(self._stop, **AT_ONCE)

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
            yield self._idle() | {
                self.message: views.message(Failed(*told(error, self.service.limits))),
                self.result: "",
            }
            return
        known = {pair.b: record for pair in wanted if (record := self.service.find(pair))}
        records, failed, name = list(known.values()), {}, wanted[0].a
        yield self._running("Beginning …") | self._ranked(name, records, {}, len(wanted) - len(records))
        for pair in (pair for pair in wanted if pair.b not in known):
            async for event in self._compare(request, pair):
                match event:
                    case Waiting():
                        yield self._running(f"{pair.b}: others are first, {event.ahead} before you.")
                    case Stage() | Block():
                        words = event.text if isinstance(event, Stage) else f"{event.images} of {pair.k} images priced"
                        yield self._running(f"{pair.b}: {words} …")
                    case Stopped():
                        yield self._idle() | {
                            self.status: f'<p class="progress">Stopped: {views.safe(event.why)}.</p>'
                        }
                        return
                    case Failed():
                        failed[pair.b] = event
                    case Done():
                        records.append(Record.from_dict(event.record))
            yield self._ranked(name, records, failed, len(wanted) - len(records) - len(failed))
        yield self._idle()

    def _wanted(self, model: str, others: str, settings: Any) -> list[Comparison]:
        """Return the comparisons that are asked for; those that are known may be of names that are not taken here."""
        lines = str(others or "").splitlines()[:1000]
        names = [name for name in dict.fromkeys(map(str.strip, lines)) if name and name != str(model).strip()]
        if not names:
            raise Refusal(
                "b", "there are no others yet", "one model has no nearest", "type their names, one on each line"
            )
        if len(names) > self.service.limits.others:
            most = self.service.limits.others
            raise Refusal(
                "b", f"{len(names)} models are too many", f"this page takes {most} in one go", "ask for fewer"
            )
        asked = []
        for name in names:
            pair = named(model, name, *settings)
            known = pair and pair.a and self.service.find(pair)
            asked.append(pair if known else requested(model, name, *settings, limits=self.service.limits))
        return [pair for pair in asked if pair]

    def _compare(self, request: gr.Request, pair: Comparison) -> AsyncIterator[Any]:
        who = visitor(request)
        return self.service.compare(pair, who, f"nearest {request.session_hash or who}")

    async def _stop(self, request: gr.Request) -> None:
        self.service.stop(f"nearest {request.session_hash or visitor(request)}")

    def _ranked(self, model: str, records: list[Record], failed: dict[str, Failed], left: int) -> Shown:
        return {self.result: ranking(model, records, failed, left), self.message: ""}

    def _idle(self, *, running: bool = False) -> Shown:
        locked = {box: type(box)(interactive=not running) for box in (*self._asked, self.group)}
        return {
            self.status: "",
            self.go: gr.Button(visible=not running),
            self.halt: gr.Button(visible=running),
        } | locked

    def _running(self, words: str) -> Shown:
        return self._idle(running=True) | {self.status: f'<p class="progress">{views.safe(words)}</p>'}
