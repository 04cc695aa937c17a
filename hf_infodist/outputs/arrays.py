"""Arrays of the outputs of a model, mapped from disk."""

import mmap
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hf_infodist.outputs.layers import Layer


class Rows(Protocol):
    """An array read by rows, ``[k, ...]``: in memory, memory-mapped, or worked out when asked for."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Rows first."""
        ...

    def __getitem__(self, index: Any, /) -> NDArray:
        """Return some rows, ``[n, ...]``."""
        ...


class Reordered:
    """The rows of an array in another order, read when asked for.

    Args:
        array: ``[k, ...]``, for example a memory map.
        order: Which of its rows comes i-th, ``[k]``.
    """

    def __init__(self, array: Rows, order: NDArray[np.integer]):
        self._array, self._order = array, order
        self.shape = array.shape

    def __getitem__(self, index: Any) -> NDArray:
        return self._array[self._order[index]]


def forget(array: Any) -> None:
    """Take the pages of a memory map out of this process; they stay in the file and its cache."""
    if isinstance(array, Reordered):
        forget(array._array)
    elif isinstance(array, np.memmap) and isinstance(array.base, mmap.mmap) and hasattr(mmap, "MADV_DONTNEED"):
        array.base.madvise(mmap.MADV_DONTNEED)


class LabelLogits:
    """Labels as logits of somebody who is certain of them, ``[k, C]``: 0, and minus infinity for all other classes.

    Args:
        labels: Class of each image, ``[k]``.
        num_classes: C.
    """

    def __init__(self, labels: NDArray[np.integer], num_classes: int):
        self._labels = labels
        self.shape = (len(labels), num_classes)

    def __getitem__(self, index: Any) -> NDArray[np.floating]:
        labels = self._labels[index]
        return np.where(np.arange(self.shape[1]) == labels[..., None], 0.0, -np.inf)


@dataclass(frozen=True, eq=False)
class Pixels:
    """Preprocessed images, ``[k, channels, H, W]``, as uint8 where that loses nothing."""

    values: Rows
    mean: tuple[float, ...]
    std: tuple[float, ...]

    def __len__(self) -> int:
        return self.values.shape[0]

    def reordered(self, order: NDArray[np.integer]) -> "Pixels":
        """Return the same images in another order."""
        return replace(self, values=Reordered(self.values, order))

    def batch(self, index: slice | NDArray[np.integer], device: torch.device | str, dtype: torch.dtype) -> Tensor:
        """Return normalised images, ``[n, channels, H, W]``, on a device."""
        pixels = torch.from_numpy(np.array(self.values[index])).to(device)
        if pixels.dtype != torch.uint8:
            return pixels.to(dtype)
        mean, std = (torch.tensor(v, dtype=dtype, device=pixels.device).view(-1, 1, 1) for v in (self.mean, self.std))
        return (pixels.to(dtype) / 255 - mean) / std


@dataclass(frozen=True, eq=False)
class Outputs:
    """What one classifier makes of the images.

    Attributes:
        pixels: Its preprocessed images.
        logits: Its outputs, ``[k, C]``.
        features: What its last layer sees, ``[k, D]``.
        values: What was read of all layers, side by side, ``[k, sum of layer.values]``.
        layers: Which these are.
        key: Hash of images, preprocessing, weights and `LAYERS_VERSION`.
    """

    pixels: Pixels
    logits: Rows
    features: Rows
    values: Rows
    layers: tuple[Layer, ...]
    key: str

    def reordered(self, order: NDArray[np.integer]) -> "Outputs":
        """Return what it makes of the same images in another order."""
        logits, features, values = (Reordered(array, order) for array in (self.logits, self.features, self.values))
        return replace(self, pixels=self.pixels.reordered(order), logits=logits, features=features, values=values)


class StartLogits:
    """A student's logits in its teacher's label space before it has learnt anything.

    Args:
        logits: The student's own logits, ``[k, C]``.
        rows: The student's class for each of the teacher's (-1: none), or None for a new head that says 0 everywhere.
        num_classes: The teacher's classes.
    """

    def __init__(self, logits: Rows, rows: Sequence[int] | None, num_classes: int):
        self._logits = logits
        self._rows = None if rows is None else np.asarray(rows)
        self.shape = (logits.shape[0], num_classes)

    def __getitem__(self, index: slice | NDArray[np.integer]) -> NDArray[np.floating]:
        logits = np.asarray(self._logits[index])
        if self._rows is None:
            return np.zeros((len(logits), self.shape[1]), dtype=logits.dtype)
        return np.where(self._rows < 0, 0, logits[:, self._rows]).astype(logits.dtype)
