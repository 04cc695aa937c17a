"""The page's side of the process that computes."""

import asyncio
import contextlib
import itertools
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import asdict
from pathlib import Path

from hf_infodist.page.events import Checked, Done, Event, Failed, Stopped, from_line
from hf_infodist.page.request import Limits
from hf_infodist.page.starts import AnyQuestion

_ENDS = (Checked, Done, Failed, Stopped)
_GRACE_SECONDS = 8.0  # between asking a job to stop and ending its process


class JobProcess:
    """One process that does one job at a time; ended and started anew if a job does not stop when asked.

    Args:
        limits: What is given to a job.
        home: Store folder.
    """

    def __init__(self, limits: Limits, home: Path):
        self.limits, self.home = limits, home
        self._numbers = itertools.count()
        self._busy = asyncio.Lock()
        self._folder = tempfile.TemporaryDirectory(prefix="infodist-", ignore_cleanup_errors=True)
        self._process: subprocess.Popen[str] | None = None
        self._line: asyncio.Future[str] | None = None

    def start(self) -> None:
        """Start the process, unless it is there. In public it works in an empty folder: no name leads to a file."""
        if self._process is None or self._process.poll() is not None:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "hf_infodist.page.job_server"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                cwd=self._folder.name if self.limits.public else None,
                env=_environment(self.home),
                start_new_session=True,  # Ctrl-C is for the page, whose end is theirs
            )
            self._line = None
            self._send(asdict(self.limits))

    def close(self) -> None:
        """End the process."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            for pipe in (self._process.stdin, self._process.stdout):
                with contextlib.suppress(OSError):
                    assert pipe is not None
                    pipe.close()
            self._process = None

    async def do(
        self, what: str, question: AnyQuestion, *, stopped: Callable[[], bool] = lambda: False, seconds: float
    ) -> AsyncIterator[Event]:
        """Do a job and yield what happens; the last event is the result, or why there is none.

        Args:
            what: ``check``, or the `what` of a question, which is to be answered.
            question: What was asked.
            stopped: Whether the job is no longer wanted.
            seconds: Its time budget.
        """
        async with self._busy:
            self.start()
            number, end = next(self._numbers), False
            self._send({"number": number, "what": what, "kind": question.what, "question": question.to_dict()})
            try:
                async for event in self._events(number, stopped, seconds):
                    end = isinstance(event, _ENDS)
                    yield event
            finally:
                if not end:
                    self._send({"number": number, "what": "stop"})

    async def _events(self, number: int, stopped: Callable[[], bool], seconds: float) -> AsyncIterator[Event]:
        budget, asked, why = time.monotonic() + seconds, 0.0, "you stopped it"
        while True:
            now = time.monotonic()
            if not asked and (stopped() or now > budget):
                why = "you stopped it" if stopped() else f"its time of {seconds / 60:.0f} min is over"
                self._send({"number": number, "what": "stop"})
                asked = now
            if asked and now - asked > _GRACE_SECONDS:
                self.close()
                self.start()
                yield Stopped(why)
                return
            line = await self._next_line()
            if line == "":
                self.close()
                fix = "try smaller models, fewer images or the protocol standard"
                yield Failed(
                    "this comparison could not go on", "its process ended; it may have run out of memory", fix
                )
                return
            if line is not None and line.partition(" ")[0] == str(number):
                event = from_line(line.partition(" ")[2])
                yield Stopped(why) if isinstance(event, Stopped) else event
                if isinstance(event, _ENDS):
                    return

    async def _next_line(self, seconds: float = 0.25) -> str | None:
        """Return the next line, None if there is none yet, an empty one if there will be none."""
        assert self._process is not None and self._process.stdout is not None
        if self._line is None:
            self._line = asyncio.ensure_future(asyncio.to_thread(self._process.stdout.readline))
        await asyncio.wait({self._line}, timeout=seconds)
        if not self._line.done():
            return None
        line, self._line = self._line.result(), None
        return line

    def _send(self, job: dict) -> None:
        assert self._process is not None and self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # it has ended: the next line says so
            self._process.stdin.write(json.dumps(job) + "\n")
            self._process.stdin.flush()


def _environment(home: Path) -> dict[str, str]:
    """Return this process's environment, for computing on one thread."""
    return os.environ | {"INFODIST_HOME": str(home.absolute()), "OMP_NUM_THREADS": "1"}
