"""One model of an atlas in one file of safetensors: data, whoever wrote it; nothing of it is executed."""

import hashlib
import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hf_infodist.errors import UnfitError
from hf_infodist.home import sync
from hf_infodist.results.atlas.entry import AtlasEntry, is_count, printable
from hf_infodist.results.atlas.header import Slot, parse, read_header
from hf_infodist.results.atlas.keys import KEY, digest_of
from hf_infodist.results.atlas.packing import MOST_IMAGES, PACKING, SQUARES
from hf_infodist.results.atlas.parts import flush, part_of

SUFFIX = ".safetensors"
_SQUARE = "distances."  # begins the names of distances
_METADATA = "infodist"  # one key: the bytes of a file do not depend on the order of several
_DTYPES = {"F16": np.float16, "F32": np.float32, "U16": np.uint16}
_AT_ONCE = 2**22  # bytes looked at
_LARGEST = 1e30  # size of a logit: differences of two of them are still numbers in single precision


@dataclass(frozen=True)
class AtlasFile:
    """A file of an atlas whose sizes and shapes are known to be right.

    Attributes:
        path: Where it lies.
        entry: What it says of its model.
        k: Number of images.
        slots: Where its numbers lie.
        digests: Sha256 of these, by name; they are held against it whenever they are read.
    """

    path: Path
    entry: AtlasEntry
    k: int
    slots: Mapping[str, Slot] = field(repr=False, compare=False)
    digests: Mapping[str, str] = field(repr=False)

    @property
    def logits(self) -> NDArray[np.floating]:
        """The packed logits, ``[k, C]``, mapped from the file as long as somebody has them.

        Raises:
            UnfitError: If they are others than the file says, one is no number, or larger than any model's.
        """
        _ = self._checked_logits
        return self._map("logits")

    @cached_property
    def _checked_logits(self) -> bool:
        self._check("logits")
        return True

    def square(self, name: str) -> NDArray[np.uint16]:
        """Return packed distances between images, ``[k (k - 1) / 2]``, of one of `SQUARES`, mapped from the file.

        Raises:
            UnfitError: If they are others than the file says.
        """
        self._check(_SQUARE + name)
        return self._map(_SQUARE + name)

    @property
    def outputs(self) -> str:
        """Name of what is packed here, and of nothing else: it depends on all that decides a codelength."""
        numbers = sorted(self.digests.items())
        return digest_of("packed", PACKING, self.entry.outputs, list(self.entry.quarters), numbers)

    def _map(self, name: str) -> NDArray:
        slot = self.slots[name]
        dtype: Any = _DTYPES[slot.dtype]
        return (
            np.memmap(self.path, dtype, "r", slot.first, slot.shape)
            if 0 not in slot.shape
            else np.zeros(slot.shape, dtype)
        )

    def _check(self, name: str) -> None:
        """Look at numbers without mapping them: a thousand models need no memory, and no open files."""
        slot = self.slots[name]
        dtype: Any = _DTYPES[slot.dtype]
        digest, left = hashlib.sha256(), math.prod(slot.shape) * np.dtype(dtype).itemsize
        with self.path.open("rb") as file:
            file.seek(slot.first)
            while content := file.read(min(left, _AT_ONCE)):
                digest.update(content)
                left -= len(content)
                if name == "logits" and not _are_logits(np.frombuffer(content, dtype)):
                    raise self._damage("it has logits that are no numbers")
        if digest.hexdigest() != self.digests[name]:
            raise self._damage(f"its {name} are others than it says")

    def _damage(self, why: str) -> UnfitError:
        return UnfitError(f"{self.path} is damaged", why, "remove it, and add the model again")


def write_file(folder: Path, entry: AtlasEntry, logits: NDArray[np.floating], squares: dict[str, NDArray]) -> Path:
    """Write a model into a folder under the name of its outputs: whole, and on the disk before it has that name."""
    from safetensors.numpy import save_file

    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{entry.outputs}{SUFFIX}"
    tensors = {"logits": logits} | {_SQUARE + name: packed for name, packed in squares.items()}
    about = {"packing": PACKING, "k": len(logits), "entry": entry.to_dict()}
    told = json.dumps(about | {"sha256": {name: _sha256(one) for name, one in tensors.items()}}, sort_keys=True)
    with part_of(folder) as new:
        save_file(tensors, new, {_METADATA: told})
        try:
            _check(new, entry.outputs)
        except ValueError as error:
            what, why = f"{printable(entry.id)} cannot be put into an atlas", str(error)
            raise UnfitError(what, why, "leave it out, or give it other names") from None
        flush(new)
        new.replace(path)
        sync(folder)
    return path


def open_file(path: Path) -> AtlasFile:
    """Read what a file says, and check every size and shape; its numbers are read when they are needed.

    Raises:
        FileNotFoundError: If it is not there.
        ValueError: If it is something else: damaged, of another packing, or hostile.
    """
    return _check(path, path.name.removesuffix(SUFFIX))


def _check(path: Path, outputs: str) -> AtlasFile:
    """Read a file that is to be of certain outputs."""
    about, slots = read_header(path)
    if _METADATA not in about:
        raise ValueError("it is not of an atlas")
    fields = parse(about[_METADATA])
    if fields.get("packing") != PACKING:
        raise ValueError(f"it is packed otherwise than by version {PACKING}")
    entry, k = AtlasEntry.from_dict(fields.get("entry") or {}), fields.get("k")
    if not is_count(k, MOST_IMAGES):
        raise ValueError(f"it is of {printable(repr(k), 20)} images, of {MOST_IMAGES} at most")
    assert isinstance(k, int)
    loud = slots["logits"].dtype == "F32" if "logits" in slots else False
    wanted = {
        "logits": ("F32" if loud else "F16", (k, entry.model.num_classes)),
        **{_SQUARE + name: ("U16", (_pairs(k),)) for name in SQUARES},
    }
    found = {name: (slot.dtype, slot.shape) for name, slot in slots.items()}
    if found != wanted:
        wrong = sorted(name for name in found.keys() | wanted.keys() if found.get(name) != wanted.get(name))
        raise ValueError(f"{wrong[0]} is {found.get(wrong[0])} instead of {wanted.get(wrong[0])}")
    if entry.outputs != outputs or not KEY.fullmatch(outputs):
        raise ValueError(f"it is of the outputs {entry.outputs}, not of those that it is named by")
    digests = fields.get("sha256")
    if not isinstance(digests, dict) or digests.keys() != slots.keys() or not all(map(_is_digest, digests.values())):
        raise ValueError("it does not say the sha256 of its numbers")
    return AtlasFile(path, entry, k, slots, digests)


def _are_logits(numbers: NDArray) -> bool:
    return bool(np.isfinite(numbers).all()) and float(np.abs(numbers).max(initial=0)) <= _LARGEST


def _sha256(numbers: NDArray) -> str:
    return hashlib.sha256(np.ascontiguousarray(numbers).data).hexdigest()


def _is_digest(text: object) -> bool:
    return isinstance(text, str) and re.fullmatch("[0-9a-f]{64}", text) is not None


def _pairs(k: int) -> int:
    return k * (k - 1) // 2
