"""Forests of networks of known descent: roots, and what is made from them by training on, distilling or permuting."""

import copy
import functools
import logging
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from hf_infodist.models.classifier import Classifier
from hf_infodist.models.demo.train import Recipe, fit, logits
from hf_infodist.models.load import load_classifier
from hf_infodist.processes import make_accelerator
from hf_infodist.studies.networks.births import FOREST, Birth, How, mixed
from hf_infodist.studies.networks.changes import pruned, quantised, swapped
from hf_infodist.studies.networks.data import FASHION, Task, digits, fashion_mnist, from_hub, shapes
from hf_infodist.studies.networks.kept import kept, save_loadable
from hf_infodist.studies.networks.pairs import relabelled
from hf_infodist.studies.networks.resnet import Architecture
from hf_infodist.studies.networks.zoo import ARCHITECTURES

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Scale:
    """Sizes of everything.

    Attributes:
        births: Returns the networks of the forest of a seed.
        architecture: Builds a network of some classes, where its birth names none.
        load: Pictures to train on, and others.
        strange: Pictures of something else.
        mean: Of the pixels, on the scale 0 to 1.
        std: Likewise.
        train: Pictures to train on.
        k: Test pictures of every pair.
        protocol: Of every pair.
        root: Epochs and rate of roots and students.
        child: The same where a parent is trained on; of half the pictures each is seen twice as often.
        batch: Pictures a step.
    """

    births: Callable[[int], tuple[Birth, ...]]
    architecture: Callable[[tuple[str, ...]], nn.Module]
    load: Callable[[], tuple[Task, Task]]
    strange: Callable[[], Task]
    mean: float
    std: float
    train: int
    k: int
    protocol: str
    root: tuple[int, float]
    child: tuple[int, float]
    batch: int


def small_pictures() -> tuple[Task, Task]:
    """Return Fashion-MNIST, or where it is not installed the digits of scikit-learn, 1200 to train on."""
    if FASHION.exists():
        return fashion_mnist("train"), fashion_mnist("test")
    everything = digits()
    return everything.first(1200), everything.first(len(everything.images), skip=1200)


def strange_pictures() -> Task:
    """Return the digits of scikit-learn, or shapes where it is these that networks are trained on."""
    return digits() if FASHION.exists() else shapes("form", 1000)


def tiny_imagenet() -> tuple[Task, Task]:
    """Read Tiny-ImageNet from the Hub: 100 000 and 10 000 pictures of 64×64 pixels, of 200 classes."""
    return from_hub("zh-plus/tiny-imagenet", "train"), from_hub("zh-plus/tiny-imagenet", "valid")


PACES = {"vit": 0.4, "mlp": 0.4}
"""By architecture, what learning rates are multiplied by."""
PASSES = {"vit": 2.0, "mlp": 2.0}
"""By architecture, what epochs are multiplied by."""

SCALES = {
    "small": Scale(
        births=mixed,
        architecture=ARCHITECTURES["resnet10"],
        load=small_pictures,
        strange=strange_pictures,
        mean=0.286,
        std=0.353,
        train=3000,
        k=500,
        protocol="standard",
        root=(4, 5e-3),
        child=(1, 2e-3),
        batch=50,
    ),
    "paper": Scale(
        births=lambda seed: FOREST,
        architecture=lambda classes: Architecture().build(len(classes)),
        load=tiny_imagenet,
        strange=digits,
        mean=0.45,
        std=0.27,
        train=100_000,
        k=10_000,
        protocol="standard",
        root=(60, 5e-3),
        child=(10, 2e-3),
        batch=128,
    ),
}


REWRITTEN: dict[How, Callable[[nn.Module, int], nn.Module]] = {
    "neurons": lambda network, seed: swapped(network, 1.0, seed),
    "rounded": lambda network, seed: copy.deepcopy(network).half().float(),
    "pruned": lambda network, seed: pruned(network, 0.5),
    "quantised": lambda network, seed: quantised(network, 8),
}
"""What is made from the weights of a network, and a seed, without training."""


def grow(births: tuple[Birth, ...], pictures: Task, work: Path, scale: Scale, seed: int) -> list[Classifier]:
    """Return a forest as classifiers; what the folder does not have is trained and saved first.

    Args:
        births: Parents before children.
        pictures: To train on.
        work: Folder of this forest.
        scale: Sizes.
        seed: Of fresh weights, halves, noise and orders.
    """
    forest: dict[str, Classifier] = {}
    for number, birth in enumerate(births):
        parent = forest[birth.parent] if birth.parent else None
        forest[birth.name] = _born(birth, parent, pictures, work, scale, 100 * seed + number)
    return list(forest.values())


def _born(birth: Birth, parent: Classifier | None, pictures: Task, work: Path, scale: Scale, seed: int) -> Classifier:
    """Return one network, trained first if its folder is not there."""
    if birth.how == "labels":
        assert parent is not None
        return replace(relabelled(parent), id=birth.name)
    task = scale.strange() if birth.how == "elsewhere" else task_of(birth.how, pictures, seed)
    file = work / birth.name / "model.safetensors"
    torch.manual_seed(seed)
    build = ARCHITECTURES[birth.architecture] if birth.architecture else scale.architecture
    module = build(task.classes)

    def train() -> None:
        if birth.how in REWRITTEN:
            assert parent is not None
            module.load_state_dict(REWRITTEN[birth.how](parent.network.module, seed).state_dict())
        else:
            _train(module, birth, parent, task, scale, seed, len(pictures.labels))

    kept(module, file, train, functools.partial(_save, birth=birth))
    transform = _transform(task.images.shape[1], scale)
    return replace(load_classifier(module, transform=transform, labels=task.classes), id=birth.name)


def task_of(how: How, pictures: Task, seed: int) -> Task:
    """Return what a network is trained on."""
    rng, count = np.random.default_rng(seed), len(pictures.labels)
    if how == "half":
        half = np.sort(rng.permutation(count)[: count // 2])
        return replace(pictures, images=pictures.images[half], labels=pictures.labels[half])
    if how == "noisy":
        drawn = rng.integers(0, len(pictures.classes), count)
        return replace(pictures, labels=np.where(rng.random(count) < 0.3, drawn, pictures.labels))
    if how == "relabelled":
        pairs = zip(pictures.classes[::2], pictures.classes[1::2], strict=True)
        return replace(pictures, labels=pictures.labels // 2, classes=tuple(f"{a} or {b}" for a, b in pairs))
    return pictures


def _train(
    module: nn.Module, birth: Birth, parent: Classifier | None, task: Task, scale: Scale, seed: int, usual: int
) -> None:
    """Train a module in place; where it has fewer pictures than the ``usual`` number, in more passes."""
    device = make_accelerator().device
    pixels = normalised(task, scale).to(device)
    targets = torch.from_numpy(task.labels).to(device)
    if birth.trains_on:
        assert parent is not None
        weights = parent.network.module.state_dict()
        own = module.state_dict()
        fitting = {name: weight for name, weight in weights.items() if weight.shape == own[name].shape}
        module.load_state_dict(own | fitting)
    elif parent is not None:
        targets = _outputs(parent.network.module.to(device), pixels)
        parent.network.module.cpu()
    epochs, rate = scale.child if birth.trains_on else scale.root
    speed = PACES.get(birth.architecture or "", 1.0)
    passes = max(1, round(epochs * PASSES.get(birth.architecture or "", 1.0) * usual / len(task.labels)))
    fit(module.to(device), pixels, targets, Recipe(passes, speed * rate, seed, scale.batch, 0))
    module.cpu()


@torch.inference_mode()
def _outputs(module: nn.Module, pixels: Tensor) -> Tensor:
    """Return the probabilities of a network, ``[N, C]``."""
    return torch.cat([logits(module.eval(), part).softmax(1) for part in pixels.split(500)]).clone()


def normalised(task: Task, scale: Scale) -> Tensor:
    """Return pixels ``[N, 3, H, W]`` of grey or coloured pictures."""
    pixels = torch.from_numpy(task.images).float() / 255
    pixels = pixels[:, None].expand(-1, 3, -1, -1) if pixels.ndim == 3 else pixels.permute(0, 3, 1, 2)
    return (pixels - scale.mean) / scale.std


def _transform(side: int, scale: Scale) -> Callable[[Any], Tensor]:
    from torchvision import transforms

    normalise = transforms.Normalize((scale.mean,) * 3, (scale.std,) * 3)
    return transforms.Compose([transforms.Resize(side), transforms.ToTensor(), normalise])


def _save(module: nn.Module, folder: Path, birth: Birth) -> None:
    """Write weights and a card; in timm's layout where that can be loaded again."""
    head = f"base_model: {birth.parent}\nbase_model_relation: finetune\n" if birth.trains_on else ""
    (folder / "README.md").write_text(f"---\n{head}pipeline_tag: image-classification\n---\n")
    save_loadable(module, folder)
