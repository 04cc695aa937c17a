"""The tab that compares two models: its boxes, what happens when they are used, and what is shown of the answer."""

import logging
import os
from collections.abc import AsyncIterator, Callable
from typing import Any

import gradio as gr

from hf_infodist.page import figures, views
from hf_infodist.page.boxes import AT_ONCE, EVENT, Boxes, buttons
from hf_infodist.page.chart import chart
from hf_infodist.page.events import Block, Done, Failed, Stage, Stopped, Waiting
from hf_infodist.page.records import Record, greeting, shipped
from hf_infodist.page.request import Comparison, Refusal, named, requested
from hf_infodist.page.service import Service
from hf_infodist.page.telling import told
from hf_infodist.results.words import to_bits

DIRECTIONS = {"a_given_b": "A given B", "b_given_a": "B given A"}
_WIDEST, _PADDING = 1240, 64  # pixels: of the page, and beside a picture
_BESIDE = 900  # pixels of the page from which on answers are beside boxes
_ANSWER = 0.6  # of the width of the page
Points = dict[str, list[tuple[int, float]]]
Shown = dict[Any, Any]
logger = logging.getLogger(__name__)


class CompareTab:
    """The tab, inside `gr.Tabs`.

    Args:
        service: Answers questions.
        link: Holds the permalink of what is shown.
        width: Holds the width of the page in pixels.
    """

    def __init__(self, service: Service, link: gr.Textbox, width: gr.Textbox):
        self.service, self.link, self.width = service, link, width
        self._wanted: dict[str, Comparison] = {}  # by window: what it costs is being worked out
        with gr.Row(elem_id="columns", equal_height=False):
            with gr.Column(elem_id="form"):
                self._form(greeting().comparison)
            with gr.Column(elem_id="answer"):
                self.status = gr.HTML(elem_id="status")
                self.result = gr.HTML(elem_id="result")
                self.curves = gr.Plot(label="What each direction has cost so far", visible=False, elem_id="curves")
                self.place = gr.Plot(
                    label="Its place among known models", visible=False, elem_id="place", elem_classes="clickable"
                )
            with gr.Column(elem_id="examples-column"):
                gr.Markdown("Examples, answered at once:", elem_id="examples-label")
                with gr.Row(elem_id="examples"):
                    pairs = [record.comparison for record in shipped() if _is_example(record.comparison)]
                    self.examples = [(gr.Button(_title(pair), size="sm", min_width=150), pair) for pair in pairs]

    def _form(self, first: Comparison) -> None:
        self.a, self.a_message = _model_box("A", first.a)
        self.b, self.b_message = _model_box("B", first.b)
        self.boxes = Boxes(self.service.limits)
        self.cost = gr.HTML(elem_id="cost")
        with gr.Row():
            self.go, self.halt = buttons("Compare")
            self.swap = gr.Button("Swap A and B", elem_id="swap", min_width=120)

    @property
    def asked_for(self) -> list[Any]:
        """The boxes, in the order of a `Comparison`."""
        return [self.a, self.b, *self.boxes.all]

    @property
    def answer(self) -> list[Any]:
        """All that an answer changes."""
        said = [self.a_message, self.b_message, self.cost, self.status]
        return [*said, self.result, self.curves, self.place, self.go, self.halt, self.swap, self.link, *self.asked_for]

    def wire(self, greeted: Any) -> None:
        """Say what happens when the boxes and buttons are used.

        Args:
            greeted: The event that greets a visitor; what is typed meanwhile goes before it.
        """
        asked, run = self.asked_for, [self.width, *self.asked_for]
        gr.on([self.go.click, self.a.submit, self.b.submit], self.compare, run, self.answer, **EVENT)
        self.halt.click(self.stop, **AT_ONCE)
        swap = self.swap.click(lambda a, b: (b, a), [self.a, self.b], [self.a, self.b], **AT_ONCE)
        for button, comparison in self.examples:
            fields = list(comparison.to_dict().values())
            button.click(lambda fields=fields: fields, None, asked, **AT_ONCE).then(
                self.compare, run, self.answer, **EVENT
            )
        # One event for all boxes, its last call waiting for the one before: no answer overtakes a later one. It is not
        # queued: Gradio closes its stream after an event, and may lose one that begins just then, as while one types.
        said, last = ([self.link, *asked], self.answer), AT_ONCE | {"trigger_mode": "always_last"}
        edited = [self.a.blur, self.b.blur, *(box.input for box in self.boxes.all)]
        for edit in (
            swap.then(self.consider, *said, **last),
            gr.on(edited, self.consider, *said, cancels=[greeted], **last),
        ):
            edit.then(self.check, None, self.answer, **last)

    # What happens

    async def consider(self, request: gr.Request, link: str, *values: Any) -> Shown:
        """Say what can be said at once of what the boxes ask for; an answer to another question goes."""
        self._wanted.pop(window(request), None)
        asked = named(*values)
        if asked and asked.query == link:
            return self._said("")  # its answer is there
        if asked and (asked.a == asked.b or self.service.find(asked)):
            return self._said("This pair has been measured before: the answer comes at once.") | self._cleared()
        try:
            comparison = requested(*values, limits=self.service.limits)
        except Refusal as error:
            return self._wrong(self._failed(error)) | self._cleared()
        # A window that is closed before its check begins leaves its comparison here.
        self._wanted = dict(list(self._wanted.items())[-500:]) | {window(request): comparison}
        return self._said("Working out what this costs …") | self._cleared()

    async def check(self, request: gr.Request) -> Shown:
        """Say what the considered comparison costs, or why it cannot be done; nothing if the window has gone on."""
        comparison = self._wanted.get(window(request))
        event = await self.service.check(comparison) if comparison else None
        if event is None or self._wanted.get(window(request)) != comparison:
            return gr.skip()
        del self._wanted[window(request)]
        if isinstance(event, Failed):
            return self._wrong(event)
        if isinstance(event, Stopped):
            return self._said("What this costs could not be worked out in time.")
        return self._said("") | {self.cost: views.cost(event)}

    async def compare(self, request: gr.Request, width: str, *values: Any) -> AsyncIterator[Shown]:
        """Compare, showing how it goes."""
        self._wanted.pop(window(request), None)
        known = self._known(values)
        try:
            comparison = requested(*values, limits=self.service.limits)
        except Refusal as error:
            yield self.done(known, width) if known else self._wrong(self._failed(error)) | self._cleared()
            return
        if comparison.a == comparison.b:
            yield self._same(comparison)
            return
        yield self._said("") | self._cleared() | self._running("Beginning …") | {self.link: comparison.query}
        points: Points = {}
        async for event in self.service.ask(comparison, visitor(request), window(request)):
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
                    shown = self.done(known, width) if known else self._idle() | self._cleared()
                    yield shown | self._wrong(event)
                case Done():
                    yield self.done(Record.from_dict(event.record), width)

    async def stop(self, request: gr.Request) -> None:
        """End this window's comparison."""
        self.service.stop(window(request))

    async def show_known(self, request: gr.Request, width: str, *values: Any) -> AsyncIterator[Shown]:
        """Show what is known of a pair: everything that is stored opens, whatever may be asked for here."""
        if record := self._known(values):
            yield self.done(record, width)
        else:
            yield await self.consider(request, "", *values)
            yield await self.check(request)

    def _known(self, values: Any) -> Record | None:
        asked = named(*values)
        return self.service.find(asked) if asked and asked.a != asked.b else None

    # What is shown

    def _said(self, words: str) -> Shown:
        return {
            self.a_message: "",
            self.b_message: "",
            self.cost: words and f'<p class="cost">{views.safe(words)}</p>',
        }

    def _wrong(self, failed: Failed) -> Shown:
        boxes = {"a": self.a_message, "b": self.b_message}
        return self._said("") | {boxes.get(failed.field, self.cost): views.message(failed)}

    def _failed(self, error: Refusal) -> Failed:
        return Failed(*told(error, self.service.limits), error.field)

    def _cleared(self) -> Shown:
        """Show no answer: none may stand under another question, or under an error."""
        hidden = gr.Plot(None, visible=False)
        return {self.status: "", self.result: "", self.curves: hidden, self.place: hidden, self.link: ""}

    def _idle(self, *, running: bool = False) -> Shown:
        """Show that boxes may be changed, or that an answer to what they say is on its way."""
        go, halt = gr.Button(visible=not running), gr.Button(visible=running)
        locked = {box: type(box)(interactive=not running) for box in (*self.asked_for, self.swap)}
        return {self.status: "", self.go: go, self.halt: halt} | locked

    def _running(self, words: str) -> Shown:
        return self._idle(running=True) | {self.status: f'<p class="progress">{views.safe(words)}</p>'}

    def _moved(self, comparison: Comparison, points: Points, block: Block) -> Shown:
        direction, images = DIRECTIONS[block.direction], f"{block.images} of {comparison.k} images"
        priced = f"{direction}: {images} priced, {to_bits(block.nats):.1f} bits so far"
        words = f"{priced}, about {views.duration(block.seconds_left)} left"
        return self._running(words) | {self.curves: drawn(figures.curves, points, comparison)}

    def _partial(self, comparison: Comparison, points: Points, why: str) -> Shown:
        last = [(way, *reached[-1]) for way, reached in points.items()]
        shown = self._idle() | {self.result: views.partial(last, comparison, why)}
        return shown | ({self.curves: drawn(figures.curves, points, comparison)} if points else {})

    def _same(self, comparison: Comparison) -> Shown:
        shown = {self.result: views.same(comparison.a), self.link: comparison.query}
        return self._idle() | self._said("") | self._cleared() | shown

    def done(self, record: Record, width: str, *, brief: bool = False) -> Shown:
        """Show an answer.

        Args:
            record: What is known.
            width: Of the page, in pixels.
            brief: Whether to show one sentence and one picture only.
        """
        c = record.comparison
        shown = self._idle() | self._said("") | self._cleared() | {self.link: c.query}
        shown[self.result] = views.result(record, brief=brief)
        if brief:
            return shown
        points = {way: [(n, nats) for n, nats in record.result[way]["curve"]] for way in DIRECTIONS}
        found = next((found for found in self.service.groups() if found.has(c)), None)
        place = drawn(chart, found, (c.a, c.b), pixels(width, answer=True)) if found else gr.Plot(None, visible=False)
        return shown | {self.curves: drawn(figures.curves, points, c), self.place: place}


def drawn(draw: Callable[..., Any], *arguments: Any) -> gr.Plot:
    """Return a picture; hidden where it cannot be drawn, for an answer stands without it."""
    try:
        figure = draw(*arguments)
    except Exception:
        logger.exception("%s has failed", draw.__qualname__)
        figure = None
    return gr.Plot(figure, visible=figure is not None)


def pixels(width: str, *, answer: bool = False) -> float:
    """Return the width of a picture on a page of some width, as the browser says it.

    Args:
        width: In pixels.
        answer: Whether the picture is a part of an answer, which has a column of its own where there is room.
    """
    page = float(width[:5]) if width[:5].isdecimal() else _WIDEST
    return min(page, _WIDEST) * (_ANSWER if answer and page >= _BESIDE else 1.0) - _PADDING


def visitor(request: gr.Request) -> str:
    """Return whose request it is: the address; in a Space, behind its proxy, the one that the proxy names."""
    forwarded = request.headers.get("x-forwarded-for", "") if os.environ.get("SPACE_ID") else ""
    return forwarded.partition(",")[0].strip() or (request.client.host if request.client else "")


def window(request: gr.Request) -> str:
    """Return which of a visitor's windows a request is from."""
    return request.session_hash or visitor(request)


def _model_box(letter: str, value: str) -> tuple[gr.Textbox, gr.HTML]:
    name = letter.lower()
    with gr.Column(elem_classes="model", min_width=200):
        box = gr.Textbox(
            value, label=f"Model {letter}", elem_id=name, placeholder="org/name", max_lines=1, max_length=1000
        )
        return box, gr.HTML(elem_id=f"{name}-message")


def _is_example(pair: Comparison) -> bool:
    """Leave out pairs that are there for the map alone: of unlike architectures with random weights."""
    return "random:" not in pair.a + pair.b or pair.b == f"random:{pair.a}"


def _title(pair: Comparison) -> str:
    return f"{pair.a} ↔ {pair.b}"
