"""What the user sees: results on standard output; progress, messages and errors on standard error."""

import codecs
import io
import json
import logging
import os
import shutil
import sys
import textwrap
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hf_infodist.cli.formats import Format
from hf_infodist.errors import InfodistError, UsageError, refused_by_system
from hf_infodist.table import Layout, laid_out

_format: Format = "human"  # of this command


def speak_as(format: Format) -> None:
    """Print results from here on in a format that is not ``auto``."""
    global _format
    _format = format


def interactive() -> bool:
    """Tell whether somebody watches: whether to draw bars."""
    return sys.stderr.isatty() and speaks() and _format in ("human", "json")


def speaks() -> bool:
    """Of several processes the first speaks."""
    return os.environ.get("RANK", "0") == "0"


def say(message: str) -> None:
    """Print a message on standard error, above a bar if there is one; nothing where only the result is wanted."""
    if not speaks() or _format == "quiet":
        return
    width = shutil.get_terminal_size().columns if sys.stderr.isatty() else None
    message = "\n".join(_filled(line, width) for line in message.split("\n"))
    if "tqdm" in sys.modules and interactive():
        from tqdm import tqdm

        tqdm.write(message, file=sys.stderr)
    else:
        print(message, file=sys.stderr)


def hint(message: str) -> None:
    """Say what to type next, to somebody who sits before the terminal."""
    if _format == "human" and interactive() and sys.stdout.isatty():
        say(f"Hint: {message}")


def agrees(question: str) -> bool:
    """Ask, and return whether the answer is yes; where nobody can be asked, it is."""
    if not (interactive() and sys.stdin.isatty()):
        return True
    print(f"{question} [y/N] ", end="", file=sys.stderr, flush=True)
    return sys.stdin.readline().strip().lower() in ("y", "yes")


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


@contextmanager
def silent(logger: str) -> Iterator[None]:
    """Let a part of the package warn, and say nothing else."""
    speaker = logging.getLogger(logger)
    level = speaker.level
    speaker.setLevel(logging.WARNING)
    try:
        yield
    finally:
        speaker.setLevel(level)


def show(fields: dict[str, Any], text: Callable[[], str], brief: str, output: Path | None = None) -> None:
    """Print a result in the format of this command, and write it to a file.

    Args:
        fields: Its JSON types.
        text: Makes the text for people, or for agents: then its tables are parted by tabs.
        brief: The number or the names alone.
        output: A file that receives the JSON.
    """
    if not speaks():
        return
    if _format == "json":
        print(json.dumps(fields), flush=True)
    elif _format == "quiet":
        print(brief, flush=True)
    else:
        print_text(text)
    if output:
        write_json(fields, output)


def print_text(text: Callable[[], str]) -> None:
    """Print a text on standard output, as wide as the terminal, unless JSON or the least is wanted."""
    if speaks() and _format in ("human", "agent"):
        width = shutil.get_terminal_size().columns if sys.stdout.isatty() and _format == "human" else None
        with laid_out(Layout(width, tabs=_format == "agent")):
            print("\n".join(_filled(line, width) for line in text().splitlines()), flush=True)


def write_json(fields: dict[str, Any], file: Path) -> None:
    """Write a result to a file, and say so."""
    if speaks():
        file.write_text(json.dumps(fields, indent=2) + "\n")
        say(f"wrote {file}")


def _filled(line: str, width: int | None) -> str:
    """Break a line between words where it is longer than the terminal is wide."""
    if width is None or len(line) <= width:
        return line
    indent = " " * (len(line) - len(line.lstrip()))
    return textwrap.fill(line, width, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False)


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


def duration(seconds: float) -> str:
    """Return a time as text."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def interrupted() -> int:
    """Say what an interrupted command has kept; return the exit code."""
    from hf_infodist.home import infodist_home

    if "RANK" not in os.environ:  # several workers are spoken for by the process that has started them
        say(f"\ninterrupted: what was finished is kept in {infodist_home()}")
        say("type the same command again to go on from there")
    return 130


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
