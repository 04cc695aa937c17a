"""Numbers of an atlas in few bytes.

What is lost is measured by ``infodist study atlas``: no distance changes by more than 0.1 %.
"""

import numpy as np
from numpy.typing import NDArray

PACKING = 1
"""Raised whenever numbers are packed otherwise: an atlas of another packing is made anew."""

SQUARES = ("first", "second", "third", "last", "penultimate", "logits")
"""Features between whose images distances are kept; those of all layers are the mean of the four quarters."""

MOST_IMAGES = 4096
"""Of an atlas: distances between all pairs of them are kept, and kernels are exact up to there."""

LOUDEST = 64.0
"""Size of logits up to which half precision will do; louder ones are kept as they are."""

_STEPS = 2**16 - 1
_SCALE = 4.0  # exp(-D / 4) in equal steps: kernels are exp(-γ D) with γ from .1 to .5, and see all steps alike


def pack_logits(logits: NDArray) -> NDArray[np.floating]:
    """Return logits ``[k, C]`` less the mean of each image, which no probability sees, in half precision."""
    centred = logits.astype(np.float64)
    centred -= centred.mean(1, keepdims=True)
    return centred.astype(np.float16 if np.abs(centred).max(initial=0) <= LOUDEST else np.float32)


def pack_square(distances: NDArray) -> NDArray[np.uint16]:
    """Return D ``[k, k]`` below its diagonal as steps of exp(-D / 4), ``[k (k - 1) / 2]``, row after row."""
    below = np.tril_indices(len(distances), -1)
    return np.round(_STEPS * np.exp(-distances[below] / _SCALE)).astype(np.uint16)


def unpack_square(packed: NDArray[np.uint16], k: int) -> NDArray[np.float64]:
    """Return D ``[k, k]`` from `pack_square`."""
    steps = np.maximum(packed.astype(np.float64), 0.5)  # what was rounded to 0 lay below half a step
    distances = np.zeros((k, k))
    distances[np.tril_indices(k, -1)] = -_SCALE * np.log(steps / _STEPS)
    return distances + distances.T
