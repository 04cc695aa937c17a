"""Dataset name → k ordered images with a fingerprint."""

import hashlib
import itertools
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, fields, replace
from io import BytesIO
from pathlib import Path
from typing import Any, Unpack, cast

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from hf_infodist.errors import InfodistError, UnfitError, whole
from hf_infodist.images.choice import check_enough, choose_columns
from hf_infodist.images.files import ImageFiles
from hf_infodist.images.opening import Found
from hf_infodist.images.refusal import first_line
from hf_infodist.images.request import DEFAULT_K, Sample, SampleOptions, check_sample
from hf_infodist.images.sources import open_source, spool
from hf_infodist.results.records import ImagesRecord

STREAM_BUFFER = 1_000
"""Images a stream is shuffled within: image i of the sample is among the first ``i + STREAM_BUFFER`` of the stream."""

_DEEP_MODES = ("I", "I;16", "I;16L", "I;16B", "I;16N", "F")
_DIGEST = 32  # bytes of a sha256


@dataclass(frozen=True, eq=False)
class Images:
    """An ordered sample of a dataset, decoded when asked for and never kept.

    Attributes:
        id: Name of the dataset, as it was given.
        revision: Commit of the Hub the images are from; ``None`` for other sources, and where a cache does not tell.
        config: Configuration of the dataset, where it has any.
        split: Split the images were drawn from, where it has any.
        column: Column that holds the images; ``None`` for images given as a list.
        seed: Seed of the order.
        fingerprint: Hash of the sample and its order, the same for the same image files wherever they are stored.
        labels: Class of each image in the sample's order (-1: unlabelled), where a column of class labels exists.
        label_names: A name per class, where the dataset has them.
    """

    id: str
    revision: str | None
    config: str | None
    split: str | None
    column: str | None
    seed: int
    fingerprint: str
    labels: list[int] | None = field(repr=False)
    label_names: tuple[str, ...] | None = field(repr=False)
    _pictures: Any = field(repr=False)  # rows of the source, still encoded
    _rows: np.ndarray = field(repr=False)  # [k] row of each image in the source
    _digests: bytes = field(repr=False)  # [32 k] sha256 of each image

    @property
    def k(self) -> int:
        """Number of images."""
        return len(self._rows)

    def __len__(self) -> int:
        return self.k

    def __getitem__(self, index: int) -> Image.Image:
        """Decode one image to RGB.

        Raises:
            UnfitError: If the image is corrupt; the message names its row in the dataset.
        """
        row = int(self._rows[index])
        with _naming_row(self.id, row):
            return _decode(_stored(self._pictures, self.column, row))

    def __iter__(self) -> Iterator[Image.Image]:
        return (self[index] for index in range(self.k))

    def first(self, k: int) -> "Images":
        """Return the first ``k`` images, as if only they had been loaded.

        Raises:
            UsageError: If ``k`` is not positive.
            UnfitError: If there are fewer than ``k``.
        """
        k = whole(k, "k")
        check_sample(k, self.seed)
        check_enough(self.id, k, self.k)
        digests = self._digests[: k * _DIGEST]
        labels = None if self.labels is None else self.labels[:k]
        return replace(self, fingerprint=_fold(digests), labels=labels, _rows=self._rows[:k], _digests=digests)

    def bare(self) -> "Images":
        """Return the sample without its pictures: it still says what it is, and is small enough to be sent around."""
        return replace(self, _pictures=None)

    @property
    def record(self) -> ImagesRecord:
        """What identifies the sample."""
        return ImagesRecord(**{field.name: getattr(self, field.name) for field in fields(ImagesRecord)})


def load_images(source: Any, **options: Unpack[SampleOptions]) -> Images:
    """Draw ``k`` images of a dataset in a seeded order.

    The order is the start of a permutation of all rows, so a smaller ``k`` gives a prefix of a larger one. A stream
    is shuffled within a buffer of `STREAM_BUFFER` images instead, and its first ``k + STREAM_BUFFER`` images are
    kept, still encoded, in a file under ``TMPDIR`` as long as the sample lives. A stream sorted by class therefore
    gives its first classes only; up to `STREAM_BUFFER` images, a stream gives what the whole dataset gives.

    Args:
        source: Name of a dataset, or a loaded one: all that `Sample` takes; or a `Sample`.
        **options: The other fields of the sample.

    Raises:
        UsageError: If a setting cannot be meant, or a choice is left open.
        NotFoundError: If the dataset, or its configuration, split or column does not exist or cannot be reached.
        UnfitError: If it holds no images, too few, or files that cannot be read.
    """
    sample = Sample.of(source, **options)
    if isinstance(sample.images, Images):
        return sample.images if sample.k is None else sample.images.first(sample.k)
    found = open_source(sample)
    if isinstance(found.data, list | ImageFiles):
        buffer = STREAM_BUFFER if sample.streaming else None
        return _sample(found, found.column, sample.k, sample.seed, buffer)
    return _sample_dataset(found, sample.column, sample.k, sample.seed)


def to_rgb(image: Image.Image) -> Image.Image:
    """Return an image as 8-bit RGB, upright.

    | stored as | becomes |
    |---|---|
    | EXIF orientation, in any mode | turned upright first |
    | RGB | unchanged |
    | grey (L), 1 bit | the grey level in all three channels; a set bit is 255 |
    | palette (P) | the palette's colours |
    | alpha or a transparent colour (RGBA, LA, PA, P, L, RGB, 1 bit) | composited on white |
    | CMYK, YCbCr, LAB, HSV | converted by Pillow |
    | 16-bit grey (I;16…) | divided by 257 and rounded |
    | 32-bit integers (I) | the same if any value exceeds 255, else unchanged; clipped to 0…255 |
    | floats (F) | times 255 if all lie within 0…1, else unchanged; rounded and clipped to 0…255 |

    16-bit colour reaches Pillow as 8 bits already. Of an animation the frame it stands at is taken.
    """
    if image.getexif().get(0x0112, 1) != 1:
        image = ImageOps.exif_transpose(image)
    if image.mode in _DEEP_MODES:
        image = _eight_bit(image)
    if image.mode == "La":  # the one mode that only converts to its twin
        image = image.convert("LA")
    if image.has_transparency_data:
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image.convert("RGBA"))
    return image if image.mode == "RGB" else image.convert("RGB")


def _eight_bit(image: Image.Image) -> Image.Image:
    values = np.nan_to_num(np.asarray(image).astype(np.float64))  # [H, W]
    if image.mode == "F":
        scale = 255.0 if values.min() >= 0 and values.max() <= 1 else 1.0
    else:
        scale = 1 / 257 if image.mode != "I" or values.max() > 255 else 1
    return Image.fromarray((values * scale).round().clip(0, 255).astype(np.uint8))


# Drawing the sample.


def _sample_dataset(found: Found, wanted: str | None, k: int | None, seed: int) -> Images:
    import datasets

    column, label = choose_columns(found.id, found.data, wanted)
    streaming = isinstance(found.data, datasets.IterableDataset)
    if streaming:
        data = pictures = spool(found.id, _encoded(found, column, label, k or DEFAULT_K), column, label)
    else:
        data, pictures = found.data, found.data.select_columns([column])
        if isinstance(data.features[column], datasets.Image):
            pictures = pictures.cast_column(column, datasets.Image(decode=False))
    labels = None if label is None else [-1 if y is None else y for y in data.select_columns([label])[:][label]]
    names = None if label is None else tuple(found.data.features[label].names)
    found = replace(found, data=pictures, labels=labels, label_names=names)
    return _sample(found, column, k, seed, STREAM_BUFFER if streaming else None)


def _encoded(found: Found, column: str, label: str | None, k: int) -> Iterator[dict[str, Any]]:
    """Yield what a sample of ``k`` images needs of a stream: image files and labels."""
    stream = found.data.decode(False) if found.data.features else found.data
    for row, example in enumerate(itertools.islice(stream, k + STREAM_BUFFER)):
        with _naming_row(found.id, row):
            encoded = {column: _encode(example[column])}
        yield encoded if label is None else {**encoded, label: example[label]}


def _sample(found: Found, column: str | None, k: int | None, seed: int, buffer: int | None = None) -> Images:
    n = len(found.data)
    check_enough(found.id, k, n)
    rows = _order(n, min(n, DEFAULT_K) if k is None else k, seed, buffer)
    digests = b"".join(_digest(found, column, int(row)) for row in rows)
    labels = None if found.labels is None else [found.labels[row] for row in rows]
    origin = (found.id, found.revision, found.config, found.split, column, int(seed))
    return Images(*origin, _fold(digests), labels, found.label_names, found.data, rows, digests)


def _order(n: int, k: int, seed: int, buffer: int | None) -> np.ndarray:
    """Return ``k`` of ``n`` rows: permuted as a whole, or each drawn from a buffer that the next row refills."""
    rng = np.random.default_rng(seed)
    if buffer is None or n <= buffer:
        return rng.permutation(n)[:k].copy()
    pool, rows = np.arange(buffer), []
    for incoming in range(buffer, min(n, buffer + k)):
        slot = rng.integers(buffer)
        rows.append(pool[slot])
        pool[slot] = incoming
    return np.concatenate([rows, rng.permutation(pool)]).astype(np.int64)[:k]


# One image.


def _stored(pictures: Any, column: str | None, row: int) -> Any:
    return pictures[row] if column is None else pictures[row][column]


def _encode(value: Any) -> bytes:
    """Return the bytes of an image file; decoded images become plain pixels (PPM), which no codec version changes."""
    if isinstance(value, dict):
        value = value["bytes"] if value.get("bytes") is not None else _file_bytes(value.get("path"))
    if isinstance(value, bytes | bytearray | memoryview):
        return bytes(value)
    if isinstance(value, str | os.PathLike):
        return Path(value).expanduser().read_bytes()
    if value is None:
        raise ValueError("it holds no image")
    file = BytesIO()
    _decode(value).save(file, "PPM")
    return file.getvalue()


def _file_bytes(path: str | None) -> bytes | None:
    if path is None:
        return None
    import fsspec

    with fsspec.open(path, "rb") as file:
        return cast(bytes, file.read())


def _decode(value: Any) -> Image.Image:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module=r"PIL\.", category=UserWarning)  # unreadable EXIF and the like
        warnings.filterwarnings("error", category=Image.DecompressionBombWarning)
        image = _as_picture(value)
        image.load()
        return to_rgb(image)


def _as_picture(value: Any) -> Image.Image:
    """Return what a row holds as a picture that Pillow has opened, or made.

    Raises:
        TypeError: If it is nothing of the kind.
    """
    if isinstance(value, Image.Image):
        return value
    if isinstance(value, np.ndarray):
        return Image.fromarray(value)
    if isinstance(value, bytes | bytearray | memoryview | str | os.PathLike | dict) or value is None:
        return Image.open(BytesIO(_encode(value)))
    if hasattr(value, "detach"):
        return _of_tensor(value.detach().cpu())
    raise TypeError(f"it is a {type(value).__name__}; pass pictures, arrays [H, W, 3], files or their bytes")


def _of_tensor(pixels: Any) -> Image.Image:
    """Return a tensor ``[C, H, W]`` or ``[H, W]`` as a picture: bytes as they are, floats from 0 to 1.

    Raises:
        ValueError: If it holds other numbers: what was normalised for one model is no picture for another.
    """
    array = pixels.numpy()
    if array.dtype != np.uint8:
        if not np.issubdtype(array.dtype, np.floating) or array.min() < 0 or array.max() > 1:
            why = "those of a picture are bytes, or floats from 0 to 1; pass it as it was before it was normalised"
            raise ValueError(f"its values are {array.dtype} from {array.min():g} to {array.max():g}: {why}")
        array = np.rint(array * 255).astype(np.uint8)
    if array.ndim == 3 and array.shape[0] in (1, 3, 4):
        array = array[0] if array.shape[0] == 1 else np.moveaxis(array, 0, -1)
    return Image.fromarray(array)


def _digest(found: Found, column: str | None, row: int) -> bytes:
    with _naming_row(found.id, row):
        return hashlib.sha256(_encode(_stored(found.data, column, row))).digest()


def _fold(digests: bytes) -> str:
    return hashlib.sha256(digests).hexdigest()[:32]


@contextmanager
def _naming_row(name: str, row: int) -> Iterator[None]:
    try:
        yield
    except (MemoryError, InfodistError):
        raise
    except Exception as error:  # decoders fail in many ways: OSError, SyntaxError, ValueError, struct.error, ...
        why = "no known image format" if isinstance(error, UnidentifiedImageError) else first_line(error)
        fix = "repair or remove this row, or choose other images"
        raise UnfitError(f"row {row} of {name} cannot be read as an image", why, fix) from error
