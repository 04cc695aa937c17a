"""All distances of an atlas, computed once and kept in one file, with the price of each image."""

import hashlib
import json
import os
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from zipfile import BadZipFile

import numpy as np

from hf_infodist.errors import InfodistError
from hf_infodist.page.records import SHIPPED
from hf_infodist.protocol import resolve_protocol
from hf_infodist.results.atlas.folder import Atlas
from hf_infodist.results.matrix import PairwiseMatrix

_MOST_PRICES = 4_000_000  # numbers; without them the matrix says how far, and not what is tied


def key_of(atlas: Atlas) -> str:
    """Return 32 hexadecimal digits of all that changes a number of an atlas: images, models, protocol, code."""
    images = atlas.head.images
    protocol = resolve_protocol("standard", images.seed)
    decides = {
        "images": images.fingerprint,
        "layers": atlas.head.layers,
        "models": [(file.entry.id, file.outputs) for file in atlas.files],
        "protocol": protocol.to_dict(),
        "coding": protocol.coding,
    }
    return hashlib.sha256(json.dumps(decides, sort_keys=True).encode()).hexdigest()[:32]


def keep_matrix(folder: Path, atlas: Atlas, matrix: PairwiseMatrix) -> Path:
    """Write the matrix of all models of an atlas: complete or not at all."""
    pairs = sorted(matrix.image_nats)
    if len(pairs) * atlas.head.images.k > _MOST_PRICES:
        pairs = []
    prices = np.stack([matrix.image_nats[pair] for pair in pairs]) if pairs else np.zeros((0, 0))
    folder.mkdir(parents=True, exist_ok=True)
    path = _path(folder, atlas)
    new = path.with_name(f".{path.stem}-{os.getpid()}.npz")
    told = np.array(json.dumps(matrix.to_dict()))
    np.savez_compressed(new, told=told, pairs=np.array(pairs, dtype=np.int64).reshape(-1, 2), prices=prices)
    new.replace(path)
    return path


def kept_matrix(folder: Path, atlas: Atlas) -> PairwiseMatrix | None:
    """Return the matrix of an atlas that came with the page, or is in a folder; None if it is in neither."""
    for path in (_path(SHIPPED, atlas), _path(folder, atlas)):
        if path.is_file() and (found := _read(path, path.stat().st_mtime_ns)) is not None:
            return found
    return None


def _path(folder: Path, atlas: Atlas) -> Path:
    return folder / f"atlas-{key_of(atlas)}.npz"


@lru_cache(maxsize=8)
def _read(path: Path, changed: int) -> PairwiseMatrix | None:
    """Read a matrix, once as long as its file stays the same; None if it is damaged."""
    try:
        with np.load(path, allow_pickle=False) as file:
            matrix = PairwiseMatrix.from_dict(json.loads(str(file["told"])))
            pairs = [(int(i), int(j)) for i, j in file["pairs"]]
            return replace(matrix, image_nats=dict(zip(pairs, file["prices"], strict=True)))
    except (OSError, ValueError, KeyError, TypeError, BadZipFile, InfodistError):
        return None
