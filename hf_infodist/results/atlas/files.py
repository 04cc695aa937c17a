"""One model of an atlas in one file of safetensors: data, whoever wrote it; nothing of it is executed."""

import json
import os
import uuid
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from hf_infodist.errors import UnfitError
from hf_infodist.home import sync
from hf_infodist.results.atlas.entry import AtlasEntry
from hf_infodist.results.atlas.packing import PACKING, SQUARES

SUFFIX = ".safetensors"
_SQUARE = "distances."  # begins the names of distances
_METADATA = "infodist"  # one key: the bytes of a file do not depend on the order of several


@dataclass(frozen=True)
class AtlasFile:
    """A file of an atlas whose sizes and shapes are known to be right.

    Attributes:
        path: Where it lies.
        entry: What it says of its model.
        k: Number of images.
    """

    path: Path
    entry: AtlasEntry
    k: int
    loud: bool = False  # logits are in single precision

    @cached_property
    def _offsets(self) -> tuple[int, dict[str, int]]:
        """Return where numbers begin, by name."""
        with self.path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            header = json.loads(file.read(length))
        return 8 + length, {name: one["data_offsets"][0] for name, one in header.items() if name[0] != "_"}

    @cached_property
    def logits(self) -> NDArray[np.floating]:
        """The packed logits, ``[k, C]``, mapped from the file.

        Raises:
            UnfitError: If one of them is no number.
        """
        logits = self._map("logits", np.float32 if self.loud else np.float16, (self.k, self.entry.model.num_classes))
        if not np.isfinite(logits).all():
            why = "it has logits that are no numbers"
            raise UnfitError(f"{self.path} is damaged", why, "remove it, and add the model again")
        return logits

    def square(self, name: str) -> NDArray[np.uint16]:
        """Return packed distances between images, ``[k (k - 1) / 2]``, of one of `SQUARES`, mapped from the file."""
        return self._map(_SQUARE + name, np.uint16, (_pairs(self.k),))

    def _map(self, name: str, dtype: type, shape: tuple[int, ...]) -> NDArray:
        first, offsets = self._offsets
        if 0 in shape:
            return np.zeros(shape, dtype)
        return np.memmap(self.path, dtype, "r", first + offsets[name], shape)


def write_file(folder: Path, entry: AtlasEntry, logits: NDArray[np.floating], squares: dict[str, NDArray]) -> Path:
    """Write a model into a folder under the name of its outputs: whole, and on the disk before it has that name."""
    from safetensors.numpy import save_file

    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{entry.outputs}{SUFFIX}"
    new = folder / f".{uuid.uuid4().hex}.part"
    told = json.dumps({"packing": PACKING, "k": len(logits), "entry": entry.to_dict()}, sort_keys=True)
    try:
        save_file(
            {"logits": logits} | {_SQUARE + name: packed for name, packed in squares.items()}, new, {_METADATA: told}
        )
        with new.open("rb") as file:
            os.fsync(file.fileno())
        new.replace(path)
        sync(folder)
    finally:
        new.unlink(missing_ok=True)
    return path


def open_file(path: Path) -> AtlasFile:
    """Read what a file says, and check every size and shape; its numbers are read when they are needed.

    Raises:
        FileNotFoundError: If it is not there.
        ValueError: If it is something else: damaged, of another packing, or hostile.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "numpy") as file:
            told, names = (file.metadata() or {}).get(_METADATA), set(file.keys())
            found = {
                name: (file.get_slice(name).get_dtype(), tuple(file.get_slice(name).get_shape())) for name in names
            }
    except SafetensorError as error:
        raise ValueError(f"it is no whole file of safetensors: {error}") from None
    if told is None:
        raise ValueError("it is not of an atlas")
    fields = json.loads(told)
    if not isinstance(fields, dict) or fields.get("packing") != PACKING:
        raise ValueError(f"it is packed otherwise than by version {PACKING}")
    entry, k = AtlasEntry.from_dict(fields.get("entry") or {}), fields.get("k")
    if not isinstance(k, int) or k < 1:
        raise ValueError(f"it is of {k!r} images")
    loud = found.get("logits", ("",))[0] == "F32"
    wanted = {
        "logits": ("F32" if loud else "F16", (k, entry.model.num_classes)),
        **{_SQUARE + name: ("U16", (_pairs(k),)) for name in SQUARES},
    }
    if found != wanted:
        wrong = sorted(name for name in found.keys() | wanted.keys() if found.get(name) != wanted.get(name))
        raise ValueError(f"{wrong[0]} is {found.get(wrong[0])} instead of {wanted.get(wrong[0])}")
    if entry.outputs != path.name.removesuffix(SUFFIX):
        raise ValueError(f"it is of the outputs {entry.outputs}, not of those that it is named by")
    return AtlasFile(path, entry, k, loud)


def _pairs(k: int) -> int:
    return k * (k - 1) // 2
