"""The page: its boxes, tabs and what happens when they are used."""

import os
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import gradio as gr

from hf_infodist.page import figures, views
from hf_infodist.page.events import Block, Done, Failed, Stage, Stopped, Waiting
from hf_infodist.page.matrix_tab import AT_ONCE, EVENT, MatrixTab
from hf_infodist.page.records import Record, shipped
from hf_infodist.page.request import (
    DATASETS,
    OFFERED,
    Comparison,
    Limits,
    Refusal,
    in_public,
    request_in_click,
    request_in_link,
    requested,
)
from hf_infodist.page.search import Search
from hf_infodist.page.service import Service

HERE = Path(__file__).parent
PROTOCOLS = {
    "standard": "standard (default)",
    "thorough": "thorough (fine-tunes too: slow)",
    "single": "single (reference)",
}
DIRECTIONS = {"a_given_b": "A given B", "b_given_a": "B given A"}
Points = dict[str, list[tuple[int, float]]]


class Page:
    """The components and what they do.

    Args:
        service: Answers questions.
    """

    def __init__(self, service: Service):
        self.service = service
        self.search = Search(lambda: [name for found in service.groups() for name in found.models])
        gr.Markdown("# Information distance\nHow much information turns one image classifier into another?")
        self.picked = gr.Textbox(visible="hidden", elem_id="picked")
        self.link = gr.Textbox(visible="hidden", elem_id="link")
        with gr.Tabs() as self.tabs:
            with gr.Tab("Compare", id="compare"):
                self._compare_tab()
            MatrixTab(service)
            with gr.Tab("About", id="about"):
                gr.Markdown(_about(service.limits))
        gr.HTML(
            html_template='<ul id="names" role="listbox" aria-label="models" hidden></ul>',
            js_on_load=(HERE / "page.js").read_text(encoding="utf-8"),
            server_functions=[self._search()],
            elem_id="names-holder",
        )
        self._wire()

    # Layout

    def _compare_tab(self) -> None:
        with gr.Row(equal_height=False):
            with gr.Column(min_width=260):
                self.a = gr.Textbox("demo:cnn", label="Model A", elem_id="a", placeholder="org/name", max_length=300)
                self.a_message = gr.HTML(elem_id="a-message")
            with gr.Column(min_width=260):
                self.b = gr.Textbox("demo:vit", label="Model B", elem_id="b", placeholder="org/name", max_length=300)
                self.b_message = gr.HTML(elem_id="b-message")
        with gr.Row():
            self.images = gr.Dropdown(DATASETS, value="digits", label="Images", elem_id="images", min_width=160)
            self.k = gr.Number(400, label="How many (k)", precision=0, elem_id="k", min_width=100)
            choices = [(PROTOCOLS[name], name) for name in OFFERED]
            self.protocol = gr.Dropdown(choices, value="standard", label="Protocol", elem_id="protocol", min_width=200)
            self.seed = gr.Number(0, label="Seed", precision=0, elem_id="seed", min_width=80)
        self.cost = gr.HTML(elem_id="cost")
        with gr.Row():
            self.go = gr.Button("Compare", variant="primary", elem_id="go", min_width=140)
            self.halt = gr.Button("Stop", variant="stop", visible=False, elem_id="halt", min_width=140)
            self.swap = gr.Button("Swap A and B", elem_id="swap", min_width=140)
        gr.Markdown("Examples, answered at once:", elem_id="examples-label")
        with gr.Row(elem_id="examples"):
            pairs = [record.comparison for record in shipped() if _is_example(record.comparison)]
            self.examples = [(gr.Button(_title(pair), size="sm", min_width=150), pair) for pair in pairs]
        self.status = gr.HTML(elem_id="status")
        self.result = gr.HTML(elem_id="result")
        self.curves = gr.Plot(label="What each direction has cost so far", visible=False, elem_id="curves")
        self.place = gr.Plot(
            label="Its place among known models", visible=False, elem_id="place", elem_classes="clickable"
        )

    # Wiring

    def _wire(self) -> None:
        asked_for = [self.a, self.b, self.images, self.k, self.protocol, self.seed]
        answer = [self.a_message, self.b_message, self.cost, self.status, self.curves, self.result, self.place]
        answer += [self.go, self.halt, self.link]
        checked = [self.a_message, self.b_message, self.cost]
        gr.on([self.go.click, self.a.submit, self.b.submit], self.compare, asked_for, answer, **EVENT)
        self.halt.click(self.stop, **AT_ONCE)
        swapped = self.swap.click(lambda a, b: (b, a), [self.a, self.b], [self.a, self.b], **AT_ONCE).then(
            self.check, asked_for, checked, **EVENT
        )
        for button, comparison in self.examples:
            fields = [getattr(comparison, name) for name in ("a", "b", "images", "k", "protocol", "seed")]
            button.click(lambda fields=fields: fields, None, asked_for, **AT_ONCE).then(
                self.compare, asked_for, answer, **EVENT
            )
        self.link.change(None, self.link, None, js="(query) => {history.replaceState(null, '', '?' + query)}")
        self.picked.change(self.pick, self.picked, [*asked_for, self.tabs], **AT_ONCE).then(
            self.show_picked, [self.picked, *asked_for], answer, **EVENT
        )
        greeted = gr.on(None, self.open, None, asked_for, **AT_ONCE).then(self.greet, asked_for, answer, **EVENT)
        # One event for all boxes, its last call waiting for the one before: no answer overtakes a later one.
        edited = [self.a.blur, self.b.blur, *(each.input for each in (self.images, self.k, self.protocol, self.seed))]
        last: dict[str, Any] = {"trigger_mode": "always_last", "cancels": [swapped, greeted]}
        gr.on(edited, self.check, asked_for, checked, **EVENT, **last)

    # What happens

    def _search(self) -> Callable[[str], Awaitable[list[Any]]]:
        async def find_names(text: str) -> list[Any]:
            return list(await self.search.find(text))

        return find_names

    async def check(self, *values: Any) -> AsyncIterator[Any]:
        """Say before the click what is wrong, or what it will cost."""
        try:
            comparison = requested(*values, limits=self.service.limits)
        except Refusal as error:
            yield self._wrong(_failed(error))
            return
        if self.service.records.find(comparison):
            yield self._said('<p class="cost">This pair has been measured before: the answer comes at once.</p>')
            return
        yield self._said('<p class="cost">Working out what this costs …</p>')
        event = await self.service.check(comparison)
        if isinstance(event, Failed):
            yield self._wrong(event)
        elif not isinstance(event, Stopped):
            yield self._said(views.cost(event))
        else:
            yield self._said('<p class="cost">What this costs could not be worked out in time.</p>')

    async def compare(self, request: gr.Request, *values: Any) -> AsyncIterator[Any]:
        """Compare, showing how it goes."""
        try:
            comparison = requested(*values, limits=self.service.limits)
        except Refusal as error:
            yield self._wrong(_failed(error)) | {self.status: "", self.result: ""}
            return
        points: dict[str, list[tuple[int, float]]] = {}
        who = visitor(request)
        async for event in self.service.compare(comparison, who, request.session_hash or who):
            match event:
                case Waiting():
                    yield self._running(f"Others are first: {event.ahead} before you.")
                case Stage():
                    yield self._running(f"{event.text[:1].upper()}{event.text[1:]} …")
                case Block():
                    points.setdefault(event.direction, []).append((event.images, event.nats))
                    yield self._moved(comparison, points, event)
                case Stopped():
                    yield self._partial(comparison, points, event.why)
                case Failed():
                    yield self._idle() | self._wrong(event)
                case Done():
                    yield self._done(Record.from_dict(event.record))

    async def stop(self, request: gr.Request) -> None:
        """End this window's comparison."""
        self.service.stop(request.session_hash or visitor(request))

    async def pick(self, text: str) -> list[Any]:
        """Take the pair that was clicked in a picture."""
        pair = request_in_click(text)
        if pair is None:
            return [gr.skip()] * 7
        return [*pair.to_dict().values(), gr.Tabs(selected="compare")]

    async def show_picked(self, request: gr.Request, text: str, *values: Any) -> AsyncIterator[Any]:
        """Show what is known of the pair that was clicked."""
        pair = request_in_click(text)
        if pair and self.service.records.find(pair):
            async for shown in self.compare(request, *values):
                yield shown
        elif pair:
            matrices = self.service.groups()
            stored = next((found for found in matrices if found.has(pair)), None)
            yield self._idle() | {
                self.result: views.stored(stored, pair) if stored else "",
                self.curves: gr.Plot(visible=False),
            }

    async def open(self, request: gr.Request) -> list[Any]:
        """Fill the boxes from the link."""
        query = dict(request.query_params)
        try:
            comparison = request_in_link(query, limits=self.service.limits)
        except Refusal:
            shown_as_text = [str(query.get(name, ""))[:300] for name in ("a", "b")]
            return [*shown_as_text, *[gr.skip()] * 4]
        return list(comparison.to_dict().values()) if comparison else [gr.skip()] * 6

    async def greet(self, request: gr.Request, *values: Any) -> AsyncIterator[Any]:
        """Answer the link at once where the answer is known; otherwise say what it will cost."""
        try:
            comparison = request_in_link(dict(request.query_params), limits=self.service.limits)
        except Refusal as error:
            yield self._wrong(_failed(error))
            return
        record = self.service.records.find(comparison) if comparison else None
        if record:
            yield self._done(record)
        else:
            async for shown in self.check(*values):
                yield shown

    # What is shown

    def _said(self, cost: str) -> dict[Any, Any]:
        return {self.a_message: "", self.b_message: "", self.cost: cost}

    def _wrong(self, failed: Failed) -> dict[Any, Any]:
        boxes = {"a": self.a_message, "b": self.b_message}
        return self._said("") | {boxes.get(failed.field, self.cost): views.message(failed)}

    def _idle(self, *, running: bool = False) -> dict[Any, Any]:
        go, halt = gr.Button(visible=not running), gr.Button(visible=running)
        return {self.status: "", self.go: go, self.halt: halt}

    def _running(self, words: str) -> dict[Any, Any]:
        return self._idle(running=True) | {self.status: f'<p class="progress" role="status">{views.safe(words)}</p>'}

    def _moved(self, comparison: Comparison, points: Points, block: Block) -> dict[Any, Any]:
        direction, images = DIRECTIONS[block.direction], f"{block.images} of {comparison.k} images"
        priced = f"{direction}: {images} priced, {block.nats:.1f} nats so far"
        words = f"{priced}, about {views.duration(block.seconds_left)} left"
        return self._running(words) | {self.curves: self._curves(comparison, points), self.result: ""}

    def _curves(self, comparison: Comparison, points: Points) -> Any:
        return gr.Plot(figures.curves(points, comparison.a, comparison.b, comparison.k), visible=True)

    def _partial(self, comparison: Comparison, points: Points, why: str) -> dict[Any, Any]:
        last = [(way, *reached[-1]) for way, reached in points.items()]
        shown = self._idle() | {self.result: views.partial(last, comparison, why)}
        return shown | ({self.curves: self._curves(comparison, points)} if points else {})

    def _done(self, record: Record) -> dict[Any, Any]:
        c = record.comparison
        points = {way: [(n, nats) for n, nats in record.result[way]["curve"]] for way in ("a_given_b", "b_given_a")}
        found = next((found for found in self.service.groups() if found.has(c)), None)
        chart = figures.chart(found, (c.a, c.b)) if found else None
        return self._idle() | {
            self.a_message: "",
            self.b_message: "",
            self.cost: "",
            self.curves: self._curves(c, points),
            self.result: views.result(record),
            self.place: gr.Plot(chart, visible=True) if chart else gr.Plot(visible=False),
            self.link: c.query,
        }


def visitor(request: gr.Request) -> str:
    """Return whose request it is: the address; in a Space, behind its proxy, the one that the proxy names."""
    forwarded = request.headers.get("x-forwarded-for", "") if os.environ.get("SPACE_ID") else ""
    return forwarded.partition(",")[0].strip() or (request.client.host if request.client else "")


def _is_example(pair: Comparison) -> bool:
    """Leave out pairs that are there for the map alone: of unlike architectures with random weights."""
    return "random:" not in pair.a + pair.b or pair.b == f"random:{pair.a}"


def _title(pair: Comparison) -> str:
    return f"{pair.a} ↔ {pair.b}"


def _failed(error: Refusal) -> Failed:
    return Failed(*in_public(error), error.field)


def _about(limits: Limits) -> str:
    lines = (
        f"- up to {limits.images:,} images, models of up to {limits.parameters / 1e6:.0f} million weights",
        f"- {limits.seconds / 60:.0f} minutes a run; at the end of them the page shows what there is so far",
        f"- one queue of {limits.waiting}, {limits.per_visitor} places for each visitor",
        f"- images of {', '.join(DATASETS)}",
    )
    return (HERE / "about.md").read_text(encoding="utf-8").replace("LIMITS", "\n".join(lines) + "\n")
