"""Files on their way into a folder: they get their names when they are whole, and do not stay when a writer dies."""

import os
import re
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

FORGOTTEN_SECONDS = 3600.0
"""Age at which what a writer has not finished is a dead writer's: writing one takes seconds."""

_PART = re.compile(r"\.[0-9a-f]{32}\.(part|clock)")  # clocks are those of claims


@contextmanager
def part_of(folder: Path) -> Iterator[Path]:
    """Yield a path for a file that is to be renamed or linked when it is whole; what is left of it is removed."""
    new = folder / f".{uuid.uuid4().hex}.part"
    try:
        yield new
    finally:
        new.unlink(missing_ok=True)


def remove_forgotten(folder: Path) -> None:
    """Remove what dead writers have left half-written in a folder, by the clock of the folder."""
    found = [path for path in folder.glob(".*") if _PART.fullmatch(path.name)]
    with part_of(folder) as probe:
        probe.touch()
        now = probe.stat().st_mtime
    for path in found:
        with suppress(OSError):  # somebody has finished or removed it this moment
            if path.is_file() and now - path.lstat().st_mtime > FORGOTTEN_SECONDS:
                path.unlink()


def flush(path: Path) -> None:
    """Make the contents of a file survive a power cut."""
    with path.open("rb") as file:
        os.fsync(file.fileno())


def leads_out(path: Path, folder: Path) -> bool:
    """Tell whether links lead from a path to somewhere outside of a folder."""
    return not Path(os.path.realpath(path)).is_relative_to(os.path.realpath(folder))
