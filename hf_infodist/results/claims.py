"""Claims: which process of which machine has a piece of work, in a folder that they share."""

import json
import os
import re
import socket
import threading
import uuid
from pathlib import Path

from hf_infodist.errors import telling_of_system

EXPIRY_SECONDS = 60.0  # a claim not renewed for so long is a dead worker's
_RENEWALS = 6  # within that time


class Claim:
    """One piece of work, claimed by at most one living process.

    Claims are files ``NAME.<number>.claim``, made only where there is none of that name, so any shared folder will do
    that has this in common with NFS. The highest number holds; a claim is taken over from a dead worker by making the
    next number. A worker renews its claim from a thread, and is dead when it has not done so for `EXPIRY_SECONDS` by
    the clock of the folder, or at once where this machine knows that its process is gone.

    Args:
        path: The name, without number and ending; its folder is made if need be.
    """

    def __init__(self, path: Path):
        self.path = path
        self._mine: Path | None = None
        self._over = threading.Event()

    @property
    def held(self) -> bool:
        """Whether this claim was taken, and nobody who took this process for dead has taken it over."""
        return self._mine is not None and self._mine.exists() and self._latest()[0] == _number(self._mine)

    def take(self) -> bool:
        """Claim the work; False if a living process has it."""
        with telling_of_system():
            self.path.parent.mkdir(parents=True, exist_ok=True)
            number, latest = self._latest()
            if latest and not _dead(latest):
                return False
            mine = self.path.with_name(f"{self.path.name}.{number + 1}.claim")
            try:
                file = mine.open("x")
            except FileExistsError:
                return False  # somebody was faster
            try:
                with file:
                    json.dump(_this_process(), file)
            except OSError:
                mine.unlink(missing_ok=True)  # the disk is full: nobody is to wait for this one
                raise
        self._mine, self._over = mine, threading.Event()
        threading.Thread(target=self._renew, args=(mine, self._over), daemon=True).start()
        return True

    def release(self) -> None:
        """Let others have the work."""
        self._over.set()
        if self._mine is not None:
            for number, file in sorted(self._files()):
                if number <= _number(self._mine):
                    file.unlink(missing_ok=True)
        self._mine = None

    @staticmethod
    def _renew(mine: Path, over: threading.Event) -> None:
        while not over.wait(EXPIRY_SECONDS / _RENEWALS):
            try:
                os.utime(mine)
            except OSError:  # taken over and done, or the folder is away for a while
                continue

    def _latest(self) -> tuple[int, Path | None]:
        return max(self._files(), default=(0, None))

    def _files(self) -> list[tuple[int, Path]]:
        found = self.path.parent.glob(f"{self.path.name}.*.claim")
        return [(_number(file), file) for file in found]


def claimed_in(folder: Path) -> set[str]:
    """Return the names that somebody has claimed in a folder."""
    return {path.name.partition(".")[0] for path in folder.glob("*.claim")}


def _number(file: Path) -> int:
    match = re.search(r"\.(\d+)\.claim$", file.name)
    assert match
    return int(match[1])


def _dead(claim: Path) -> bool:
    """Tell whether the process that made a claim is gone."""
    try:
        age = _now(claim.parent) - claim.stat().st_mtime
        owner = json.loads(claim.read_text())
    except FileNotFoundError:
        return False  # released this moment
    except ValueError:
        owner = {}  # being written
    if age > EXPIRY_SECONDS:
        return True
    return owner.get("machine") == _machine() and _started(owner["pid"]) != owner["started"]


def _now(folder: Path) -> float:
    """Return the time by the clock of the folder: those of two machines may differ."""
    probe = folder / f".{uuid.uuid4().hex}.clock"
    probe.touch()
    try:
        return probe.stat().st_mtime
    finally:
        probe.unlink(missing_ok=True)


def _this_process() -> dict[str, str | int | None]:
    return {"machine": _machine(), "pid": os.getpid(), "started": _started(os.getpid())}


def _machine() -> str:
    """Return what two processes have in common that know each other by their numbers."""
    name = socket.gethostname()
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{name} {boot} {os.readlink('/proc/self/ns/pid')}"
    except OSError:  # not Linux: only time will tell
        return f"{name} {uuid.uuid4().hex}"


def _started(pid: int) -> int | None:
    """Return when a process of this machine was started, in ticks; None if it has ended."""
    try:
        state, *fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if state in "ZX" else int(fields[18])  # field 22 of proc(5)
