"""One loop that trains small networks under every setting that the studies of training vary."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from hf_infodist.models.demo.train import descend
from hf_infodist.studies.networks.zoo import MEAN, STD

_SHIFT = 3  # pixels
_CHUNK = 500  # images per evaluation pass


@dataclass(frozen=True, eq=False)
class Examples:
    """Pictures, and what is to be said of them.

    Attributes:
        images: ``[N, 3, H, W]``, bytes.
        targets: ``[N]`` classes, or ``[N, C]`` probabilities.
    """

    images: Tensor
    targets: Tensor

    def __len__(self) -> int:
        return len(self.targets)

    def rows(self, index: Tensor) -> "Examples":
        """Return some of them."""
        return Examples(self.images[index], self.targets[index])

    def taught_by(self, logs: Tensor) -> "Examples":
        """Return the same pictures with a network's log-probabilities ``[N, C]`` for targets, as in distillation."""
        return replace(self, targets=logs.exp().float())


@dataclass(frozen=True)
class Training:
    """How a network is trained.

    Attributes:
        epochs: Passes over the examples; at most so many where there is a `Goal`.
        optimizer: Adam, or plain stochastic gradient descent.
        rate: Learning rate.
        batch: Examples per step; the last, incomplete batch of an epoch is left out.
        anneal: Whether the rate falls linearly to zero, rather than staying constant.
        weight_decay: Coefficient of L2: this times each weight is added to its gradient.
        smoothing: Share of each target that is spread over all classes.
        dropout: Probability with which each output of every ReLU is dropped.
        augment: Whether pictures are moved by up to 3 pixels and mirrored at random.
        noise: Largest standard deviation of the noise that is added to the pixels each time, on the scale 0 to 1.
    """

    epochs: int
    optimizer: Literal["adam", "sgd"] = "adam"
    rate: float = 2e-3
    batch: int = 32
    anneal: bool = False
    weight_decay: float = 0.0
    smoothing: float = 0.0
    dropout: float = 0.0
    augment: bool = False
    noise: float = 0.0


@dataclass(frozen=True)
class Goal:
    """When training ends before its epochs do.

    Every ``every`` examples the network is asked in eval mode about all examples of one set. Training ends when their
    mean cross-entropy is first at most ``loss``, with the weights of that moment: nothing is averaged, interpolated,
    or chosen in hindsight.

    Attributes:
        loss: Nats per example.
        every: Examples between two looks.
    """

    loss: float
    every: int


@dataclass(frozen=True)
class Fitted:
    """How training ended.

    Attributes:
        examples: How many passed through the gradient, those of all epochs together.
        loss: Of the set that was watched when it was last looked at, nats per example; None without a goal.
        reached: Whether the goal was.
    """

    examples: int
    loss: float | None
    reached: bool


@dataclass(frozen=True)
class Score:
    """Mean cross-entropy in nats per example, and the share whose most probable class is right."""

    loss: float
    accuracy: float


def fit(
    network: nn.Module,
    examples: Examples,
    training: Training,
    *,
    seed: int,
    goal: Goal | None = None,
    watched: Examples | None = None,
    device: torch.device | str = "cpu",
) -> Fitted:
    """Train a network in place, and leave it in eval mode on the CPU.

    Args:
        network: With fresh weights, or others.
        examples: To learn.
        training: How.
        seed: Of the order of the examples, of dropout and of augmentation; no global generator is touched.
        goal: When to end early.
        watched: The set that the goal is about.
        device: Where.
    """
    network.to(device).to(memory_format=torch.channels_last).train()  # the faster layout
    optimizer = _optimizer(network, training)
    whole = max(len(examples) // training.batch, 1)
    steps, seen, loss = training.epochs * whole, 0, None
    decay = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 - step / steps if training.anneal else 1.0)
    generator = torch.Generator().manual_seed(seed)
    with _dropout(network, training.dropout, torch.Generator(device).manual_seed(seed)):
        batches = _batches(examples, whole, training, generator, device)
        for count in descend(network, batches, optimizer, decay, training.smoothing):
            seen += count
            if goal and watched and seen % goal.every < count:
                loss = score(log_probabilities(network, watched.images, device), watched.targets).loss
                if loss <= goal.loss:
                    break
    network.eval().cpu().to(memory_format=torch.contiguous_format)
    return Fitted(seen, loss, goal is not None and loss is not None and loss <= goal.loss)


def _optimizer(network: nn.Module, training: Training) -> torch.optim.Optimizer:
    kinds: dict[str, Any] = {"adam": torch.optim.Adam, "sgd": torch.optim.SGD}
    options = {"lr": training.rate, "weight_decay": training.weight_decay, "fused": True}
    return kinds[training.optimizer](network.parameters(), **options)


def _batches(
    examples: Examples, whole: int, training: Training, generator: torch.Generator, device: torch.device | str
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield pixels and targets, in a new order each epoch."""
    for _ in range(training.epochs):
        order = torch.randperm(len(examples), generator=generator)[: whole * training.batch]
        for chosen in order.split(training.batch):
            batch = examples.rows(chosen)
            pixels = normalised(batch.images)
            if training.augment:
                pixels = augmented(pixels, generator)
            if training.noise:
                pixels = noisy(pixels, training.noise, generator)
            yield pixels.to(device, memory_format=torch.channels_last), batch.targets.to(device)


@contextmanager
def _dropout(network: nn.Module, probability: float, generator: torch.Generator) -> Iterator[None]:
    """Drop outputs of every ReLU while the network trains; in eval mode, and afterwards, it is as it was."""

    def drop(module: nn.Module, _: Any, output: Tensor) -> Tensor:
        if not module.training:
            return output
        kept = torch.empty_like(output).bernoulli_(1 - probability, generator=generator)
        return output * kept / (1 - probability)

    places = [module for module in network.modules() if isinstance(module, nn.ReLU)] if probability else []
    handles = [module.register_forward_hook(drop) for module in places]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def normalised(images: Tensor) -> Tensor:
    """Return bytes as the numbers that networks see."""
    return (images.float() / 255 - MEAN) / STD


def augmented(pixels: Tensor, generator: torch.Generator) -> Tensor:
    """Move each picture of a batch ``[N, 3, H, W]``, repeating its border, and mirror half of them."""
    count, _, height, width = pixels.shape
    padded = functional.pad(pixels, (_SHIFT,) * 4, mode="replicate")
    places = torch.randint(2 * _SHIFT + 1, (count, 2), generator=generator).tolist()
    mirrored = torch.rand(count, generator=generator) < 0.5
    moved = torch.stack(
        [one[:, row : row + height, left : left + width] for one, (row, left) in zip(padded, places, strict=True)]
    )
    return torch.where(mirrored[:, None, None, None], moved.flip(3), moved)


def noisy(pixels: Tensor, deviation: float, generator: torch.Generator) -> Tensor:
    """Add Gaussian noise to each picture of a batch ``[N, 3, H, W]``; no level leaves the scale 0 to 1.

    The variance of a picture's noise is drawn uniformly up to that of the largest standard deviation.
    """
    own = deviation * torch.rand(len(pixels), 1, 1, 1, generator=generator).sqrt()
    levels = pixels * STD + MEAN + own * torch.randn(pixels.shape, generator=generator)
    return (levels.clamp(0, 1) - MEAN) / STD


@torch.no_grad()
def log_probabilities(network: nn.Module, images: Tensor, device: torch.device | str = "cpu") -> Tensor:
    """Return what a network says in eval mode, ``[N, C]``, float64 on the CPU; its mode stays what it was."""
    training = network.training
    network.eval()
    logits = [network(normalised(chunk).to(device)).cpu().double() for chunk in images.split(_CHUNK)]
    network.train(training)
    return torch.cat(logits).log_softmax(1)


def score(logs: Tensor, labels: Tensor) -> Score:
    """Compare log-probabilities ``[N, C]`` with classes ``[N]``."""
    loss = functional.nll_loss(logs, labels).item()
    return Score(loss, (logs.argmax(1) == labels).double().mean().item())
