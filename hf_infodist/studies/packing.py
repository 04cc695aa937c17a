"""What an atlas may leave out of a model: bytes against the change of distances.

``infodist study packing [--data FOLDER] [-k 300] [--output packing.json]``

Pairs of real networks are compared as usual, and then with outputs that were packed in some way: logits in half
precision, of low rank, or of the likeliest classes alone, all others sharing what is left; distances between images
instead of features, in steps of exp(-D / 4) or in half precision. Of each the largest change of a codelength is told,
and the bytes of one model.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
import typer
from numpy.typing import NDArray
from scipy.special import log_softmax

from hf_infodist.coding.features import distances_of
from hf_infodist.coding.trainer import train_codelength
from hf_infodist.errors import UnfitError
from hf_infodist.images.sample import load_images
from hf_infodist.outputs.arrays import Outputs
from hf_infodist.outputs.known import KnownOutputs
from hf_infodist.pair import DIRECTIONS, Pair, prepare_pair
from hf_infodist.protocol import PROTOCOLS
from hf_infodist.results.atlas.packing import SQUARES, pack_logits, pack_square, unpack_square
from hf_infodist.studies.networks.pairs import default_data
from hf_infodist.studies.report.options import Data, File
from hf_infodist.studies.report.output import show_json
from hf_infodist.table import text_table

Array = NDArray[Any]
Packed = tuple[Array, float]  # what is read again, and bytes


def half(logits: Array) -> Packed:
    """Keep logits as an atlas does."""
    packed = pack_logits(logits)
    return packed, packed.nbytes


def of_rank(rank: int) -> Callable[[Array], Packed]:
    """Return what keeps the largest ``rank`` singular values of centred logits, both factors in half precision."""

    def pack(logits: Array) -> Packed:
        centred = logits - logits.mean(1, keepdims=True, dtype=np.float64)
        left, values, right = np.linalg.svd(centred, full_matrices=False)
        factors = (left[:, :rank] * values[:rank]).astype(np.float16), right[:rank].astype(np.float16)
        return factors[0].astype(np.float64) @ factors[1].astype(np.float64), sum(one.nbytes for one in factors)

    return pack


def likeliest(count: int) -> Callable[[Array], Packed]:
    """Return what keeps the likeliest classes of each image, in half precision; the others share what is left."""

    def pack(logits: Array) -> Packed:
        log_probs = log_softmax(logits.astype(np.float64), axis=1)
        classes = log_probs.shape[1]
        kept = np.argsort(-log_probs, axis=1)[:, :count]
        told = np.take_along_axis(log_probs, kept, 1).astype(np.float16).astype(np.float64)
        rest = np.maximum(1 - np.exp(told).sum(1, keepdims=True), 1e-12) / max(classes - count, 1)
        packed = np.repeat(np.log(rest), classes, 1)
        np.put_along_axis(packed, kept, told, 1)
        return packed, 4.0 * kept.size  # two bytes for the class, two for its probability

    return pack


def steps(square: Array) -> Packed:
    """Keep distances as an atlas does."""
    packed = pack_square(square)
    return unpack_square(packed, len(square)), packed.nbytes


def coarse(square: Array) -> Packed:
    """Keep distances in 256 steps of the same."""
    packed = pack_square(square)
    return unpack_square((packed // 256 * 256 + 127).astype(np.uint16), len(square)), packed.nbytes / 2


def halves(square: Array) -> Packed:
    """Keep distances themselves in half precision."""
    return square.astype(np.float16).astype(np.float64), len(square) * (len(square) - 1.0)


@dataclass(frozen=True, eq=False)
class Varied(KnownOutputs):
    """Outputs whose distances between images are in memory."""

    squares: dict[str, Array]

    def distances(self, name: str) -> Array:
        """Return D, ``[k, k]``."""
        return self.squares[name]


def varied(
    outputs: Outputs, logits: Callable[[Array], Packed], square: Callable[[Array], Packed]
) -> tuple[Varied, float]:
    """Return outputs that were packed and read again, and bytes."""
    known = distances_of(outputs)
    everything = slice(0, outputs.logits.shape[0])
    between = known.between(everything, everything)
    packed = {name: square(between[name].numpy()) for name in SQUARES}
    told, size = logits(np.array(outputs.logits[:]))
    nothing = np.zeros((len(told), 0))
    file: Any = None
    quarters: Any = known.quarters  # type: ignore[union-attr]
    squares = {name: one for name, (one, _) in packed.items()}
    made = Varied(outputs.pixels, told, nothing, nothing, (), outputs.key, quarters, file, squares)
    return made, size + sum(bytes for _, bytes in packed.values())


WAYS: dict[str, tuple[Callable[[Array], Packed], Callable[[Array], Packed]]] = {
    "an atlas": (half, steps),
    "logits of rank 64": (of_rank(64), steps),
    "logits of rank 256": (of_rank(256), steps),
    "the 20 likeliest classes": (likeliest(20), steps),
    "the 100 likeliest classes": (likeliest(100), steps),
    "256 steps of distance": (half, coarse),
    "distances in half precision": (half, halves),
}


def codelengths(pair: Pair) -> NDArray[np.float64]:
    """Return both, nats; NaN where a kernel is no longer one."""
    found = []
    for direction in DIRECTIONS:
        try:
            found.append(train_codelength(pair, direction, PROTOCOLS["standard"]).nats)
        except UnfitError:
            found.append(np.nan)
    return np.array(found)


def compare(a: str, b: str, images: str, k: int) -> dict[str, dict[str, Any]]:
    """Return nats both ways, relative changes and bytes by way of packing."""
    pair = prepare_pair(a, b, load_images(images, k=k))
    whole = codelengths(pair)
    found: dict[str, dict[str, Any]] = {"as they are": {"nats": whole.tolist(), "away": [0.0, 0.0], "bytes": None}}
    for name, (logits, square) in WAYS.items():
        known = {one: varied(pair.run(one), logits, square) for one in (pair.a, pair.b)}
        nats = codelengths(Pair(pair.a, pair.b, pair.images, lambda one, known=known: known[one][0]))  # type: ignore[misc]
        size = max(bytes for _, bytes in known.values())
        found[name] = {"nats": nats.tolist(), "away": (nats / whole - 1).tolist(), "bytes": size}
    return found


def main(
    data: Data = default_data(),
    k: Annotated[int, typer.Option("-k", help="images of every pair")] = 300,
    output: File = None,
) -> None:
    """Compare pairs in every way, and print figures."""
    photos, test = (str(data / f"{name}.parquet") for name in ("photos", "fashion-test"))
    pairs = {
        "demo:cnn, demo:vit": ("demo:cnn", "demo:vit", "digits"),
        "demo:cnn, random": ("demo:cnn", "random:demo:cnn", "digits"),
        "other half of the classes": (str(data / "fashion-a"), str(data / "fashion-b"), test),
        "other seed": (str(data / "fashion-all-0"), str(data / "fashion-all-1"), test),
        "EfficientNet-Lite0, 1": (str(data / "lite0"), str(data / "lite1"), photos),
    }
    figures = {name: compare(*words, k) for name, words in pairs.items()}
    rows = [(way, *(_told(found[way]["away"]) for found in figures.values())) for way in next(iter(figures.values()))]
    show_json({"k": k, "pairs": figures, "table": text_table(("", *figures), rows)}, output)


def _told(away: list[float]) -> str:
    return "no kernel" if np.isnan(away).any() else f"{np.abs(away).max():.3%}"
