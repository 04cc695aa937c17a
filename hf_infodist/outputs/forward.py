"""One forward pass of a classifier over a sample: pixels, logits and features, kept on disk."""

import itertools
import json
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
from accelerate.utils import find_executable_batch_size, tqdm
from numpy.typing import NDArray

from hf_infodist.environment import return_freed_memory
from hf_infodist.errors import ResourceError, UnfitError
from hf_infodist.home import Home
from hf_infodist.images.sample import Images
from hf_infodist.models.classifier import Classifier
from hf_infodist.models.heads import logits_and_features
from hf_infodist.models.member import Member
from hf_infodist.outputs.arrays import Outputs, Pixels, forget
from hf_infodist.outputs.known import KnownOutputs
from hf_infodist.outputs.layers import LAYERS_VERSION, Layer, choose_layers, reading
from hf_infodist.outputs.pixels import allocate, new_folder, write_pixels
from hf_infodist.results.atlas import keys

_ARRAYS = ("logits", "features", "values")


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
        home: Store folder; `Home.at` if None.
        chunk: Images per forward pass; does not change the outputs beyond round-off.
        progress: Whether to show a progress bar.

    Raises:
        UnfitError: If an image cannot be decoded or the model's output is not finite.
        ResourceError: If memory does not suffice for one image at a time.
    """
    if isinstance(classifier, Member):
        return KnownOutputs.of(classifier.file, outputs_key(classifier, images))
    place = Home.at(home)
    preprocessing = classifier.preprocessing
    pixels_key, key = keys.pixels_key(images.fingerprint, preprocessing.settings), outputs_key(classifier, images)

    def show(what: str, total: int) -> Callable[[Iterator], Iterator]:
        def counted(steps: Iterator) -> Iterator:
            with tqdm(total=total, desc=f"{what} {classifier.id}", unit="image", disable=not progress) as bar:
                for step in steps:
                    bar.update()  # before it is given away: after the last one nobody asks for more
                    yield step

        return counted

    pixels_folder = place.pixels_of(pixels_key)
    if not pixels_folder.exists():
        with new_folder(pixels_folder) as new:
            write_pixels(new / "pixels.npy", images, preprocessing, show("preprocessing for", len(images)))
    values = np.load(pixels_folder / "pixels.npy", mmap_mode="r")
    pixels = Pixels(values, preprocessing.mean, preprocessing.std)

    folder = place.outputs_of(key)
    if not folder.exists():
        with new_folder(folder) as new:
            _write_within_memory(new, classifier, images, pixels, device, chunk, show("running", len(images)))
    logits, features, values = (np.load(folder / f"{name}.npy", mmap_mode="r") for name in _ARRAYS)
    layers = tuple(Layer(**layer) for layer in json.loads((folder / "layers.json").read_text()))
    return Outputs(pixels, logits, features, values, layers, key)


def outputs_key(classifier: Classifier, images: Images) -> str:
    """Return the hash of images, preprocessing and weights, known before the classifier is run.

    What an atlas has packed is not the same to the bit, and has a name of its own.
    """
    if isinstance(classifier, Member):
        return classifier.file.outputs
    settings, weights = classifier.preprocessing.settings, classifier.weights_hash
    return keys.outputs_key(images.fingerprint, settings, weights, LAYERS_VERSION)


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
    finally:
        return_freed_memory()


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
                    allocate(folder / f"{name}.npy", a.dtype, (len(pixels), a.shape[1]))
                    for name, a in zip(_ARRAYS, arrays, strict=True)
                ]
            for file, array in zip(files, arrays, strict=True):
                file[rows] = array
                forget(file)
            forget(pixels.values)
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
