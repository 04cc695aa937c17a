"""Dataset name → k ordered images with a fingerprint."""

import hashlib
import itertools
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, fields, replace
from typing import Any, Unpack

import numpy as np
from PIL import Image, UnidentifiedImageError

from hf_infodist.errors import InfodistError, ResourceError, UnfitError, whole
from hf_infodist.images.choice import check_enough, choose_columns
from hf_infodist.images.decode import decode, digest, encode
from hf_infodist.images.files import ImageFiles
from hf_infodist.images.labels import (
    UNLABELLED,
    LabelColumn,
    check_classes,
    check_labelled,
    read_classes,
    tell_left_out,
)
from hf_infodist.images.metadata import read_columns
from hf_infodist.images.opening import Found
from hf_infodist.images.refusal import first_line
from hf_infodist.images.request import DEFAULT_K, Sample, SampleOptions, check_sample
from hf_infodist.images.sources import open_source, spool
from hf_infodist.results.records import ImagesRecord

STREAM_BUFFER = 1_000
"""Images a stream is shuffled within: image i of the sample is among the first ``i + STREAM_BUFFER`` of the stream."""

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
    _mode: str | None = field(default=None, repr=False)  # of Pillow, that the source wants its images in

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
            return decode(_stored(self._pictures, self.column, row), self._mode)

    def __iter__(self) -> Iterator[Image.Image]:
        return (self[index] for index in range(self.k))

    def name_of(self, index: int) -> str:
        """Return where an image lies in its data set."""
        return f"row {int(self._rows[index])} of {self.id}"

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

    def labelled(self) -> "Images":
        """Return the images that have a label, as if only they had been loaded.

        Raises:
            UnfitError: If none has.
        """
        labels = self.labels or ()
        there = [i for i, label in enumerate(labels) if label != UNLABELLED]
        check_labelled(self.id, None, len(there))
        tell_left_out(self.id, len(labels) - len(there), len(labels))
        digests = b"".join(self._digests[i * _DIGEST : (i + 1) * _DIGEST] for i in there)
        known = [labels[i] for i in there]
        return replace(self, fingerprint=_fold(digests), labels=known, _rows=self._rows[there], _digests=digests)

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
    return _load(Sample.of(source, **options), None)


def load_labelled_images(source: Any, label: str | None = None, **options: Unpack[SampleOptions]) -> Images:
    """Draw ``k`` images that have a label, as `load_images` does; of the others it is said how many there are.

    Args:
        source: As in `load_images`.
        label: Column of the classes: class labels, whole numbers or texts; by default the one of class labels, or
            ``label``. Images in folders by class have ``label``.
        **options: As in `load_images`.

    Raises:
        UsageError: If a setting cannot be meant, or a choice is left open.
        NotFoundError: If there is no such dataset or column.
        UnfitError: If labels are missing, no classes, of one class alone, or fewer than their classes.
    """
    images = _load(Sample.of(source, **options), LabelColumn(label))
    check_classes(images.id, images.labels or (), images.label_names)
    return images


def _load(sample: Sample, label: LabelColumn | None) -> Images:
    if isinstance(sample.images, Images):
        images = sample.images.labelled() if label else sample.images
        return images if sample.k is None else images.first(sample.k)
    found = open_source(sample)
    buffer = STREAM_BUFFER if sample.streaming and not isinstance(found.data, list) else None
    if isinstance(found.data, list | ImageFiles):
        if label and found.metadata:
            found = _described(found, label)
        elif label:
            label.check_unnamed(found.id, found.labels)
        return _sample(found, found.column, sample.k, sample.seed, buffer, labelled=label is not None)
    return _sample_dataset(found, sample.column, sample.k, sample.seed, label)


def _described(found: Found, label: LabelColumn) -> Found:
    """Take the classes of image files from the metadata beside them."""
    table = read_columns(found.id, found.metadata)
    column = label.choose(found.id, table.features)
    labels, names = read_classes(found.id, column, table.features[column], table[column][:])
    return replace(found, labels=labels, label_names=names)


# Drawing the sample.


def _sample_dataset(found: Found, wanted: str | None, k: int | None, seed: int, classes: LabelColumn | None) -> Images:
    import datasets

    column, label, features = choose_columns(found.id, found.data, wanted)
    label = classes.choose(found.id, features) if classes else label
    streaming = isinstance(found.data, datasets.IterableDataset)
    if "." in column and column not in found.data.features:
        found = replace(found, data=_flat(found.data, column))
    if streaming:
        kind = features.get(label) if isinstance(features.get(label), datasets.Value) else None
        data = pictures = spool(found.id, _encoded(found, column, label, k or DEFAULT_K), column, label, kind)
    else:
        data, pictures = found.data, found.data.select_columns([column])
        if isinstance(data.features[column], datasets.Image):
            pictures = pictures.cast_column(column, datasets.Image(decode=False))
    feature = (found.data.features or {}).get(column)
    labels, names = None, None
    if label is not None:
        labels, names = read_classes(found.id, label, features[label], data.select_columns([label])[:][label])
    found = replace(found, data=pictures, labels=labels, label_names=names, mode=getattr(feature, "mode", None))
    return _sample(found, column, k, seed, STREAM_BUFFER if streaming else None, labelled=classes is not None)


def _flat(data: Any, column: str) -> Any:
    """Return a data set whose column is a part of a structure."""
    import datasets

    if isinstance(data, datasets.Dataset):
        return data.flatten()
    outer, _, inner = column.partition(".")
    features = datasets.Features({**data.features, column: data.features[outer][inner]})
    return data.decode(False).map(lambda row: {column: row[outer][inner]}, features=features)


def _encoded(found: Found, column: str, label: str | None, k: int) -> Iterator[dict[str, Any]]:
    """Yield what a sample of ``k`` images needs of a stream: image files and labels."""
    stream = found.data.decode(False) if found.data.features else found.data
    for row, example in enumerate(itertools.islice(stream, k + STREAM_BUFFER)):
        with _naming_row(found.id, row):
            encoded = {column: encode(example[column])}
        yield encoded if label is None else {**encoded, label: example[label]}


def _sample(
    found: Found, column: str | None, k: int | None, seed: int, buffer: int | None = None, *, labelled: bool = False
) -> Images:
    n = len(found.data)
    check_enough(found.id, k, n)
    if labelled:
        rows = _labelled_rows(found, _order(n, n, seed, buffer), k)
    else:
        rows = _order(n, min(n, DEFAULT_K) if k is None else k, seed, buffer)
    digests = b"".join(_digest(found, column, int(row)) for row in rows)
    labels = None if found.labels is None else [found.labels[row] for row in rows]
    origin = (found.id, found.revision, found.config, found.split, column, int(seed))
    return Images(*origin, _fold(digests), labels, found.label_names, found.data, rows, digests, found.mode)


def _labelled_rows(found: Found, rows: np.ndarray, k: int | None) -> np.ndarray:
    """Return the first ``k`` of some rows that have a label, and say how many have none."""
    there = rows[np.asarray(found.labels)[rows] != UNLABELLED]
    check_labelled(found.id, k, len(there))
    tell_left_out(found.id, len(rows) - len(there), len(rows))
    return there[: DEFAULT_K if k is None else k]


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


def _digest(found: Found, column: str | None, row: int) -> bytes:
    with _naming_row(found.id, row):
        return digest(_stored(found.data, column, row), found.mode)


def _fold(digests: bytes) -> str:
    return hashlib.sha256(digests).hexdigest()[:32]


@contextmanager
def _naming_row(name: str, row: int) -> Iterator[None]:
    try:
        yield
    except InfodistError:
        raise
    except MemoryError as error:
        what, why = f"row {row} of {name} is too large for the memory", "it takes more than is left, when it is read"
        raise ResourceError(what, why, "make it smaller, or leave it out") from error
    except Exception as error:  # decoders fail in many ways: OSError, SyntaxError, ValueError, struct.error, ...
        why = "no known image format" if isinstance(error, UnidentifiedImageError) else first_line(error)
        fix = "repair or remove this row, or choose other images"
        raise UnfitError(f"row {row} of {name} cannot be read as an image", why, fix) from error
