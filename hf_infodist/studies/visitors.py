"""Many visitors of the page at once: errors, waiting, memory of the page.

``infodist study visitors [--visitors 50] [--seconds 60] [--pause 3] [--chromium FILE] [--output visitors.json]``

Starts the page on a store of its own. Each visitor, from an address of its own, opens the page and then compares the
demo pair again and again: in turn as it came with the page, and with a number of images that is new, for the queue.
Between two visits it reads for a moment; with ``--pause 0`` the crowd is as fast as the page lets it be.
With ``--chromium`` (and playwright) a browser opens the page meanwhile, and says when something was first painted.
"""

import asyncio
import collections
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median, quantiles
from typing import Annotated, Any

import typer

from hf_infodist.results.records import package_versions
from hf_infodist.studies import require
from hf_infodist.studies.report.options import File
from hf_infodist.studies.report.output import show_json

POLITE = ("the queue is full", "in the queue already")
_SERVE = """
import sys
from pathlib import Path
from hf_infodist.page.app import build_demo, serve
if __name__ == "__main__":
    serve(build_demo(Path(sys.argv[1])), server_port=int(sys.argv[2]), quiet=True)
"""


class Crowd:
    """Visitors and what happened to them.

    Args:
        address: Of the page.
        pid: Of its process.
        seconds: How long they stay.
        pause: Seconds between two visits of one.
    """

    def __init__(self, address: str, pid: int, seconds: float, pause: float):
        self.address, self.pid, self.pause, self.until = address, pid, pause, time.monotonic() + seconds
        self.outcomes: collections.Counter[str] = collections.Counter()
        self.opened: list[float] = []
        self.answered: list[float] = []
        self.memory: list[float] = []

    async def come(self, visitors: int) -> None:
        """Let them all come at once, and wait until the last one has gone."""
        await asyncio.gather(self._weigh(), *(self._visit(number) for number in range(visitors)))

    async def _visit(self, number: int) -> None:
        httpx = require("httpx", "show")
        headers = {"x-forwarded-for": f"10.0.{number // 250}.{number % 250 + 1}"}
        async with httpx.AsyncClient(base_url=self.address, headers=headers, timeout=300) as client:
            turn = 0
            while time.monotonic() < self.until:
                started = time.monotonic()
                (await client.get("/")).raise_for_status()
                self.opened.append(time.monotonic() - started)
                new = {"k": 16 + (7 * number + turn) % 400, "protocol": "standard", "seed": number}
                await self._compare(client, new if turn % 2 else {"k": 400, "protocol": "standard", "seed": 0})
                turn += 1
                await asyncio.sleep(self.pause)

    async def _compare(self, client: Any, asked: dict[str, Any]) -> None:
        """Ask as a program does, and note how it ended."""
        data = ["demo:cnn", "demo:vit", "digits", asked["k"], asked["protocol"], asked["seed"]]
        started, outcome = time.monotonic(), "no answer"
        call = await client.post("/gradio_api/call/compare", json={"data": data})
        if call.status_code != 200:
            self.outcomes[f"error: HTTP {call.status_code}"] += 1
            return
        kind = ""
        async with client.stream("GET", f"/gradio_api/call/compare/{call.json()['event_id']}") as stream:
            async for line in stream.aiter_lines():
                kind = line.removeprefix("event: ") if line.startswith("event: ") else kind
                if line.startswith("data: ") and kind in ("complete", "error"):
                    outcome = _outcome(kind, line)
                    break
        self.outcomes[outcome] += 1
        if outcome == "answered":
            self.answered.append(time.monotonic() - started)

    async def _weigh(self) -> None:
        while time.monotonic() < self.until:
            pages = int(Path(f"/proc/{self.pid}/statm").read_text().split()[1])
            self.memory.append(pages * os.sysconf("SC_PAGE_SIZE") / 2**20)
            await asyncio.sleep(1)


def _outcome(kind: str, line: str) -> str:
    if kind == "complete":
        return "answered"
    return "told that the queue is full" if any(words in line for words in POLITE) else f"error: {line[:200]}"


def first_paint(address: str, chromium: str, visits: int = 5) -> list[float]:
    """Return after how many seconds a browser first painted something, visit by visit, with an empty cache each."""
    sync_api = require("playwright.sync_api", "test")
    code = "performance.getEntriesByName('first-contentful-paint')[0]?.startTime"
    seconds = []
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu"])
        for _ in range(visits):
            page = browser.new_context().new_page()
            page.goto(address, wait_until="commit")
            page.wait_for_function(code, timeout=120_000)
            seconds.append(page.evaluate(code) / 1000)
            page.context.close()
        browser.close()
    return seconds


def measure_visits(visitors: int, seconds: float, pause: float, chromium: str | None, port: int) -> dict[str, Any]:
    """Start a page, let visitors come, and return the figures."""
    with tempfile.TemporaryDirectory() as store:
        (Path(store) / "page.py").write_text(_SERVE)
        words = [sys.executable, str(Path(store) / "page.py"), store, str(port)]
        server = subprocess.Popen(words, stdout=subprocess.DEVNULL)
        try:
            return asyncio.run(_measure(server, f"http://127.0.0.1:{port}", visitors, seconds, pause, chromium))
        finally:
            server.terminate()
            server.wait()


async def _measure(
    server: subprocess.Popen, address: str, visitors: int, seconds: float, pause: float, chromium: str | None
) -> dict[str, Any]:
    httpx = require("httpx", "show")
    async with httpx.AsyncClient(timeout=10) as client:
        while True:
            try:
                await client.get(address)
                break
            except httpx.TransportError:
                await asyncio.sleep(0.5)
    alone = await asyncio.to_thread(first_paint, address, chromium) if chromium else []
    crowd = Crowd(address, server.pid, seconds, pause)
    painting = asyncio.to_thread(first_paint, address, chromium) if chromium else asyncio.sleep(0, [])
    _, crowded = await asyncio.gather(crowd.come(visitors), painting)
    memory = crowd.memory
    return {
        "visitors": visitors,
        "seconds": seconds,
        "pause_seconds": pause,
        "outcomes": dict(crowd.outcomes),
        "errors": sum(count for outcome, count in crowd.outcomes.items() if outcome.startswith(("error", "no"))),
        "page_opened_seconds": _spread(crowd.opened),
        "answered_seconds": _spread(crowd.answered),
        "first_paint_seconds_alone": alone,
        "first_paint_seconds_in_the_crowd": crowded,
        "memory_mib": {"tenths": [memory[(len(memory) - 1) * i // 10] for i in range(11)], "most": max(memory)},
        "cores": os.cpu_count(),
        "versions": package_versions(),
    }


def _spread(values: list[float]) -> dict[str, float]:
    """Return number, median, 95th percentile and the largest."""
    if len(values) < 2:
        return {"number": len(values)}
    return {
        "number": len(values),
        "median": median(values),
        "percentile_95": quantiles(values, n=20)[-1],
        "most": max(values),
    }


def main(
    visitors: Annotated[int, typer.Option("--visitors", help="how many")] = 50,
    seconds: Annotated[float, typer.Option("--seconds", help="for how long")] = 60,
    pause: Annotated[float, typer.Option("--pause", help="seconds between two visits of one")] = 3,
    chromium: Annotated[str | None, typer.Option("--chromium", help="a browser, to measure the first paint")] = None,
    port: Annotated[int, typer.Option("--port", help="where the page listens")] = 7861,
    output: File = None,
) -> None:
    """Measure and print one JSON object."""
    show_json(measure_visits(visitors, seconds, pause, chromium, port), output)
