"""Trains the embedded checkpoints on digits: ``python -m hf_infodist.models.demo.train [--out FOLDER]``."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import torch
import typer
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional

if TYPE_CHECKING:
    from transformers import ViTForImageClassification, ViTImageProcessor

logger = logging.getLogger(__name__)

NAMES = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
TRAIN_IMAGES = 1000
SIZE = 32
Transform = Callable[[Image.Image], Tensor]


@dataclass(frozen=True)
class Recipe:
    """How a tiny classifier is trained: AdamW with a one-cycle learning rate whose peak is `rate`."""

    epochs: int
    rate: float
    seed: int = 0
    batch: int = 50
    shift: int = 3


CARD = """---
license: apache-2.0
library_name: {library}
pipeline_tag: image-classification
tags: [image-classification, infodist]
---

# Digits, {title}

A tiny image classifier of ten handwritten digits ({parameters:,} parameters), for demonstrations and tests that
need no network.

- **Architecture**: {architecture}.
- **Data**: the 1,797 grey 8×8 images of scikit-learn's `load_digits` (UCI, Optical Recognition of Handwritten
  Digits), scaled to 0–255, as RGB, enlarged to {size}×{size} by the preprocessing saved beside the weights. A random
  {train} of them for training.
- **Training**: {recipe.epochs} epochs of AdamW, one-cycle learning rate with peak {recipe.rate}, batches of
  {recipe.batch}, random shifts of up to {recipe.shift} pixels, seed {recipe.seed};
  `python -m hf_infodist.models.demo.train` repeats it.
- **Accuracy**: {accuracy:.1%} on the other {held_out} images.
- **Licence**: Apache-2.0.
"""


def digit_images() -> tuple[list[Image.Image], Tensor]:
    """Return all 1797 digits as 8×8 RGB images, and their labels (``[1797]``)."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    grey = np.rint(digits.images * (255 / 16)).astype(np.uint8)  # [1797, 8, 8]
    return [Image.fromarray(image).convert("RGB") for image in grey], torch.from_numpy(digits.target).long()


def split(count: int, seed: int) -> tuple[Tensor, Tensor]:
    """Return the indices of the training and of the held-out images: a seeded permutation, cut at 1000."""
    order = torch.randperm(count, generator=torch.Generator().manual_seed(seed))
    return order[:TRAIN_IMAGES], order[TRAIN_IMAGES:]


def tiny_resnet(
    names: Sequence[str],
    *,
    size: int,
    channels: tuple[int, int, int, int],
    mean: float = 0.5,
    std: float = 0.5,
    output_stride: int = 32,
) -> tuple[nn.Module, dict[str, Any]]:
    """Build a ResNet of one block per stage, and the arguments with which timm builds it again.

    Args:
        names: Class names, in the order of the outputs.
        size: Side of the square input in pixels.
        channels: Width of the four stages.
        mean: Subtracted from every channel, on the scale 0–1.
        std: Every channel is divided by it.
        output_stride: Side of the input over the side of the last feature map, at least.
    """
    import timm

    arguments: dict[str, Any] = {
        "layers": (1, 1, 1, 1),
        "channels": channels,
        "stem_type": "deep",
        "stem_width": channels[0] // 2,
        "output_stride": output_stride,
    }
    pretrained_cfg = {
        "num_classes": len(names),
        "label_names": list(names),
        "input_size": (3, size, size),
        "mean": (mean,) * 3,
        "std": (std,) * 3,
        "interpolation": "bilinear",
        "crop_pct": 1.0,
        "crop_mode": "center",
        "first_conv": "conv1.0",
        "classifier": "fc",
        "license": "apache-2.0",
    }
    model = timm.create_model("resnet18", num_classes=len(names), pretrained_cfg=pretrained_cfg, **arguments)
    return model, arguments


def save_timm(model: nn.Module, arguments: dict, folder: Path) -> None:
    """Write ``config.json`` and ``model.safetensors`` as timm's ``local-dir:`` reads them."""
    from timm.models import save_for_hf

    save_for_hf(model, str(folder), model_args=arguments, safe_serialization=True)


def timm_transform(model: nn.Module) -> Transform:
    """Return the evaluation transform that a timm model's configuration describes."""
    from timm.data import create_transform, resolve_model_data_config

    return create_transform(**resolve_model_data_config(model), is_training=False)


def tiny_vit(names: Sequence[str]) -> ViTForImageClassification:
    """Build a vision transformer of four layers that sees 32×32 pixels as 16 patches."""
    from transformers import ViTConfig, ViTForImageClassification

    config = ViTConfig(
        image_size=SIZE,
        patch_size=8,
        hidden_size=48,
        intermediate_size=96,
        num_hidden_layers=4,
        num_attention_heads=4,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
        id2label=dict(enumerate(names)),
        label2id={name: index for index, name in enumerate(names)},
    )
    return ViTForImageClassification(config)


def vit_processor() -> ViTImageProcessor:
    """Return the image processor that is saved beside the vision transformer."""
    from transformers import ViTImageProcessor

    return ViTImageProcessor(
        size={"height": SIZE, "width": SIZE}, resample=2, image_mean=[0.5, 0.5, 0.5], image_std=[0.5, 0.5, 0.5]
    )


def logits(model: nn.Module, pixels: Tensor) -> Tensor:
    """Return the class logits (``[N, C]``) of a timm or a transformers model."""
    output = model(pixels)
    return getattr(output, "logits", output)


def shifted(pixels: Tensor, shift: int, generator: torch.Generator) -> Tensor:
    """Move a batch by up to `shift` pixels each way, repeating its border."""
    row, column = torch.randint(2 * shift + 1, (2,), generator=generator).tolist()
    height, width = pixels.shape[2:]
    padded = functional.pad(pixels, (shift,) * 4, mode="replicate")
    return padded[:, :, row : row + height, column : column + width]


def descend(
    model: nn.Module,
    batches: Iterable[tuple[Tensor, Tensor]],
    optimizer: torch.optim.Optimizer,
    scheduler: torch.optim.lr_scheduler.LRScheduler,
    smoothing: float = 0.0,
) -> Iterator[int]:
    """Take a step of cross-entropy for each batch of pixels and targets, and yield how many images it had."""
    for pixels, targets in batches:
        loss = functional.cross_entropy(logits(model, pixels), targets, label_smoothing=smoothing)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        scheduler.step()
        yield len(targets)


def fit(
    model: nn.Module,
    pixels: Tensor,
    labels: Tensor,
    recipe: Recipe,
    after_epoch: Callable[[int], None] | None = None,
) -> None:
    """Train a model in place on labelled pixels (``[N, 3, H, W]``).

    The last, incomplete batch of an epoch is left out: it would be too small for BatchNorm. ``after_epoch`` is called
    with the number of epochs so far.
    """
    generator = torch.Generator().manual_seed(recipe.seed)
    optimizer = torch.optim.AdamW(model.parameters(), lr=recipe.rate, weight_decay=0.05)
    whole = len(pixels) // recipe.batch * recipe.batch
    steps = recipe.epochs * (whole // recipe.batch)
    scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, recipe.rate, total_steps=steps)
    model.train()
    for epoch in range(recipe.epochs):
        order = torch.randperm(len(pixels), generator=generator)[:whole].split(recipe.batch)
        batches = ((shifted(pixels[chosen], recipe.shift, generator), labels[chosen]) for chosen in order)
        for _ in descend(model, batches, optimizer, scheduler):
            pass
        if after_epoch:
            after_epoch(epoch + 1)
    model.eval()


@torch.inference_mode()
def accuracy(model: nn.Module, pixels: Tensor, labels: Tensor) -> float:
    """Return the share of images whose most likely class is their label."""
    model.eval()
    hits = [logits(model, x).argmax(1) == y for x, y in zip(pixels.split(500), labels.split(500), strict=True)]
    return torch.cat(hits).double().mean().item()


def train(model: nn.Module, transform: Transform, recipe: Recipe) -> float:
    """Train a model on its own preprocessing of the training digits; return its held-out accuracy."""
    images, labels = digit_images()
    pixels = torch.stack([transform(image) for image in images])  # [1797, 3, 32, 32]
    chosen, held_out = split(len(images), recipe.seed)
    fit(model, pixels[chosen], labels[chosen], recipe)
    return accuracy(model, pixels[held_out], labels[held_out])


def write_card(folder: Path, model: nn.Module, recipe: Recipe, reached: float, **words: str) -> None:
    """Write a checkpoint's model card, and log the accuracy that it states."""
    counts = {"size": SIZE, "train": TRAIN_IMAGES, "held_out": len(digit_images()[0]) - TRAIN_IMAGES}
    parameters = sum(parameter.numel() for parameter in model.parameters())
    card = CARD.format(parameters=parameters, recipe=recipe, accuracy=reached, **counts, **words)
    (folder / "README.md").write_text(card, encoding="utf-8")
    logger.info("%s: %d parameters, held-out accuracy %.4f", folder, parameters, reached)


def train_cnn(folder: Path, recipe: Recipe) -> None:
    """Train the convolutional network and write it in timm's layout."""
    torch.manual_seed(recipe.seed)
    model, arguments = tiny_resnet(NAMES, size=SIZE, channels=(8, 16, 32, 64))
    reached = train(model, timm_transform(model), recipe)
    save_timm(model, arguments, folder)
    architecture = "timm's `resnet18` with one block per stage, 8 to 64 channels and BatchNorm"
    words = {"title": "convolutional network", "library": "timm", "architecture": architecture}
    write_card(folder, model, recipe, reached, **words)


def train_vit(folder: Path, recipe: Recipe) -> None:
    """Train the vision transformer and write it in transformers' layout."""
    torch.manual_seed(recipe.seed)
    model, processor = tiny_vit(NAMES), vit_processor()
    reached = train(model, lambda image: processor(image, return_tensors="pt")["pixel_values"][0], recipe)
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    architecture = "`ViTForImageClassification` with 4 layers of width 48 and patches of 8 pixels"
    words = {"title": "vision transformer", "library": "transformers", "architecture": architecture}
    write_card(folder, model, recipe, reached, **words)


def main(
    out: Annotated[Path, typer.Option("--out", help="folder that receives cnn/ and vit/")] = Path(__file__).parent,
    epochs: Annotated[tuple[int, int], typer.Option("--epochs", help="of the two, in this order")] = (25, 60),
    seed: Annotated[int, typer.Option("--seed", help="of first weights and of the order of the images")] = 0,
) -> None:
    """Train both checkpoints on one thread, so that a seed always gives the same weights."""
    torch.set_num_threads(1)
    cnn_epochs, vit_epochs = epochs
    train_cnn(out / "cnn", Recipe(cnn_epochs, rate=5e-3, seed=seed))
    train_vit(out / "vit", Recipe(vit_epochs, rate=3e-3, seed=seed))


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    typer.run(main)
