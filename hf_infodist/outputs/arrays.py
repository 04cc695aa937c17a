"""Arrays of the outputs of a model, mapped from disk."""

import math
import mmap
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hf_infodist.outputs.layers import Layer

Picked = NDArray[np.integer] | Tensor
Index = slice | Picked


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
    _scales: dict[tuple[torch.device, torch.dtype], tuple[Tensor, ...]] = field(
        default_factory=dict, init=False, repr=False
    )

    def __len__(self) -> int:
        return self.values.shape[0]

    def reordered(self, order: NDArray[np.integer]) -> "Pixels":
        """Return the same images in another order."""
        return replace(self, values=Reordered(self.values, order))

    def batch(self, index: Index, device: torch.device | str, dtype: torch.dtype) -> Tensor:
        """Return normalised images, ``[n, channels, H, W]``, on a device."""
        return self._normalised(sent(torch.from_numpy(np.array(self.values[index])), device), dtype)

    def indices(self, indices: Sequence[NDArray[np.integer]]) -> Sequence[Picked]:
        """Return indices of several batches as `batch` takes them without a wait for a device."""
        return indices

    def _normalised(self, pixels: Tensor, dtype: torch.dtype) -> Tensor:
        if pixels.dtype != torch.uint8:
            return pixels.to(dtype)
        where = pixels.device, dtype
        if where not in self._scales:  # made once: to make them waits for a device
            scales = (torch.tensor(v, dtype=dtype, device=pixels.device) for v in (self.mean, self.std))
            self._scales[where] = tuple(scale.view(-1, 1, 1) for scale in scales)
        mean, std = self._scales[where]
        return (pixels.to(dtype) / 255 - mean) / std


class ResidentPixels(Pixels):
    """Images that lie on a device as they are stored, whole: a batch is gathered there."""

    def batch(self, index: Index, device: torch.device | str, dtype: torch.dtype) -> Tensor:
        """Return normalised images, ``[n, channels, H, W]``, from `indices` or a slice, where they lie."""
        return self._normalised(self.values[index], dtype)  # type: ignore[arg-type]

    def indices(self, indices: Sequence[NDArray[np.integer]]) -> Sequence[Picked]:
        """Return indices on the device, sent in one piece."""
        whole = torch.from_numpy(np.concatenate([*indices, np.empty(0, np.int64)]))
        return sent(whole, self.values.device).split([len(index) for index in indices])  # type: ignore[attr-defined]


def sent(tensor: Tensor, device: torch.device | str) -> Tensor:
    """Return a copy on a device, for which this process does not wait; the tensor itself where it is there."""
    if torch.device(device).type == "cuda" and tensor.device.type == "cpu":
        return tensor.pin_memory().to(device, non_blocking=True)
    return tensor.to(device)


def resident(pixels: Pixels, device: torch.device) -> Pixels:
    """Return the images on a GPU that has room for all of them and as much again thrice; else as they are."""
    if device.type != "cuda":
        return pixels
    free = torch.cuda.mem_get_info(device)[0]
    size = math.prod(pixels.values.shape) * pixels.values[:1].itemsize
    return placed(pixels, device) if 4 * size <= free else pixels


def placed(pixels: Pixels, device: torch.device | str, chunk: int = 256) -> ResidentPixels:
    """Return the images on a device, read in chunks."""
    whole = torch.empty(pixels.values.shape, dtype=torch.from_numpy(np.array(pixels.values[:0])).dtype, device=device)
    for first in range(0, len(pixels), chunk):
        whole[first : first + chunk] = torch.from_numpy(np.array(pixels.values[first : first + chunk])).to(device)
    return ResidentPixels(whole, pixels.mean, pixels.std)  # type: ignore[arg-type]


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
