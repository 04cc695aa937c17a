"""What the tabs share that ask one question after the other, and show each answer as it comes."""

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import gradio as gr

from hf_infodist.page import views
from hf_infodist.page.boxes import AT_ONCE, Boxes, buttons
from hf_infodist.page.compare_tab import Shown, visitor, window
from hf_infodist.page.events import Block, Done, Failed, Stage, Stopped, Waiting
from hf_infodist.page.request import Refusal
from hf_infodist.page.service import Service
from hf_infodist.page.starts import AnyQuestion
from hf_infodist.page.telling import told

_OF_ALL = ("images", "k", "protocol", "seed", "label")  # boxes that all questions share: no other would be answered


@dataclass
class Answers:
    """What has come so far.

    Attributes:
        asked: All questions.
        done: Fields of records.
        failed: Why others could not be answered, by the name of the model.
        over: Whether no more will come.
    """

    asked: Sequence[Any]
    done: list[dict[str, Any]] = field(default_factory=list)
    failed: dict[str, Failed] = field(default_factory=dict)
    over: bool = False

    @property
    def left(self) -> int:
        """How many are still to come."""
        return len(self.asked) - len(self.done) - len(self.failed)


class ManyTab:
    """A tab, inside `gr.Tabs`.

    Args:
        service: Answers questions.
        name: Before the names of its elements.
    """

    boxes: Boxes
    asked: list[Any]

    def __init__(self, service: Service, name: str):
        self.service, self.name = service, name

    def show(self, answers: Answers) -> Shown:
        """Return what is shown of the answers so far."""
        raise NotImplementedError

    def clear(self) -> Shown:
        """Show no answer."""
        return {self.message: "", self.result: ""}

    def foot(self, box: str, go: str) -> None:
        """Make what is below the boxes: what is wrong with them, the buttons, how it goes, and the answer.

        Args:
            box: Beside which errors are told.
            go: On the button that begins.
        """
        self.message = gr.HTML(elem_id=f"{self.name}-{box}-message")
        with gr.Row():
            self.go, self.halt = buttons(go, f"{self.name}-")
        self.status, self.result = gr.HTML(elem_id=f"{self.name}-status"), gr.HTML(elem_id=f"{self.name}-result")
        self.halt.click(self._stop, **AT_ONCE)

    @property
    def shown(self) -> list[Any]:
        """All that an answer changes."""
        return [self.message, self.status, self.result, self.go, self.halt, *self.asked]

    async def ask(
        self, request: gr.Request, questions: Sequence[AnyQuestion], answers: Answers
    ) -> AsyncIterator[Shown]:
        """Ask questions, showing each answer as it comes.

        Args:
            request: Whose they are.
            questions: Those whose answers are not known.
            answers: What is known; the others are added.
        """
        known = self.show(answers) if answers.done else {}
        yield self._idle(running="Beginning …") | self.clear() | known
        for question in questions:
            *_, name = question.models.values()
            async for event in self.service.ask(question, visitor(request), self._window(request)):
                match event:
                    case Waiting():
                        yield self._idle(running=f"{name}: others are first, {event.ahead} before you.")
                    case Stage():
                        yield self._idle(running=f"{name}: {event.text} …")
                    case Block():
                        yield self._idle(running=f"{name}: {event.images} of {question.k} images priced …")
                    case Stopped():
                        answers.over = True
                        yield self._idle() | self.show(answers) | {self.status: progress(f"Stopped: {event.why}.")}
                        return
                    case Failed() if event.field in _OF_ALL:
                        yield self.wrong(event)
                        return
                    case Failed():
                        answers.failed[name] = event
                    case Done():
                        answers.done.append(event.record)
            yield self.show(answers)
        answers.over = True
        yield self._idle() | self.show(answers)

    def refused(self, error: Refusal) -> Shown:
        """Say why nothing can be asked."""
        return self.wrong(Failed(*told(error, self.service.limits), error.field))

    def wrong(self, failed: Failed) -> Shown:
        """Say why no question can be answered; no answer may stand under that."""
        return self._idle() | self.clear() | {self.message: views.message(failed)}

    def _idle(self, *, running: str = "") -> Shown:
        """Show that boxes may be changed, or what is being done."""
        locked = {box: type(box)(interactive=not running) for box in self.asked}
        buttons = {self.go: gr.Button(visible=not running), self.halt: gr.Button(visible=bool(running))}
        return {self.status: running and progress(running)} | buttons | locked

    def _window(self, request: gr.Request) -> str:
        return f"{self.name} {window(request)}"

    async def _stop(self, request: gr.Request) -> None:
        self.service.stop(self._window(request))


def progress(words: str) -> str:
    """Return what is being done, as HTML."""
    return f'<p class="progress">{views.safe(words)}</p>'
