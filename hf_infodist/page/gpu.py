"""A GPU that is lent by the call (ZeroGPU of Spaces): the question is answered in the call that borrows it."""

import asyncio
import queue
import threading
from collections.abc import AsyncIterator, Callable, Generator, Iterator
from functools import cache
from importlib.util import find_spec
from typing import Any

from hf_infodist.page.events import Event, Failed, Stopped
from hf_infodist.page.request import Limits, Refusal
from hf_infodist.page.starts import Question
from hf_infodist.page.telling import told

_FLOPS = 5e12  # a second, of small batches; an H200 has a hundred times that for large ones
_START_SECONDS, _LEAST_SECONDS, _MOST_SECONDS = 15.0, 20, 120


def lent() -> bool:
    """Whether GPUs are lent here."""
    return find_spec("spaces") is not None


def duration(question: Question, limits: Limits) -> int:
    """Return for how many seconds to borrow the GPU, from the estimate's operations."""
    from hf_infodist.page.compute import check

    seconds = _START_SECONDS + check(question, limits).flops / _FLOPS
    return int(min(max(seconds, _LEAST_SECONDS), _MOST_SECONDS, limits.seconds))


async def answer(question: Question, limits: Limits, stopped: Callable[[], bool]) -> AsyncIterator[Event]:
    """Yield what happens on the way to a result; once stopped, it is no longer listened to and the GPU goes back."""
    events: Iterator[Event] = iter(())
    try:
        events = _borrowing()(question, limits)
        while (event := await asyncio.to_thread(next, events, None)) is not None:
            if stopped():
                yield Stopped("you stopped it")
                return
            yield event
    except Exception as error:  # no GPU is free, or the visitor's time on it is used up
        yield Failed("no GPU could be had", " ".join(str(error).split())[:200], "try again later")
    finally:
        if isinstance(events, Generator):
            events.close()


@cache
def _borrowing() -> Callable[[Question, Limits], Any]:
    import spaces

    return spaces.GPU(duration=duration)(_events)


class _Stop(Exception):
    """Nobody listens any more."""


def _events(question: Question, limits: Limits) -> Iterator[Event]:
    """Answer a question in a thread, and yield what it tells; it ends at its next event if nobody listens."""
    from hf_infodist.page.compute import answer

    events: queue.SimpleQueue[Event | None] = queue.SimpleQueue()
    unwanted = threading.Event()

    def tell(event: Event) -> None:
        if unwanted.is_set():
            raise _Stop
        events.put(event)

    def run() -> None:
        try:
            events.put(answer(question, limits, tell))
        except _Stop:
            pass
        except Exception as error:
            events.put(Failed(*told(error, limits), error.field if isinstance(error, Refusal) else ""))
        events.put(None)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    try:
        while (event := events.get()) is not None:
            yield event
    finally:
        unwanted.set()
        thread.join()
