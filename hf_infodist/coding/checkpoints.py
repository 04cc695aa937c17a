"""Checkpoints of a run: written every few blocks, complete or not at all, read back to the bit or refused."""

import hashlib
import json
import logging
import os
import shutil
import time
from pathlib import Path
from typing import Any

import torch

from hf_infodist.coding.loop import Coding
from hf_infodist.errors import UnfitError
from hf_infodist.home import sync, write_durably
from hf_infodist.processes import ProcessTeam
from hf_infodist.results.claims import Claim

_SHARE = 20  # a checkpoint is due when this many times the duration of the last one have passed
_LEAST_SECONDS = 1.0  # and never sooner than this
_MANIFEST = "manifest.json"
logger = logging.getLogger(__name__)


class Checkpoints:
    """The folder of one run, which belongs to whoever has claimed it.

    Each checkpoint is a folder named by the number of images priced: one file per learner, one for the rest, and a
    manifest with the run's key and the SHA-256 of each file. The last complete one replaces all before it.

    Args:
        folder: Where this run's checkpoints lie.
        key: Hash of everything that the run depends on.
        team: The processes that share the run; the leading one writes the manifest.
        claim: What the leading one holds; nothing is written once it is lost.
    """

    def __init__(self, folder: Path, key: str, team: ProcessTeam, claim: Claim | None = None):
        self.folder, self.key, self.team, self.claim = folder, key, team, claim
        self._last, self._duration = time.monotonic(), 0.0

    def load(self, run: Coding) -> None:
        """Put a run where the last checkpoint left it, if there is one.

        Raises:
            UnfitError: If the checkpoint is damaged or belongs to another run.
        """
        last = self.team.merge({"last": self._last_complete()} if self.team.lead else {})["last"]  # of all the same
        if not last:
            return
        folder = self.folder / last
        if self.team.lead:
            logger.info("going on from the checkpoint at %s images", folder.name)
        digests = self._read_manifest(folder)
        run.load_state_dict(self._read(folder, "run", digests))
        if run.end < run.targets.num_images:
            run.replay()
            for j, learner in run.trained.items():
                learner.load_state_dict(self._read(folder, f"learner-{j}", digests))

    def save(self, run: Coding) -> None:
        """Write a checkpoint if it is time for one, or if all images are priced."""
        if self.team.merge({"due": self._due(run)} if self.team.lead else {})["due"]:
            started = time.monotonic()
            self._write(run)
            self._last = time.monotonic()
            self._duration = self._last - started

    def _last_complete(self) -> str:
        found = (manifest.parent.name for manifest in self.folder.glob("[0-9]*/" + _MANIFEST))
        return max(found, key=int, default="")

    def _due(self, run: Coding) -> bool:
        waited = time.monotonic() - self._last
        over = run.end == run.targets.num_images
        time_for_one = over or waited >= max(_LEAST_SECONDS, _SHARE * self._duration)
        return time_for_one and (self.claim is None or self.claim.held)

    def _write(self, run: Coding) -> None:
        new = self.folder / f".new-{run.end}"
        new.mkdir(parents=True, exist_ok=True)
        state = run.state_dict()
        digests = {"run": _write(new / "run.pt", state)} if self.team.lead else {}
        over = run.end == run.targets.num_images
        learners = {} if over else run.trained  # what they know is of no more use then
        writers = self.team.merge({j: self.team.index for j in learners})  # one for each, also for those that all have
        for j, learner in learners.items():
            if writers[j] == self.team.index:
                digests[f"learner-{j}"] = _write(new / f"learner-{j}.pt", learner.state_dict())
        files = self.team.merge(digests)  # all are written when all have sent theirs
        if self.team.lead:
            write_durably(new / _MANIFEST, json.dumps({"key": self.key, "files": files}).encode())
            final = self.folder / str(run.end)
            new.rename(final)
            sync(self.folder)
            for old in self.folder.iterdir():
                if old != final:
                    shutil.rmtree(old, ignore_errors=True)

    def _read_manifest(self, folder: Path) -> dict[str, str]:
        try:
            manifest = json.loads((folder / _MANIFEST).read_text())
            key, digests = manifest["key"], manifest["files"]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise self._refused(folder, f"its {_MANIFEST} cannot be read") from error
        if key != self.key:
            raise self._refused(folder, "it belongs to another run: other models, images, protocol or versions")
        return digests

    def _read(self, folder: Path, name: str, digests: dict[str, str]) -> dict[str, Any]:
        path = folder / f"{name}.pt"
        if not path.exists() or _digest(path) != digests.get(name):
            raise self._refused(folder, f"{path.name} is not what was written")
        return torch.load(path, map_location="cpu", weights_only=True)

    def _refused(self, folder: Path, why: str) -> UnfitError:
        return UnfitError(
            f"the checkpoint {folder} cannot be gone on from",
            why,
            f"to start again, move it away: mv {self.folder} {self.folder}.old",
        )


def _write(path: Path, state: dict[str, Any]) -> str:
    with path.open("wb") as file:
        torch.save(state, file)
        file.flush()
        os.fsync(file.fileno())
    return _digest(path)


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
