"""What the user sees: results on standard output; progress, messages and errors on standard error."""

import codecs
import io
import json
import logging
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hf_infodist.errors import InfodistError, ResourceError, UsageError, refused_by_system


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
    print(json.dumps(fields) if as_json else text, flush=True)
    if output:
        output.write_text(json.dumps(fields, indent=2) + "\n")


def check_file(path: Path | None) -> None:
    """Raise a `UsageError` if a file that is to be written cannot be: nothing has been computed yet."""
    if path is None:
        return
    if path.is_dir():
        raise UsageError(
            f"{path} is a folder", "a file is to be written there", f"name a file, such as {path}/out.json"
        )
    _check_writable(path, path.parent)


def check_folder(path: Path | None) -> None:
    """Raise a `UsageError` if a folder that is to be made, if need be, and filled cannot be."""
    if path is None:
        return
    if path.exists() and not path.is_dir():
        raise UsageError(f"{path} is a file", "a folder is to be filled there", "name another folder")
    there = next(parent for parent in (path, *path.absolute().parents) if parent.exists())
    _check_writable(path, there)


def _check_writable(path: Path, folder: Path) -> None:
    if not folder.is_dir():
        what, why = f"{path} cannot be written", f"there is no folder {folder}"
        raise UsageError(what, why, f"type mkdir -p {folder} first, or name another place")
    if not os.access(path if path.exists() else folder, os.W_OK):
        why = "this user may not write there, or nobody may"
        raise UsageError(f"{path} cannot be written", why, "name another place")


def speak_plainly() -> None:
    """Let a terminal that knows few characters show others for those that it lacks, rather than nothing at all."""
    codecs.register_error("plainly", _plainly)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="plainly")


_PLAIN = {"±": "+-", "↓": "v", "↑": "^", "→": "->", "↔": "<->", "×": "x", "…": "...", "–": "-", "‖": "||", "∅": "0"}


def _plainly(error: UnicodeError) -> tuple[str, int]:
    """Return what stands for characters that a coding lacks, and where to go on (an error handler of codecs)."""
    assert isinstance(error, UnicodeEncodeError)
    return "".join(_PLAIN.get(one, "?") for one in error.object[error.start : error.end]), error.end


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

    error = error if isinstance(error, InfodistError) else refused_by_system(error) or error
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
