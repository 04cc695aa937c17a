"""The process that computes for the page: jobs come in as lines of JSON, events go out as lines of JSON.

A process of its own keeps the page quick while models learn, is stopped at the end of a block or else ended, and takes
its memory with it. ``python -m hf_infodist.page.job_server`` is started by `job_process.JobProcess`.
"""

import json
import os
import queue
import sys
import threading
from typing import Any, TextIO

from hf_infodist.environment import keep_freed_memory, set_environment
from hf_infodist.page.events import Block, Event, Failed, Stage, Stopped, to_line
from hf_infodist.page.placing import Mapping, Placing
from hf_infodist.page.request import Limits, Refusal
from hf_infodist.page.starts import AnyQuestion, question_of
from hf_infodist.page.telling import told


class _Stop(Exception):
    """The job is no longer wanted."""


class JobServer:
    """Does one job after the other.

    Args:
        limits: What is given to a job.
        out: Where events go.
    """

    def __init__(self, limits: Limits, out: TextIO):
        self.limits, self.out = limits, out
        self.unwanted: set[int] = set()

    def do(self, number: int, what: str, question: AnyQuestion) -> None:
        """Do a job, and tell of it under its number; its last event is its end."""

        def tell(event: Event) -> None:
            if isinstance(event, Block | Stage) and number in self.unwanted:
                raise _Stop
            self.out.write(f"{number} {to_line(event)}\n")
            self.out.flush()

        try:
            tell(self._done(what, question, tell))
        except _Stop:
            tell(Stopped("it was no longer wanted"))
        except Exception as error:
            sys.stderr.write(f"{what} of {question}: {type(error).__name__}: {error}\n")
            tell(Failed(*told(error, self.limits), error.field if isinstance(error, Refusal) else ""))
        self.unwanted.discard(number)

    def _done(self, what: str, question: AnyQuestion, tell: Any) -> Event:
        from hf_infodist.page import atlas_jobs, compute, eviction

        if isinstance(question, Placing | Mapping):
            return atlas_jobs.answer(question, self.limits, tell)
        if what == "check":
            return compute.check(question, self.limits)
        if self.limits.disk_bytes is not None:
            eviction.evict_oldest(self.limits.disk_bytes)
        return compute.answer(question, self.limits, tell)


def main() -> None:
    """Serve jobs until standard input ends."""
    out = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what libraries print is no event
    if hasattr(os, "nice"):
        os.nice(10)  # the page comes first
    set_environment()
    keep_freed_memory()
    server = JobServer(Limits(**json.loads(sys.stdin.readline())), out)
    jobs: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()
    threading.Thread(target=_read, args=(server, jobs), daemon=True).start()
    from hf_infodist.page import compute  # noqa: F401  heavy: done before the first visitor asks

    while True:
        job = jobs.get()
        server.do(job["number"], job["what"], question_of(job["kind"], job["question"]))


def _read(server: JobServer, jobs: "queue.SimpleQueue[dict[str, Any]]") -> None:
    for line in sys.stdin:
        job = json.loads(line)
        if job["what"] == "stop":
            server.unwanted.add(job["number"])
        else:
            jobs.put(job)
    os._exit(0)  # the page is gone


if __name__ == "__main__":
    main()
