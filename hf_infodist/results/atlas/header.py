"""The header of a file of safetensors, read so that a hostile one costs neither memory nor trust."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

MOST_BYTES = 2**23
"""Of a header: 8 MB, of which the names of 20,000 classes take one."""


@dataclass(frozen=True)
class Slot:
    """Where a tensor lies.

    Attributes:
        dtype: As safetensors calls it.
        shape: Its shape.
        first: Its first byte, from the beginning of the file.
    """

    dtype: str
    shape: tuple[int, ...]
    first: int


def read_header(path: Path) -> tuple[dict[str, Any], Mapping[str, Slot]]:
    """Return what a file says of itself, and where its tensors lie: within it, one after the other.

    Raises:
        FileNotFoundError: If it is not there.
        ValueError: If it is no whole file of safetensors.
    """
    from safetensors import SafetensorError, safe_open

    if path.exists() and not path.is_file():
        raise ValueError("it is no file")
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if not 2 <= length <= MOST_BYTES:
            raise ValueError(f"it says that its header has {length} bytes")
        fields = parse(file.read(length))
    try:
        with safe_open(path, "numpy"):  # sizes, offsets and shapes agree with each other and with the size of the file
            pass
    except SafetensorError as error:
        raise ValueError(f"it is no whole file of safetensors: {error}") from None
    told = fields.pop("__metadata__", {})
    return told, {
        name: Slot(one["dtype"], tuple(one["shape"]), 8 + length + one["data_offsets"][0])
        for name, one in fields.items()
    }


def parse(text: bytes | str) -> dict[str, Any]:
    """Return an object of JSON; each name is in it once, else two readers may read two things.

    Raises:
        ValueError: If it is something else.
    """
    try:
        decoded = text.decode() if isinstance(text, bytes) else text
        fields = json.loads(decoded, object_pairs_hook=_once)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    if not isinstance(fields, dict):
        raise ValueError("it is no object of JSON")
    return fields


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    fields = dict(pairs)
    if len(fields) < len(pairs):
        raise ValueError("it says something twice")
    return fields
