"""What a comparison will cost, from architectures alone: no weights are downloaded."""

import copy
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from PIL import Image
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from hf_infodist.models import Classifier
from hf_infodist.processes import one_thread
from hf_infodist.protocol import CodingProtocol

_WARM_UP_IMAGES = 4
_COPIES = 5  # of its weights that a fine-tuned learner keeps: they, gradients, two moments, and an average
_LONG_SECONDS = 1.0  # a step that takes longer is timed once, on the warm-up images


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
    """

    id: str
    parameters: int
    forward_flops: int
    training_flops: int
    forward_seconds: float
    training_seconds: float


@dataclass(frozen=True)
class Estimate:
    """Cost of a comparison in both directions.

    Attributes:
        models: Cost of an image in each of the two.
        k: Images.
        gradient_images: Images passed through a gradient, both directions together.
        flops: Floating-point operations in all.
        seconds: Expected wall time on this device, without decoding images and loading weights.
        device: Which device.
    """

    models: tuple[ModelCost, ...]
    k: int
    gradient_images: int
    flops: int
    seconds: float
    device: str

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
    with one_thread(device):
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
    fine_tuned = sum(learner.kind == "finetuned" for learner in protocol.learners)
    predicting = 1 if protocol.reduction and fine_tuned else fine_tuned  # for most of the time
    passes = k * (1 + protocol.orders * predicting)  # outputs, then prices
    return Estimate(
        models=models,
        k=k,
        gradient_images=steps * len(models),
        flops=sum(steps * m.training_flops + passes * m.forward_flops for m in models),
        seconds=sum(steps * m.training_seconds + passes * m.forward_seconds for m in models),
        device=str(device),
    )


def _model_cost(classifier: Classifier, batch: int, device: torch.device | str) -> ModelCost:
    image = classifier.preprocessing.transform(Image.new("RGB", (256, 256), "grey"))
    network = copy.deepcopy(classifier.network).eval().requires_grad_(True)
    forward_flops, training_flops = _flops(copy.deepcopy(network).to("meta"), image[None].to("meta"))
    images = image.to(device, next(network.parameters()).dtype).expand(batch, *image.shape)
    network.to(device)
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
    learners = sum(learner.kind == "finetuned" for learner in protocol.learners)
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
