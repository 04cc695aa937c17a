"""Preprocessed pixels on disk: decoded once, 8 bits each where that is exact."""

import logging
import math
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.lib.format import open_memmap
from numpy.typing import NDArray
from torch import Tensor

from hf_infodist.errors import FULL, NoSpaceError, UnfitError, telling_of_system
from hf_infodist.images.sample import Images
from hf_infodist.models.preprocessing import Preprocessing
from hf_infodist.outputs.arrays import forget

logger = logging.getLogger(__name__)
_DECODE_CHUNK = 64  # images decoded before any is written: bounds memory, keeps the threads busy
_MOST_RESIZED = 50_000_000  # pixels of an image whose short side is as long as that of the model's images
_BLACK, _ONE_LEVEL = 8 / 255, 2 / 255  # levels that an eye does not tell from black, or from one another
_EXACT = 1e-5  # an 8-bit step is at least 1/255/std > 1e-3, so this tells round-off from a value between two steps


@contextmanager
def new_folder(final: Path) -> Iterator[Path]:
    """Give a temporary folder that becomes ``final`` at once when all is written; of two writers one wins."""
    with telling_of_system():
        final.parent.mkdir(parents=True, exist_ok=True)
        new = Path(tempfile.mkdtemp(prefix=".new-", dir=final.parent))
    try:
        with telling_of_system():
            yield new
            try:
                new.rename(final)
            except OSError:
                if not final.exists():
                    raise
    finally:
        shutil.rmtree(new, ignore_errors=True)


def write_pixels(path: Path, images: Images, preprocessing: Preprocessing, show: Callable) -> None:
    """Write the preprocessed images, in 8 bits each where that is exact."""
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as threads:
        rounded = _write_as(path, np.uint8, threads, images, preprocessing, show)
        if not rounded:
            _write_as(path, np.float32, threads, images, preprocessing, show)


def _write_as(
    path: Path, dtype: type, threads: ThreadPoolExecutor, images: Images, preprocessing: Preprocessing, show: Callable
) -> bool:
    """Write all images as ``dtype``; return False at the first that ``dtype`` cannot hold exactly."""
    pixels, blank = None, 0
    mean, std = (torch.tensor(v).view(-1, 1, 1) for v in (preprocessing.mean, preprocessing.std))
    bar = iter(show(iter(range(len(images)))))
    for first in range(0, len(images), _DECODE_CHUNK):
        rows = range(first, min(first + _DECODE_CHUNK, len(images)))
        for row, image in zip(rows, threads.map(lambda i: _prepare(images, i, preprocessing), rows), strict=True):
            next(bar)
            if pixels is None:
                pixels = allocate(path, dtype, (len(images), *image.shape))
            if image.shape != pixels.shape[1:]:
                raise UnfitError(
                    f"image {row} becomes {tuple(image.shape)} after preprocessing, earlier ones {pixels.shape[1:]}",
                    "images of one batch need one size",
                    "give the model a transform that resizes and crops to a fixed size",
                )
            levels = image * std + mean
            blank += _is_blank(levels)
            if dtype is np.uint8:
                steps = levels * 255
                if (steps - steps.round()).abs().max() > _EXACT * 255 or steps.min() < -0.5 or steps.max() > 255.5:
                    return False
                image = steps.round().to(torch.uint8)
            pixels[row] = image.numpy()
        forget(pixels)
    if 2 * blank > len(images):
        logger.warning(
            "%d of %d images of %s come out almost black or of one colour, so this number says little of the models: "
            "look at them; files of more than 8 bits may hold other values than they tell",
            blank, len(images), images.id,
        )  # fmt: skip
    return True


def _is_blank(levels: Tensor) -> bool:
    """Tell whether an image, ``[3, H, W]`` from 0 to 1, shows nothing: all is black, or one level."""
    darkest, brightest = levels.aminmax()
    return bool(brightest < _BLACK or brightest - darkest < _ONE_LEVEL)


def _prepare(images: Images, index: int, preprocessing: Preprocessing) -> Tensor:
    """Preprocess one image.

    Raises:
        UnfitError: If it is so long that resizing it to the height of the model's images would fill the memory.
    """
    image = images[index]
    (short, long), side = sorted(image.size), max(preprocessing.settings["input_size"])
    if long / short * side**2 > _MOST_RESIZED:
        what = f"{images.name_of(index)} has {image.width} × {image.height} pixels"
        why = f"resized for this model it would have {long / short * side**2 / 1e6:,.0f} million"
        raise UnfitError(what, why, "crop it, or leave it out")
    return preprocessing.transform(image)


def allocate(path: Path, dtype: Any, shape: tuple[int, ...]) -> NDArray:
    """Make a memory-mapped array whose place on the disk is reserved: writing to a full disk would end the process.

    Raises:
        NoSpaceError: If the disk has not that much left.
    """
    size = math.prod(shape) * np.dtype(dtype).itemsize
    try:
        array = open_memmap(path, mode="w+", dtype=dtype, shape=shape)
        _reserve(path)
    except OSError as error:
        if error.errno not in FULL:
            raise
        raise NoSpaceError(
            f"{path.stem} of {shape[0]:,} images take {size / 1e6:,.1f} MB of disk",
            f"{path.parent.parent} has {shutil.disk_usage(path.parent).free / 1e6:,.1f} MB left: {error.strerror}",
            "lower -k, delete what is not needed there, or set INFODIST_HOME to a folder on a larger disk",
        ) from error
    return array


def _reserve(path: Path) -> None:
    """Reserve the place of a file on the disk, where system and file system can."""
    if hasattr(os, "posix_fallocate"):
        with path.open("r+b") as file:
            try:
                os.posix_fallocate(file.fileno(), 0, path.stat().st_size)
            except OSError as error:
                if error.errno in FULL:
                    raise
