"""What a number costs beside forward passes: reading layers, closed forms, each added direction.

``infodist study cost [--data FOLDER] [-k 1500] [--output cost.json]``

1. Seconds per image of a forward pass with and without reading layers, of four architectures at 224 pixels.
2. Two EfficientNet-Lites on photographs: seconds of everything that `compare` does, after libraries are imported,
   against those of the two models' forward passes alone, in turns.
3. Eight small networks on digits: seconds for each direction of a matrix once the models have been run.
"""

import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Annotated, Any

import torch
import typer
from torch import Tensor

from hf_infodist.distances.distance import information_distance
from hf_infodist.distances.pairwise import pairwise_distances
from hf_infodist.environment import keep_freed_memory
from hf_infodist.images.sample import load_images
from hf_infodist.models.classifier import Classifier
from hf_infodist.models.load import load_classifier
from hf_infodist.outputs.forward import compute_outputs
from hf_infodist.outputs.layers import choose_layers, reading
from hf_infodist.pair import Execution
from hf_infodist.studies.networks.pairs import default_data
from hf_infodist.studies.report.options import Data, File
from hf_infodist.studies.report.output import show_json

ARCHITECTURES = {
    "ResNet-50": "random:torchvision:resnet50",
    "ViT-B/16": "random:timm:vit_base_patch16_224",
    "ConvNeXt-T": "random:timm:convnext_tiny",
    "Swin-T": "random:timm:swin_tiny_patch4_window7_224",
}
SMALL = ("demo:cnn", "demo:vit", "random:demo:cnn", "random:demo:vit")
_BATCH = 16
_ROUNDS = 3


def seconds_of(work: Callable[[], Any]) -> float:
    """Return the wall time of a call."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


@torch.no_grad()
def reading_cost(name: str) -> dict[str, float]:
    """Return what is read of an architecture, and milliseconds per image of a pass with and without reading."""
    classifier = load_classifier(name)
    network, pixels = classifier.network, torch.randn(_BATCH, 3, 224, 224)
    layers = choose_layers(network, classifier.heads, pixels)

    def read() -> Tensor:
        with reading(network, layers, _BATCH) as values:
            network(pixels)
        return values()

    read()
    rounds = [(seconds_of(lambda: network(pixels)), seconds_of(read)) for _ in range(_ROUNDS)]
    plain, both = (1000 * median(column) / _BATCH for column in zip(*rounds, strict=True))
    values = sum(layer.values for layer in layers)
    return {"layers": len(layers), "values": values, "forward_ms": plain, "reading_ms": both, "ratio": both / plain}


@torch.no_grad()
def forward_seconds(classifier: Classifier, pixels: Any, chunk: int = 64) -> float:
    """Return the seconds of the forward passes of a model over preprocessed images."""

    def run() -> None:
        for first in range(0, len(pixels), chunk):
            classifier.network(pixels.batch(slice(first, min(first + chunk, len(pixels))), "cpu", torch.float32))

    return seconds_of(run)


def compare_cost(a: str, b: str, images: str, k: int) -> dict[str, float]:
    """Return seconds of a comparison from an empty store on, and of the forward passes of both models alone."""
    with tempfile.TemporaryDirectory() as home:
        execution = Execution(home=Path(home))
        whole = seconds_of(lambda: information_distance(a, b, images, k=k, execution=execution))
        sample, alone = load_images(images, k=k), 0.0
        for classifier in map(load_classifier, (a, b)):
            alone += forward_seconds(classifier, compute_outputs(classifier, sample, home=execution.home).pixels)
    return {"k": k, "compare_s": whole, "forward_passes_s": alone, "ratio": whole / alone}


def matrix_cost(models: tuple[str, ...], k: int) -> dict[str, float]:
    """Return the seconds for each direction of a matrix of models that have been run."""
    with tempfile.TemporaryDirectory() as home:
        execution, sample = Execution(home=Path(home)), load_images("digits", k=k)
        for model in models:
            compute_outputs(load_classifier(model), sample, home=execution.home)
        seconds = seconds_of(lambda: pairwise_distances(models, "digits", k=k, execution=execution))
    directions = len(models) * (len(models) - 1)
    return {"k": k, "directions": directions, "seconds": seconds, "seconds_per_direction": seconds / directions}


def main(
    data: Data = default_data(),
    k: Annotated[int, typer.Option("-k", help="photographs")] = 1500,
    output: File = None,
) -> None:
    """Measure all three and print them."""
    keep_freed_memory()
    small = (*SMALL, *(str(data / f"fashion-{name}") for name in ("a", "b", "all-0", "all-1")))
    figures = {
        "threads": torch.get_num_threads(),
        "reading": {name: reading_cost(model) for name, model in ARCHITECTURES.items()},
        "compare": compare_cost(str(data / "lite0"), str(data / "lite1"), str(data / "photos.parquet"), k),
        "matrix": matrix_cost(small, 500),
    }
    show_json(figures, output)
