"""What a comparison will cost in time, memory and disk, from architectures alone: no weights are downloaded."""

import copy
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from PIL import Image
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from hf_infodist.coding.kernels import LANDMARKS
from hf_infodist.coding.loop import MOST_TILE, TILE_NUMBERS
from hf_infodist.errors import ResourceError
from hf_infodist.models.classifier import Classifier
from hf_infodist.outputs.layers import MOST_LAYERS, MOST_VALUES, choose_layers
from hf_infodist.processes import one_thread
from hf_infodist.protocol import CodingProtocol

_WARM_UP_IMAGES = 4
_COPIES = 5  # of its weights that a fine-tuned learner keeps: they, gradients, two moments, an average or moves
_LONG_SECONDS = 1.0  # a step that takes longer is timed once, on the warm-up images
_MIXED = 100  # operations that mixing takes for each number predicted: exponentials, sums, updates
_RESOLUTIONS = 1.3  # of a layer, whose coarser grids are compared too: numbers for each that is kept
_TILE_COPIES = 8  # of the predictions of a tile: learners, mixture, pool, losses
_RATE_SIZE = 768  # of the product of matrices by which the speed of this machine is measured


@dataclass(frozen=True)
class ModelCost:
    """Cost of one image in one model.

    Attributes:
        id: The model's name.
        parameters: Number of weights.
        forward_flops: Floating-point operations of a forward pass on one image.
        training_flops: The same of a forward and a backward pass.
        forward_seconds: Measured on this device.
        training_seconds: Measured on this device.
        num_classes: Its outputs.
        values: Numbers that are read of its layers.
        pixels: Numbers of an image as it sees it.
    """

    id: str
    parameters: int
    forward_flops: int
    training_flops: int
    forward_seconds: float
    training_seconds: float
    num_classes: int
    values: int
    pixels: int


@dataclass(frozen=True)
class Estimate:
    """Cost of a comparison in both directions.

    Attributes:
        models: Cost of an image in each of the two.
        k: Images.
        gradient_images: Images passed through a gradient, both directions together.
        flops: Floating-point operations in all.
        seconds: Expected wall time on this device, without decoding images and loading weights.
        memory_bytes: Memory that coding takes at its peak, besides libraries and weights.
        disk_bytes: What is kept of images and outputs.
        device: Which device.
    """

    models: tuple[ModelCost, ...]
    k: int
    gradient_images: int
    flops: int
    seconds: float
    memory_bytes: int
    disk_bytes: int
    device: str

    @property
    def work(self) -> str:
        """What is done with the images, in words."""
        if not self.gradient_images:
            return "one forward pass of each model and no gradients"
        return f"{self.gradient_images:,} gradient images"

    def to_dict(self) -> dict[str, Any]:
        """Return JSON types, schema ``infodist.estimate/1``."""
        models = [vars(model).copy() for model in self.models]
        return {"schema": "infodist.estimate/1"} | vars(self) | {"models": models}


def estimate_cost(
    classifiers: Sequence[Classifier], k: int, protocol: CodingProtocol, device: torch.device | str = "cpu"
) -> Estimate:
    """Count operations on the meta device and time one small step of each model.

    Args:
        classifiers: The two models; random weights will do.
        k: Images to be coded.
        protocol: Sets how many gradients each image takes.
        device: Where the run will be.
    """
    models = tuple(_model_cost(classifier, protocol.batch, device) for classifier in classifiers)
    return total_cost(models, k, protocol, device)


def total_cost(
    models: tuple[ModelCost, ...], k: int, protocol: CodingProtocol, device: torch.device | str = "cpu"
) -> Estimate:
    """Add up what ``k`` images cost, from the cost of one in each model.

    Args:
        models: Cost of an image in each of the two.
        k: Images to be coded.
        protocol: Sets how many gradients each image takes.
        device: Where the run will be.
    """
    steps = protocol.gradient_images(k)
    fine_tuned = sum(learner.trained for learner in protocol.learners)
    predicting = 1 if protocol.reduction and fine_tuned else fine_tuned  # for most of the time
    passes = k * (1 + protocol.orders * predicting)  # outputs, then prices
    passes += protocol.orders * sum(_ends_read(protocol, k))  # of features that are read anew
    classes = max(model.num_classes for model in models)
    closed = [protocol.orders * closed_form_flops(k, classes, model.values, protocol) for model in models]
    trained_flops = sum(steps * m.training_flops + passes * m.forward_flops for m in models)
    trained_seconds = sum(steps * m.training_seconds + passes * m.forward_seconds for m in models)
    return Estimate(
        models=models,
        k=k,
        gradient_images=steps * len(models),
        flops=trained_flops + sum(closed),
        seconds=trained_seconds + sum(closed) / _flops_per_second(),
        memory_bytes=coding_bytes(k, classes, protocol),
        disk_bytes=sum(k * (m.pixels + 4 * (m.values + m.num_classes)) for m in models),
        device=str(device),
    )


def closed_form_flops(k: int, classes: int, values: int, protocol: CodingProtocol) -> int:
    """Return the operations of the learners that learn in closed form, for one student and one teacher.

    Args:
        k: Images.
        classes: C, the teacher's.
        values: Numbers that are read of the student's layers.
        protocol: Which learners.
    """
    mixing = _MIXED * k * classes * len(protocol.learners)
    once = _regression_flops(k, classes, values, _kernels(protocol, "kernel"))
    read = _kernels(protocol, "adapted")
    return mixing + once + sum(_regression_flops(end, classes, values, read) for end in _ends_read(protocol, k))


def _regression_flops(images: int, classes: int, values: int, kernels: int) -> int:
    """Return the operations of so many kernel regressions on the same features of images."""
    exact = min(images, LANDMARKS)
    distances = 2 * images * exact * int(_RESOLUTIONS * values) if kernels else 0
    factors = kernels * exact**3 // 3 * (1 + (images > exact) + -(-(images - exact) // MOST_TILE))
    later = kernels * (images - exact) * (4 * exact**2 + 4 * exact * classes)
    return distances + factors + kernels * exact**2 * classes + later


def _ends_read(protocol: CodingProtocol, k: int) -> list[int]:
    """Return of how many images features are read anew before each block; none where no learner asks for it."""
    return [end for _, end in protocol.blocks(k)] if _kernels(protocol, "adapted") else []


def coding_bytes(k: int, classes: int, protocol: CodingProtocol) -> int:
    """Return the memory that coding takes at its peak, in bytes, without libraries and weights.

    It does not grow with the images beyond `kernels.LANDMARKS`, but for the price of each image with each learner.

    Args:
        k: Images.
        classes: C, the larger number of classes.
        protocol: Which learners.
    """
    read, exact, learners = _kernels(protocol, "adapted"), min(k, LANDMARKS), len(protocol.learners)
    kernels = _kernels(protocol, "kernel") + read
    tile = max(1, min(MOST_TILE, TILE_NUMBERS // (learners * classes)))
    squares = kernels * (2 if k > exact else 1) + (6 if kernels else 0)  # factors; distances while these are made
    targets = kernels * exact * classes * (2 if k > exact else 1)
    tables = 2 * min(classes**2, 2**24)  # what classes are called
    features = exact * MOST_LAYERS * MOST_VALUES // 2 if read else 0  # of 4 bytes each, at most
    predictions = _TILE_COPIES * learners * tile * classes + 2 * k * learners
    return 8 * (squares * exact**2 + targets + tables + features + predictions)


def require_memory(k: int, classes: int, protocol: CodingProtocol) -> None:
    """Refuse what does not fit into the memory that is free, before any work is done.

    Raises:
        ResourceError: If it does not.
    """
    from psutil import virtual_memory

    needed, free = coding_bytes(k, classes, protocol), virtual_memory().available
    if needed > free:
        raise ResourceError(
            f"coding {k:,} images of {classes:,} classes takes about {needed / 1e9:.1f} GB of memory",
            f"{free / 1e9:.1f} GB are free here",
            "lower -k, or use a machine with more memory",
        )


def _kernels(protocol: CodingProtocol, kind: str) -> int:
    specs = (spec for spec in protocol.learners if spec.kind == kind)
    return len({(spec.features, spec.gamma, spec.noise) for spec in specs})


def _flops_per_second() -> float:
    """Time a product of matrices in float64."""
    left = torch.ones(_RATE_SIZE, _RATE_SIZE, dtype=torch.float64)
    left @ left
    started = time.perf_counter()
    left @ left
    return 2 * _RATE_SIZE**3 / (time.perf_counter() - started)


def _model_cost(classifier: Classifier, batch: int, device: torch.device | str) -> ModelCost:
    image = classifier.preprocessing.transform(Image.new("RGB", (256, 256), "grey"))
    network = copy.deepcopy(classifier.network).eval().requires_grad_(True)
    forward_flops, training_flops = _flops(copy.deepcopy(network).to("meta"), image[None].to("meta"))
    images = image.to(device, next(network.parameters()).dtype).expand(batch, *image.shape)
    network.to(device)
    layers = choose_layers(network, classifier.heads, images)
    with one_thread(device):  # as learners are trained
        training_seconds = _seconds(network, images[:_WARM_UP_IMAGES], train=True)
        if training_seconds * _WARM_UP_IMAGES < _LONG_SECONDS:
            training_seconds = min(_seconds(network, images, train=True) for _ in range(2))
        else:
            images = images[:_WARM_UP_IMAGES]
    return ModelCost(
        id=classifier.id,
        parameters=sum(p.numel() for p in network.parameters()),
        forward_flops=forward_flops,
        training_flops=training_flops,
        forward_seconds=_seconds(network, images, train=False),
        training_seconds=training_seconds,
        num_classes=classifier.num_classes,
        values=sum(layer.values for layer in layers),
        pixels=image.numel(),
    )


def training_bytes(classifier: Classifier, protocol: CodingProtocol) -> int:
    """Return the memory that a student takes, in bytes: what its learners keep, and the activations of a batch.

    Args:
        classifier: The student; random weights will do.
        protocol: Sets how many learners there are, and how large their batches.
    """
    saved: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        saved[id(tensor)] = tensor.numel() * tensor.element_size()
        return tensor

    image = classifier.preprocessing.transform(Image.new("RGB", (256, 256), "grey"))
    network = copy.deepcopy(classifier.network).eval().requires_grad_(True).to("meta")
    batch = image[None].to("meta", next(network.parameters()).dtype).expand(protocol.batch, *image.shape)
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        network(batch).sum()
    weights = sum(p.numel() * p.element_size() for p in network.parameters())
    learners = sum(learner.trained for learner in protocol.learners)
    return (1 + _COPIES * learners) * weights + sum(saved.values())


def _flops(network: nn.Module, image: Tensor) -> tuple[int, int]:
    with FlopCounterMode(display=False) as forward:
        loss = network(image.to(next(network.parameters()).dtype)).sum()
    with FlopCounterMode(display=False) as backward:
        loss.backward()
    return forward.get_total_flops(), forward.get_total_flops() + backward.get_total_flops()


def _seconds(network: nn.Module, images: Tensor, *, train: bool) -> float:
    """Return seconds per image of one pass."""
    started = time.perf_counter()
    with torch.set_grad_enabled(train):
        total = network(images).sum()
        if train:
            total.backward()
    total.item()  # wait for the device
    return (time.perf_counter() - started) / len(images)
