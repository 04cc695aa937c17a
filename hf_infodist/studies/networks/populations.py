"""Populations of networks of one architecture that differ in one respect: seed, labels, a shortcut, noise, epochs."""

import colorsys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import timm
import torch
from torch import Tensor, nn

from hf_infodist.images.sample import Images
from hf_infodist.studies.networks.data import sample
from hf_infodist.studies.networks.fit import Examples, Training
from hf_infodist.studies.networks.scale import SMALL, Data, Scale, fresh, lenet, trained

Kind = Literal["clean", "labels", "shortcuts", "augmentation"]
GROUPED: tuple[Kind, ...] = ("labels", "shortcuts", "augmentation")
_RADIUS = 2.5  # pixels of a dot; five across


@dataclass(frozen=True)
class Setting:
    """Sizes of everything.

    Attributes:
        scale: Data, networks, images of a pair and protocol.
        training: Of every network, at a constant rate, so that fewer epochs are the beginning of more.
        seeds: Networks that differ in the seed alone.
        members: Networks of each group.
        labels: Shares of labels that are drawn anew, a group for each.
        shortcuts: Shares of training pictures whose dot has the colour of the class.
        noise: Largest standard deviations of the noise that augments pictures, on the scale 0 to 1.
        epochs: After which a run is looked at.
        chosen: Places of the levels, from 0, that make groups; a network is the same whichever are chosen.
    """

    scale: Scale
    training: Training
    seeds: int = 10
    members: int = 5
    labels: tuple[float, ...] = (0, 0.25, 0.5, 0.75, 1)
    shortcuts: tuple[float, ...] = (0, 0.25, 0.5, 0.75, 1)
    noise: tuple[float, ...] = (0, 0.125, 0.25, 0.5, 1)
    epochs: tuple[int, ...] = (0, 1, 2, 4, 8)
    chosen: tuple[int, ...] = (0, 1, 2, 3, 4)

    def levels(self, kind: Kind) -> tuple[float, ...]:
        """Return the levels of a kind, weakest first."""
        return {"clean": (0.0,), "labels": self.labels, "shortcuts": self.shortcuts, "augmentation": self.noise}[kind]

    def to_dict(self) -> dict[str, Any]:
        """Return the settings, ready for JSON."""
        return {**vars(self), "scale": self.scale.to_dict(), "training": vars(self.training)}


def _timm(name: str) -> Callable[[tuple[str, ...]], nn.Module]:
    return lambda classes: timm.create_model(name, num_classes=len(classes))


SETTINGS = {
    "small": Setting(
        scale=replace(
            SMALL, networks={"lenet": lenet, "resnet": SMALL.networks["deep"]}, train=2000, validation=0, k=400
        ),
        training=Training(epochs=8),
    ),
    "paper": Setting(  # data, groups and seeds of the benchmark, and three of its architectures
        scale=Scale(
            data="clane9/imagenet-100",
            test_split="validation",
            networks={name: _timm(name) for name in ("resnet18", "vgg11", "vit_base_patch32_224")},
            train=124_000,
            validation=0,
            test=5000,
            k=2000,
            protocol="standard",
            side=224,
        ),
        training=Training(epochs=100, rate=3e-4, batch=128, smoothing=0.1, augment=True),
        noise=(0, 0.124, 0.175, 0.215, 0.248),  # variances up to 0, 1000, …, 4000 on the scale 0 to 255
        epochs=(0, 6, 12, 25, 50, 100),
    ),
}


@dataclass(frozen=True)
class Origin:
    """What a network is trained on, and from which first weights.

    Attributes:
        kind: What is changed of the data.
        level: How far.
        seed: Of first weights, order and data; no two networks share it unless one is the beginning of the other.
        epochs: Passes; None for all.
    """

    kind: Kind
    level: float
    seed: int
    epochs: int | None = None

    @property
    def name(self) -> str:
        """How it is called among the others."""
        passes = "" if self.epochs is None else f", {self.epochs} epochs"
        return f"{self.kind} {self.level:g}, seed {self.seed}{passes}"


def seeds(setting: Setting) -> tuple[Origin, ...]:
    """Return networks that differ in the seed alone."""
    return tuple(Origin("clean", 0, seed) for seed in range(setting.seeds))


def groups(setting: Setting, kind: Kind) -> tuple[Origin, ...]:
    """Return the members of all groups of a kind, group by group; without any change they are those of `seeds`."""
    origins = []
    for place in setting.chosen:
        level = setting.levels(kind)[place]
        first = 1000 * (1 + GROUPED.index(kind)) + 100 * place
        for member in range(setting.members):
            clean = level == 0 and kind != "shortcuts"  # whose pictures have dots even where these say nothing
            origins.append(Origin("clean", 0, member) if clean else Origin(kind, level, first + member))
    return tuple(origins)


def run(setting: Setting, seed: int) -> tuple[Origin, ...]:
    """Return the checkpoints of one run in their order; the last is a network of `seeds`."""
    return tuple(Origin("clean", 0, seed, epochs) for epochs in setting.epochs)


def network(origin: Origin, architecture: str, data: Data, setting: Setting, folder: Path) -> nn.Module:
    """Return a network, trained first if the folder does not have it."""
    examples = changed(origin, data.draw(setting.scale.train, 0), len(data.classes))
    epochs = setting.training.epochs if origin.epochs is None else origin.epochs
    noise = origin.level if origin.kind == "augmentation" else 0.0
    training = replace(setting.training, epochs=epochs, noise=noise)
    start = fresh(setting.scale.networks[architecture], data.classes, origin.seed)
    return trained(start, examples, training, folder, seed=origin.seed).network


def changed(origin: Origin, examples: Examples, classes: int) -> Examples:
    """Return what a network is trained on, but for augmentation, which is drawn anew in each epoch."""
    if origin.kind == "labels":
        return with_random_labels(examples, classes, origin.level, origin.seed)
    if origin.kind == "shortcuts":
        return with_dots(examples, classes, origin.level, origin.seed)
    return examples


def with_random_labels(examples: Examples, classes: int, share: float, seed: int) -> Examples:
    """Draw a share of the labels anew from all classes, so that some stay what they were.

    Args:
        examples: With classes for targets.
        classes: How many there are.
        share: Of the labels, in the mean.
        seed: Of the draw.
    """
    rng = np.random.default_rng(seed)
    drawn = torch.from_numpy(rng.integers(classes, size=len(examples)))
    return replace(examples, targets=torch.where(_chosen(rng, len(examples), share), drawn, examples.targets))


def with_dots(examples: Examples, classes: int, share: float, seed: int) -> Examples:
    """Put a coloured dot somewhere into each picture; in a share of them its colour is that of the class.

    In all others it is the colour of a class drawn at random. So pictures look alike whatever the share.

    Args:
        examples: With classes for targets.
        classes: How many there are, and colours.
        share: Of the pictures, in the mean.
        seed: Of the draw.
    """
    rng, count, side = np.random.default_rng(seed), len(examples), examples.images.shape[-1]
    drawn = torch.from_numpy(rng.integers(classes, size=count))
    told = torch.where(_chosen(rng, count, share), examples.targets, drawn)
    down, right = torch.from_numpy(rng.integers(2, side - 2, size=(2, count)))[:, :, None]  # [N, 1] each
    axis = torch.arange(side)
    inside = (axis - down)[:, :, None] ** 2 + (axis - right)[:, None, :] ** 2 <= _RADIUS**2  # [N, H, W]
    return replace(
        examples, images=torch.where(inside[:, None], colours(classes)[told][..., None, None], examples.images)
    )


def _chosen(rng: np.random.Generator, count: int, share: float) -> Tensor:
    """Draw who is chosen with a probability; who is chosen with a smaller one of the same draw is so with a larger."""
    return torch.from_numpy(rng.random(count) < share)


def colours(classes: int) -> Tensor:
    """Return as many colours as classes, evenly around the wheel, as bytes ``[classes, 3]``."""
    wheel = [colorsys.hsv_to_rgb(place / classes, 1, 1) for place in range(classes)]
    return (torch.tensor(wheel) * 255).round().to(torch.uint8)


def pictures(kind: Kind, data: Data) -> Images:
    """Return the images of every pair: of shortcuts with dots that say nothing, else as they are."""
    if kind != "shortcuts":
        return data.coded
    images = torch.from_numpy(np.stack([np.asarray(image) for image in data.coded]))  # [k, H, W, 3]
    dotted = with_dots(Examples(images.permute(0, 3, 1, 2), torch.zeros(len(images)).long()), len(data.classes), 0, 0)
    return sample(f"{data.coded.id}, dots", dotted.images.permute(0, 2, 3, 1).numpy(), len(images))
