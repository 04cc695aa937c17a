"""Room on disk: the oldest outputs and checkpoints go first; codelengths and records stay."""

import shutil
from pathlib import Path

from hf_infodist.home import Home


def evict_oldest(most_bytes: int, home: Path | None = None) -> None:
    """Delete the oldest outputs and checkpoints until the rest takes no more than ``most_bytes``.

    Args:
        most_bytes: What may stay.
        home: Store folder; `Home.at` if None.
    """
    place = Home.at(home)
    entries = [entry for folder in (place.outputs, place.runs) for entry in folder.glob("*")]
    sizes = {entry: _size(entry) for entry in sorted(entries, key=lambda entry: entry.stat().st_mtime)}
    excess = sum(sizes.values()) - most_bytes
    for entry, size in sizes.items():
        if excess <= 0:
            return
        if entry.is_dir():
            shutil.rmtree(entry, ignore_errors=True)
        else:
            entry.unlink(missing_ok=True)
        excess -= size


def _size(entry: Path) -> int:
    files = entry.rglob("*") if entry.is_dir() else [entry]
    return sum(file.stat().st_size for file in files if file.is_file())
