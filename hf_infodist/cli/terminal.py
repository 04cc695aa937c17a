"""What the user sees: results on standard output; progress, messages and errors on standard error."""

import json
import logging
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hf_infodist.errors import InfodistError, ResourceError


def interactive() -> bool:
    """Tell whether somebody watches: whether to draw bars."""
    return sys.stderr.isatty() and speaks()


def speaks() -> bool:
    """Of several processes the first speaks."""
    return os.environ.get("RANK", "0") == "0"


def say(message: str) -> None:
    """Print a message on standard error."""
    if speaks():
        print(message, file=sys.stderr)


class Messages(logging.Handler):
    """What the package logs, as lines on standard error."""

    def emit(self, record: logging.LogRecord) -> None:
        """Print one message."""
        say(record.getMessage())


def log_to_standard_error() -> None:
    """Show what the package logs."""
    log = logging.getLogger("hf_infodist")
    log.setLevel(logging.INFO)
    if not log.handlers:
        log.addHandler(Messages())


def show(fields: dict[str, Any], text: str, as_json: bool, output: Path | None = None) -> None:
    """Print a result as text or JSON, and write it to a file."""
    if not speaks():
        return
    if output:
        output.write_text(json.dumps(fields, indent=2) + "\n")
    print(json.dumps(fields) if as_json else text)


def print_lines(lines: Sequence[str]) -> None:
    """Print lines on standard output, as soon as they are known."""
    for line in lines:
        print(line, flush=True)


def duration(seconds: float) -> str:
    """Return a time as text."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def report(error: Exception) -> int:
    """Print an error in three lines; return the exit code."""
    from hf_infodist.processes import reports_error

    what, why, fix = (
        (error.what, error.why, error.fix)
        if isinstance(error, InfodistError)
        else (
            f"{type(error).__name__}: {error}".splitlines()[0],
            "this is a case that infodist does not know yet",
            "run the same command with --debug, and report what it prints with the output of 'infodist env'",
        )
    )
    if reports_error():
        print(f"error: {what}", why, fix, sep="\n", file=sys.stderr)
    return error.exit_code if isinstance(error, InfodistError) else 1


class Progress:
    """A bar on standard error: images priced, nats so far, time left."""

    def __init__(self, total: int, time_limit: float | None = None):
        from tqdm import tqdm

        self.bar = tqdm(total=total, unit="image", disable=not interactive(), file=sys.stderr)
        self.limit, self.started = time_limit, time.monotonic()
        self.done = self.before = 0

    def __enter__(self) -> "Progress":
        return self

    def __exit__(self, *error: object) -> None:
        self.bar.close()

    def __call__(self, direction: str, images: int, nats: float) -> None:
        """Show where a direction stands, and stop when the time is up."""
        new = images - self.before if images > self.before else images  # fewer than before: a new direction or order
        self.done, self.before = self.done + new, images
        self.bar.set_description(direction.replace("_", " "), refresh=False)
        self.bar.set_postfix_str(f"{nats:.1f} nats", refresh=False)
        self.bar.update(new)
        if self.limit and time.monotonic() - self.started > 60 * self.limit:
            raise ResourceError(
                f"stopped after {self.done} of {self.bar.total} images ({nats:.1f} nats in {direction})",
                f"the time limit of {duration(60 * self.limit)} is over",
                "type the same command again to go on from there, with a higher --time-limit or none",
            )
