"""Where questions come in: known answers at once, the others in a queue for the process that computes."""

from collections.abc import AsyncIterator, Callable
from pathlib import Path

from hf_infodist.errors import ResourceError
from hf_infodist.home import Home
from hf_infodist.page import gpu
from hf_infodist.page.atlases import Atlases
from hf_infodist.page.events import Checked, Done, Event, Failed, Stopped, Waiting
from hf_infodist.page.job_process import JobProcess
from hf_infodist.page.matrices import Group, known_groups, stored_record
from hf_infodist.page.placing import Mapping, Placing
from hf_infodist.page.records import Record, Records
from hf_infodist.page.request import Comparison, Limits
from hf_infodist.page.starts import AnyQuestion
from hf_infodist.page.telling import told
from hf_infodist.page.waiting import WaitingList

_CHECK_SECONDS = 120.0


class Service:
    """Answers the page and the API.

    Args:
        limits: What is given to a visitor.
        home: Store folder: codelengths are read there, records of the page written.
        atlas: Folder of an atlas that the page offers, beside those that came with it.
    """

    def __init__(self, limits: Limits, home: Path, atlas: str = ""):
        self.limits, self.store, self.records = limits, Home(home).codelengths, Records(Home(home).pages)
        self.atlases = Atlases(limits, Home(home).pages, atlas)
        self.waiting = WaitingList(limits.waiting, limits.per_visitor)
        self._computing, self._checking = JobProcess(limits, home), JobProcess(limits, home)
        self._checked: dict[Comparison, Checked] = {}

    def start(self) -> None:
        """Start the processes, so that their libraries are loaded before the first visitor asks."""
        for worker in (self._computing, self._checking):
            worker.start()

    def close(self) -> None:
        """End the processes."""
        for worker in (self._computing, self._checking):
            worker.close()

    def find(self, comparison: Comparison) -> Record | None:
        """Return what is known of a comparison, in either order of its models, without computing anything."""
        if record := self.records.find(comparison) or stored_record(self.store, comparison):
            return record
        record = self.records.find(comparison.swapped())
        return record and record.swapped()

    async def check(self, comparison: Comparison) -> Checked | Failed | Stopped:
        """Return what a comparison would cost, or why it cannot be done."""
        known = self._checked.get(comparison)
        if known is not None:
            return known
        async for event in self._checking.do("check", comparison, seconds=_CHECK_SECONDS):
            if isinstance(event, Checked):
                self._checked = {**dict(list(self._checked.items())[-500:]), comparison: event}
            if isinstance(event, Checked | Failed | Stopped):
                return event
        raise AssertionError("a job ends with an event")

    async def ask(self, question: AnyQuestion, visitor: str, session: str) -> AsyncIterator[Event]:
        """Yield what happens on the way to a result, and the result.

        Args:
            question: What is asked.
            visitor: Who asks; each has a few places in the queue.
            session: From which window: `stop` takes it.
        """
        if known := self._known(question):
            yield known
            return
        try:
            ticket = self.waiting.enter(visitor, session)
        except ResourceError as error:
            yield Failed(*told(error, self.limits))
            return
        try:
            async for ahead in self.waiting.turn(ticket):
                yield Waiting(ahead)
            if ticket.stopped:
                yield Stopped("you stopped it")
            elif known := self._known(question):  # somebody before has asked the same
                yield known
            else:
                async for event in self._compute(question, lambda: ticket.stopped):
                    if isinstance(event, Done) and isinstance(question, Comparison):
                        self.records.save(Record.from_dict(event.record))
                    yield event
        finally:
            self.waiting.leave(ticket)

    def _known(self, question: AnyQuestion) -> Done | None:
        """Return the record of a comparison; what labels cost is in the store, where their images are compared too."""
        if isinstance(question, Placing):
            known = self.atlases.find(question)
            return Done(known) if known else None
        record = self.records.find(question) if isinstance(question, Comparison) else None
        return Done(record.to_dict()) if record else None

    def _compute(self, question: AnyQuestion, stopped: Callable[[], bool]) -> AsyncIterator[Event]:
        if gpu.lent() and not isinstance(question, Placing | Mapping):  # no images but its own
            return gpu.answer(question, self.limits, stopped)
        return self._computing.do(question.what, question, stopped=stopped, seconds=self.limits.seconds)

    def groups(self) -> list[Group]:
        """Return which distances are known, by what they may be compared with."""
        return known_groups(self.records, self.store)

    def stop(self, session: str) -> None:
        """End what a window has asked for; what there is so far stays in the window."""
        self.waiting.stop(session)
