"""Classifier × images → pixels, logits, features of the last and of all layers, computed once and memory-mapped."""

import errno
import hashlib
import itertools
import json
import mmap
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from accelerate.utils import find_executable_batch_size, tqdm
from numpy.lib.format import open_memmap
from numpy.typing import NDArray
from torch import Tensor

from hf_infodist.errors import ResourceError, UnfitError
from hf_infodist.heads import logits_and_features
from hf_infodist.home import infodist_home
from hf_infodist.images import Images
from hf_infodist.layers import LAYERS_VERSION, Layer, choose_layers, reading
from hf_infodist.models import Classifier, Preprocessing

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_ARRAYS = ("logits", "features", "values")
_DECODE_CHUNK = 64  # images decoded before any is written: bounds memory, keeps the threads busy
_EXACT = 1e-5  # an 8-bit step is at least 1/255/std > 1e-3, so this tells round-off from a value between two steps


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


def compute_outputs(
    classifier: Classifier,
    images: Images,
    *,
    device: torch.device | str = "cpu",
    home: Path | None = None,
    chunk: int = 64,
    progress: bool = False,
) -> Outputs:
    """Preprocess the images and run the classifier on them, or read both from the store.

    Args:
        classifier: The model.
        images: The sample, in its order.
        device: Where the model runs.
        home: Store folder; `infodist_home` if None.
        chunk: Images per forward pass; does not change the outputs beyond round-off.
        progress: Whether to show a progress bar.

    Raises:
        UnfitError: If an image cannot be decoded or the model's output is not finite.
        ResourceError: If memory does not suffice for one image at a time.
    """
    folder = outputs_folder(home)
    preprocessing = classifier.preprocessing
    pixels_key, key = _pixels_key(classifier, images), outputs_key(classifier, images)

    def show(what: str, total: int) -> Callable[[Iterator], Iterator]:
        return lambda steps: tqdm(
            steps, total=total, desc=f"{what} {classifier.id}", unit="image", disable=not progress
        )

    pixels_folder = folder / f"pixels-{pixels_key}"
    if not pixels_folder.exists():
        with _new_folder(pixels_folder) as new:
            _write_pixels(new / "pixels.npy", images, preprocessing, show("preprocessing for", len(images)))
    values = np.load(pixels_folder / "pixels.npy", mmap_mode="r")
    pixels = Pixels(values, preprocessing.mean, preprocessing.std)

    if not (folder / key).exists():
        with _new_folder(folder / key) as new:
            _write_within_memory(new, classifier, images, pixels, device, chunk, show("running", len(images)))
    logits, features, values = (np.load(folder / key / f"{name}.npy", mmap_mode="r") for name in _ARRAYS)
    layers = tuple(Layer(**layer) for layer in json.loads((folder / key / "layers.json").read_text()))
    return Outputs(pixels, logits, features, values, layers, key)


def outputs_folder(home: Path | None = None) -> Path:
    """Return where outputs are kept: one folder each, named by its key."""
    return (home or infodist_home()) / "outputs"


def outputs_key(classifier: Classifier, images: Images) -> str:
    """Return the hash of images, preprocessing and weights, known before the classifier is run."""
    return _key(_pixels_key(classifier, images), classifier.weights_hash, LAYERS_VERSION)


def _pixels_key(classifier: Classifier, images: Images) -> str:
    return _key(images.fingerprint, classifier.preprocessing.settings)


def _key(*parts: object) -> str:
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:32]


@contextmanager
def _new_folder(final: Path) -> Iterator[Path]:
    """Give a temporary folder that becomes ``final`` at once when all is written; of two writers one wins."""
    final.parent.mkdir(parents=True, exist_ok=True)
    new = Path(tempfile.mkdtemp(prefix=".new-", dir=final.parent))
    try:
        yield new
        try:
            new.rename(final)
        except OSError:
            if not final.exists():
                raise
    finally:
        shutil.rmtree(new, ignore_errors=True)


def _write_pixels(path: Path, images: Images, preprocessing: Preprocessing, show: Callable) -> None:
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as threads:
        rounded = _write_as(path, np.uint8, threads, images, preprocessing, show)
        if not rounded:
            _write_as(path, np.float32, threads, images, preprocessing, show)


def _write_as(
    path: Path, dtype: type, threads: ThreadPoolExecutor, images: Images, preprocessing: Preprocessing, show: Callable
) -> bool:
    """Write all images as ``dtype``; return False at the first that ``dtype`` cannot hold exactly."""
    pixels = None
    mean, std = (torch.tensor(v).view(-1, 1, 1) for v in (preprocessing.mean, preprocessing.std))
    bar = iter(show(iter(range(len(images)))))
    for first in range(0, len(images), _DECODE_CHUNK):
        rows = range(first, min(first + _DECODE_CHUNK, len(images)))
        for row, image in zip(rows, threads.map(lambda i: preprocessing.transform(images[i]), rows), strict=True):
            next(bar)
            if pixels is None:
                pixels = _allocate(path, dtype, (len(images), *image.shape))
            if image.shape != pixels.shape[1:]:
                raise UnfitError(
                    f"image {row} becomes {tuple(image.shape)} after preprocessing, earlier ones {pixels.shape[1:]}",
                    "images of one batch need one size",
                    "give the model a transform that resizes and crops to a fixed size",
                )
            if dtype is np.uint8:
                steps = (image * std + mean) * 255
                if (steps - steps.round()).abs().max() > _EXACT * 255 or steps.min() < -0.5 or steps.max() > 255.5:
                    return False
                image = steps.round().to(torch.uint8)
            pixels[row] = image.numpy()
        _forget(pixels)
    return True


def _allocate(path: Path, dtype: Any, shape: tuple[int, ...]) -> NDArray:
    """Make a memory-mapped array whose place on the disk is reserved: writing to a full disk would end the process.

    Raises:
        ResourceError: If the disk has not that much left.
    """
    array = open_memmap(path, mode="w+", dtype=dtype, shape=shape)
    try:
        with path.open("r+b") as file:
            os.posix_fallocate(file.fileno(), 0, path.stat().st_size)
    except AttributeError:
        pass  # not on this system
    except OSError as error:
        if error.errno not in _FULL:
            return array  # not on this file system
        raise ResourceError(
            f"{path.stem} of {shape[0]:,} images take {array.nbytes / 1e6:,.1f} MB of disk",
            f"{path.parent.parent} has {shutil.disk_usage(path.parent).free / 1e6:,.1f} MB left: {error.strerror}",
            "lower -k, delete what is not needed there, or set INFODIST_HOME to a folder on a larger disk",
        ) from error
    return array


def _forget(array: Any) -> None:
    """Take the pages of a memory map out of this process; they stay in the file and its cache."""
    if isinstance(array, np.memmap) and isinstance(array.base, mmap.mmap) and hasattr(mmap, "MADV_DONTNEED"):
        array.base.madvise(mmap.MADV_DONTNEED)


def _write_within_memory(
    folder: Path,
    classifier: Classifier,
    images: Images,
    pixels: Pixels,
    device: torch.device | str,
    chunk: int,
    show: Callable,
) -> None:
    """Write the outputs in chunks as large as memory allows."""

    def write(batch_size: int) -> None:
        _write_outputs(folder, classifier, images, pixels, device, batch_size, show)

    halves = (chunk >> i for i in itertools.count(1))
    try:
        find_executable_batch_size(write, chunk, lambda: next(halves))()
    except RuntimeError as error:
        if "No executable batch size" not in str(error):
            raise
        raise ResourceError(
            f"{classifier.id} does not fit into the memory of {device}",
            f"it ran out of memory on one image of {images.id}",
            "use a smaller model or a device with more memory",
        ) from error


@torch.no_grad()
def _write_outputs(
    folder: Path,
    classifier: Classifier,
    images: Images,
    pixels: Pixels,
    device: torch.device | str,
    chunk: int,
    show: Callable,
) -> None:
    network = classifier.network.to(device).eval()
    dtype = next(network.parameters()).dtype
    bar = iter(show(iter(range(len(pixels)))))
    layers = choose_layers(network, classifier.heads, pixels.batch(slice(0, 2), device, dtype))
    (folder / "layers.json").write_text(json.dumps([asdict(layer) for layer in layers]))
    files: list[NDArray] = []
    try:
        for first in range(0, len(pixels), chunk):
            rows = slice(first, min(first + chunk, len(pixels)))
            with reading(network, layers, rows.stop - rows.start) as read:
                batch = logits_and_features(network, classifier.heads, pixels.batch(rows, device, dtype))
            arrays = [output.cpu().numpy() for output in (*batch, read())]
            _require_finite(arrays[0], first, classifier, images)
            if not files:
                files = [
                    _allocate(folder / f"{name}.npy", a.dtype, (len(pixels), a.shape[1]))
                    for name, a in zip(_ARRAYS, arrays, strict=True)
                ]
            for file, array in zip(files, arrays, strict=True):
                file[rows] = array
                _forget(file)
            _forget(pixels.values)
            for _ in range(rows.start, rows.stop):
                next(bar)
    finally:
        network.to("cpu")


def _require_finite(logits: NDArray, first: int, classifier: Classifier, images: Images) -> None:
    broken = ~np.isfinite(logits).all(axis=1)
    if broken.any():
        raise UnfitError(
            f"{classifier.id}: logits of image {first + int(broken.argmax())} of {images.id} are not finite",
            "a probability cannot be had from NaN or infinity",
            "check the checkpoint and its preprocessing, or load it in float32",
        )
