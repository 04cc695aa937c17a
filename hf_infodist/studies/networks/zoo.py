"""Small networks of several architectures, trained on tasks of 28×28 pixels and kept in a folder."""

import logging
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from hf_infodist.models.classifier import Classifier
from hf_infodist.models.demo.train import Recipe, accuracy, fit
from hf_infodist.models.load import load_classifier
from hf_infodist.studies.networks.data import SIDE, Task
from hf_infodist.studies.networks.kept import kept, save_loadable

MEAN, STD = 0.286, 0.353  # those of Fashion-MNIST, for all, so that all see the same pixels
logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Input:
    """What a network sees of a picture.

    Attributes:
        side: In pixels.
        mean: Subtracted from every channel, on the scale 0–1.
        std: Every channel is divided by it.
    """

    side: int = SIDE
    mean: float = MEAN
    std: float = STD


@dataclass(frozen=True)
class Checkpoint:
    """A network that is to be trained.

    Attributes:
        name: Its folder.
        architecture: Which of `ARCHITECTURES`.
        task: What it is trained on, as a family.
        seed: Of its first weights and the order of its images.
        input: What it sees.
    """

    name: str
    architecture: str
    task: str
    seed: int = 0
    input: Input = Input()

    @property
    def family(self) -> str:
        """Its architecture without depth, width and normalisation."""
        return re.match("[a-z]+", self.architecture)[0]  # type: ignore[index]


def resnet(classes: tuple[str, ...], layers: tuple[int, ...], width: int, **more: Any) -> nn.Module:
    """Build a ResNet of basic blocks whose stages have 1, 2, 4, 8 times ``width`` channels; ``more`` is for timm."""
    channels = tuple(width * 2**stage for stage in range(4))
    options = {"layers": layers, "channels": channels, "stem_type": "deep", "stem_width": width // 2, **more}
    return _timm("resnet18", classes, output_stride=16, **options)


def vit(classes: tuple[str, ...]) -> nn.Module:
    """Build a vision transformer of four layers that sees 16 patches of 7 pixels."""
    return _timm(
        "vit_tiny_patch16_224", classes, img_size=SIDE, patch_size=7, embed_dim=64, depth=4, num_heads=4, mlp_ratio=2
    )


def vgg(classes: tuple[str, ...], batch_norm: bool) -> nn.Module:
    """Build torchvision's stack of VGG with five convolutions and one linear layer."""
    from torchvision.models.vgg import make_layers

    features = make_layers([16, "M", 32, 32, "M", 64, 64], batch_norm=batch_norm)
    return nn.Sequential(features, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, len(classes)))


def mlp(classes: tuple[str, ...]) -> nn.Module:
    """Build a perceptron with two hidden layers of 128 and 64 units that reads one of the three grey channels."""
    layers = [nn.Linear(SIDE * SIDE, 128), nn.ReLU(), nn.Linear(128, 64), nn.ReLU(), nn.Linear(64, len(classes))]
    return nn.Sequential(_OneChannel(), nn.Flatten(), *layers)


class _OneChannel(nn.Module):
    """Keeps the first channel: those of grey pictures are alike."""

    def forward(self, pixels: Tensor) -> Tensor:
        """Return ``[N, 1, H, W]``."""
        return pixels[:, :1]


def _timm(name: str, classes: tuple[str, ...], **arguments: Any) -> nn.Module:
    import timm

    described = {"num_classes": len(classes), "label_names": list(classes), "input_size": (3, SIDE, SIDE)}
    described |= {"mean": (MEAN,) * 3, "std": (STD,) * 3, "interpolation": "bilinear", "crop_pct": 1.0}
    module: Any = timm.create_model(name, num_classes=len(classes), pretrained_cfg_overlay=described, **arguments)
    module.model_arguments = arguments
    return module


ARCHITECTURES: dict[str, Callable[[tuple[str, ...]], nn.Module]] = {
    "resnet10": lambda classes: resnet(classes, (1, 1, 1, 1), 12),
    "resnet10-wide": lambda classes: resnet(classes, (1, 1, 1, 1), 20),
    "resnet18": lambda classes: resnet(classes, (2, 2, 2, 2), 12),
    "vgg": lambda classes: vgg(classes, False),
    "vgg-bn": lambda classes: vgg(classes, True),
    "vit": vit,
    "mlp": mlp,
}


def trained(checkpoint: Checkpoint, task: Task, work: Path, *, epochs: int) -> Classifier:
    """Return a checkpoint as a classifier; it is trained and saved first if the folder does not have it.

    Args:
        checkpoint: Which.
        task: Pictures to train on.
        work: Folder of all checkpoints.
        epochs: Passes over ``task``.
    """
    torch.manual_seed(checkpoint.seed)
    module = ARCHITECTURES[checkpoint.architecture](task.classes)
    file = work / checkpoint.name / "model.safetensors"
    recipe = Recipe(epochs, _RATES.get(checkpoint.architecture, 5e-3), checkpoint.seed, batch=50, shift=0)
    kept(module, file, lambda: fit(module, *tensors(task), recipe), save_loadable)
    classifier = load_classifier(module, transform=transform(), labels=task.classes)
    return replace(classifier, id=checkpoint.name)


def held_out_accuracy(classifier: Classifier, task: Task) -> float:
    """Return the share of at most 2000 pictures that a network of these classes gets right."""
    return accuracy(classifier.network, *tensors(task.first(2000)))


_RATES = {"vgg": 2e-3, "vit": 2e-3, "mlp": 2e-3}


def transform(input: Input = Input()) -> Callable[[Any], Tensor]:
    """Return the preprocessing of all these networks."""
    from torchvision import transforms

    return transforms.Compose(
        [
            transforms.Resize(input.side),
            transforms.ToTensor(),
            transforms.Normalize((input.mean,) * 3, (input.std,) * 3),
        ]
    )


def tensors(task: Task, input: Input | None = None) -> tuple[Tensor, Tensor]:
    """Return preprocessed pixels (``[N, 3, H, W]``, grey channels shared) and labels; of their own size by default."""
    levels = torch.from_numpy(task.images).float() / 255
    pixels = levels[:, None] if levels.ndim == 3 else levels.permute(0, 3, 1, 2)
    seen = input or Input(pixels.shape[-1])
    if pixels.shape[-1] != seen.side:
        pixels = functional.interpolate(pixels, size=(seen.side,) * 2, mode="bilinear")
    return ((pixels - seen.mean) / seen.std).expand(-1, 3, -1, -1), torch.from_numpy(task.labels)
