"""What the studies of training have in common: data, networks and budgets at two scales, and a folder of networks."""

import hashlib
import json
import logging
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from hf_infodist.images.sample import Images
from hf_infodist.models.classifier import Classifier
from hf_infodist.models.load import load_classifier
from hf_infodist.processes import make_accelerator
from hf_infodist.studies.networks.data import FASHION, Task, digits, fashion_mnist, from_hub, sample
from hf_infodist.studies.networks.fit import Examples, Fitted, Goal, Training, fit
from hf_infodist.studies.networks.kept import kept
from hf_infodist.studies.networks.resnet import Affine, Architecture
from hf_infodist.studies.networks.zoo import Input, resnet, transform

logger = logging.getLogger(__name__)
Build = Callable[[tuple[str, ...]], nn.Module]


@dataclass(frozen=True)
class Scale:
    """How large a study is.

    Attributes:
        data: ``fashion``, or a dataset of the Hub with images and class labels.
        test_split: Of a dataset of the Hub.
        networks: How a network of each kind is built: ``deep``, ``plain`` (deep, with `Affine` for BatchNorm),
            ``shallow``, ``lenet``.
        train: Examples that a network, or a pair of halves, is trained on.
        validation: Examples that decide when training ends, where it is them.
        test: Examples by which networks are judged, at most.
        k: Images of a codelength; no network is trained on them.
        protocol: Of a codelength.
        side: Pixels to which pictures of the Hub are cut and scaled, where they are not of one size.
    """

    data: str
    test_split: str
    networks: dict[str, Build]
    train: int
    validation: int
    test: int
    k: int
    protocol: str
    side: int | None = None

    def sized(self, train: int | None, k: int | None) -> "Scale":
        """Return it with other numbers of examples and images where they are given."""
        return replace(self, train=train or self.train, k=k or self.k)

    def to_dict(self) -> dict[str, Any]:
        """Return the settings, ready for JSON."""
        return {**asdict(replace(self, networks={})), "networks": sorted(self.networks)}


# Networks


def lenet(classes: tuple[str, ...]) -> nn.Module:
    """Build LeNet-5 (LeCun et al. 1998) with ReLU and maxima, for three channels and any size."""
    return nn.Sequential(
        *(nn.Conv2d(3, 6, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Conv2d(6, 16, 5), nn.ReLU(), nn.AdaptiveMaxPool2d(5), nn.Flatten()),
        *(nn.Linear(400, 120), nn.ReLU(), nn.Linear(120, 84), nn.ReLU(), nn.Linear(84, len(classes))),
    )


SMALL = Scale(
    data="fashion",
    test_split="test",
    networks={
        "deep": lambda classes: resnet(classes, (1, 1, 1, 1), 8),
        "plain": lambda classes: resnet(classes, (1, 1, 1, 1), 8, norm_layer=Affine),
        "shallow": lambda classes: resnet(classes, (1, 1, 0, 0), 8, channels=(8, 16, 16, 16)),
        "lenet": lenet,
    },
    train=1000,
    validation=2000,
    test=10_000,
    k=2000,
    protocol="standard",
)

PAPER = Scale(
    data="zh-plus/tiny-imagenet",
    test_split="valid",
    networks={
        "deep": lambda classes: Architecture().build(len(classes)),
        "plain": lambda classes: Architecture(batch_norm=False).build(len(classes)),
        "shallow": lambda classes: Architecture(3).build(len(classes)),
        "lenet": lenet,
    },
    train=80_000,
    validation=10_000,
    test=10_000,
    k=10_000,
    protocol="paper",
)


# Data


@dataclass(frozen=True, eq=False)
class Data:
    """Pictures of one dataset, in parts that have none in common.

    Attributes:
        name: Of the dataset.
        classes: Their names.
        pool: To train on.
        validation: To decide when training ends.
        test: To judge by.
        coded: Images of the codelengths.
    """

    name: str
    classes: tuple[str, ...]
    pool: Examples
    validation: Examples
    test: Examples
    coded: Images

    @property
    def side(self) -> int:
        """Pixels of a picture."""
        return self.pool.images.shape[-1]

    def draw(self, count: int, seed: int) -> Examples:
        """Return some of the pool at random; all of it where it has no more."""
        order = torch.randperm(len(self.pool), generator=torch.Generator().manual_seed(seed))
        return self.pool.rows(order[:count])


def load(scale: Scale) -> Data:
    """Read the data of a scale; all parts are smaller where the dataset is."""
    train, test = _source(scale)
    wanted = scale.k + scale.validation + scale.train
    share = min(1.0, len(train.labels) / wanted)
    k, validation = round(scale.k * share), round(scale.validation * share)
    return Data(
        train.name,
        train.classes,
        _examples(train.first(len(train.labels), skip=k + validation)),
        _examples(train.first(validation, skip=k)),
        _examples(test.first(scale.test)),
        sample(f"{train.name} held out", train.first(k).images, k),
    )


def _source(scale: Scale) -> tuple[Task, Task]:
    """Return a dataset to train on and one to test on."""
    if scale.data != "fashion":
        return from_hub(scale.data, "train", scale.side), from_hub(scale.data, scale.test_split, scale.side)
    if FASHION.exists():
        return fashion_mnist("train"), fashion_mnist("test")
    logger.warning("Debian's dataset-fashion-mnist is not installed: these are scikit-learn's digits instead")
    return digits().first(1300), digits().first(497, skip=1300)


def _examples(task: Task) -> Examples:
    images = torch.from_numpy(task.images)
    pixels = images[:, None].expand(-1, 3, -1, -1) if images.ndim == 3 else images.permute(0, 3, 1, 2)
    return Examples(pixels, torch.from_numpy(task.labels))


# Trained networks


@dataclass(frozen=True, eq=False)
class Trained:
    """A network and how its training ended."""

    network: nn.Module
    fitted: Fitted


def fresh(build: Build, classes: tuple[str, ...], seed: int) -> nn.Module:
    """Build a network with the weights of a seed; the global generator stays as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        return build(classes).eval()


def trained(
    network: nn.Module,
    examples: Examples,
    training: Training,
    folder: Path,
    *,
    seed: int,
    goal: Goal | None = None,
    watched: Examples | None = None,
) -> Trained:
    """Train a network in place, or give it the weights that the folder has of an earlier, equal training."""
    key = _key(network, examples, training, seed, goal, watched)
    file, facts = folder / f"{key}.safetensors", folder / f"{key}.json"

    def train() -> None:
        fitted = fit(
            network, examples, training, seed=seed, goal=goal, watched=watched, device=make_accelerator().device
        )
        logger.info("trained in %s: %s", folder.name, fitted)
        folder.mkdir(parents=True, exist_ok=True)
        facts.write_text(json.dumps(asdict(fitted)))

    return Trained(kept(network, file, train), Fitted(**json.loads(facts.read_text())))


def _key(network: nn.Module, examples: Examples, *settings: Any) -> str:
    """Return a hash of everything that decides the trained weights."""
    digest = hashlib.sha256(str(network).encode())
    tensors = [*network.state_dict().values(), examples.images, examples.targets]
    for setting in settings:
        if isinstance(setting, Examples):
            tensors += [setting.images[:, 0], setting.targets]
        else:
            digest.update(repr(setting).encode())
    for tensor in tensors:
        digest.update(tensor.contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]


def classifier(network: nn.Module, name: str, data: Data) -> Classifier:
    """Return a network under a name, as the package compares it."""
    return replace(load_classifier(network, transform=transform(Input(data.side)), labels=data.classes), id=name)
