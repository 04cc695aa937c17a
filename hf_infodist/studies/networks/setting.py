"""At which scale a study runs: data, networks, and how they are trained and compared; the same code for all."""

import logging
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from PIL import Image
from torch import nn

from hf_infodist.images.sample import Images, load_images
from hf_infodist.models.classifier import Classifier
from hf_infodist.models.demo.train import Recipe, accuracy, fit
from hf_infodist.models.load import load_classifier
from hf_infodist.processes import make_accelerator
from hf_infodist.protocol import PROTOCOLS, CodingProtocol
from hf_infodist.studies.networks import data as _data
from hf_infodist.studies.networks.data import Task
from hf_infodist.studies.networks.kept import kept
from hf_infodist.studies.networks.resnet import Architecture
from hf_infodist.studies.networks.zoo import Input, tensors, transform
from hf_infodist.studies.report.options import OtherProtocol, Repeated, one_of

_DIGITS_TRAINED = 1200  # of 1797; the others are held out
logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Setting:
    """Everything that decides the figures of a study but for its seeds.

    Attributes:
        data: Task of `_data.TASKS`, or a dataset of the Hub.
        pretraining: Tasks on which θ_A is trained first.
        network: Shape of all networks but those of the architecture scenario.
        depths: Blocks per stage of the deeper or shallower networks of that scenario.
        widths: Channels of the first stage of its narrower or wider ones.
        train: Pictures to train on, at most.
        epochs: Passes over them.
        progress: Epochs of the training that is watched, over a third as many pictures; each is a point.
        rate: Peak of the learning rate.
        batch: Pictures of a step.
        noise: Standard deviations of Gaussian perturbations.
        attack: Standard deviations of adversarial ones.
        k: Images of every pair.
        protocol: How a student is taught.
        orders: In how many orders of the images.
        plain: Whether networks without BatchNorm are looked at, too.
    """

    data: str = "fashion"
    pretraining: tuple[str, ...] = ("mnist", "shapes-form")
    network: Architecture = field(default_factory=lambda: Architecture(blocks=1, width=12, stride=2))
    depths: tuple[int, ...] = (2, 3)
    widths: tuple[int, ...] = (8, 18)
    train: int = 12_000
    epochs: int = 3
    progress: int = 6
    rate: float = 5e-3
    batch: int = 50
    noise: tuple[float, ...] = (0.01, 0.02, 0.04, 0.06)
    attack: tuple[float, ...] = (0.0003, 0.0006, 0.0012)
    k: int = 2000
    protocol: str = "standard"
    orders: int = 1
    plain: bool = True

    @property
    def coding(self) -> CodingProtocol:
        """How a student is taught, in full."""
        return replace(PROTOCOLS[self.protocol], orders=self.orders)

    @property
    def folder(self) -> str:
        """Name of the folder of networks that are trained so."""
        return f"{self.data.rpartition('/')[2]}-{self.network.name}-{self.train}x{self.epochs}"

    def to_dict(self) -> dict[str, Any]:
        """Return every field, ready for JSON."""
        return asdict(self)


SETTINGS = {
    "small": Setting(),
    "paper": Setting(
        data="zh-plus/tiny-imagenet",
        pretraining=("uoft-cs/cifar10",),
        network=Architecture(blocks=9, width=16),
        depths=(3, 5, 7),
        widths=(8,),
        train=100_000,
        epochs=15,
        progress=14,
        rate=2e-3,
        batch=32,
        noise=(0.003, 0.01, 0.03),
        attack=(0.0001, 0.0003, 0.001),
        k=10_000,
        protocol="paper",
        plain=False,
    ),
}


@dataclass(frozen=True)
class Options(Repeated):
    """What a setting is chosen by.

    Attributes:
        data: ``fashion``, or ``digits`` where that is missing.
        protocol: Instead of that of the scale.
        orders: In how many orders of the images each pair is coded.
        epochs: Passes over the pictures.
    """

    data: Annotated[str | None, one_of(("fashion", "digits"), "--data", what="pictures of the small scale")] = None
    protocol: OtherProtocol = None
    orders: Annotated[int | None, typer.Option("--orders", help="orders of the images that a pair is coded in")] = None
    epochs: Annotated[int | None, typer.Option("--epochs", help="passes over the pictures")] = None

    def setting(self) -> Setting:
        """Return the setting that is asked for."""
        setting = SETTINGS[self.scale]
        if self.scale == "small" and (self.data == "digits" or not (self.data or _data.FASHION.exists())):
            setting = replace(setting, data="digits", pretraining=("shapes-form",), train=_DIGITS_TRAINED, epochs=20)
        given = {name: getattr(self, name) for name in ("k", "protocol", "orders", "train", "epochs")}
        return replace(setting, **{name: value for name, value in given.items() if value is not None})


def load_data(setting: Setting) -> tuple[Task, Task]:
    """Return what is trained on, and what is held out.

    Raises:
        NotFoundError: If it is neither installed nor to be had from the Hub.
    """
    if setting.data == "fashion":
        train, test = (_data.fashion_mnist(split) for split in ("train", "test"))
    elif setting.data == "digits":
        train, test = _data.digits().first(_DIGITS_TRAINED), _data.digits().first(10_000, skip=_DIGITS_TRAINED)
    else:
        train, test = _data.from_hub(setting.data, "train"), _data.from_hub(setting.data, "valid")
    return train.first(setting.train), test


def load_task(name: str) -> Task:
    """Return a task to train on first."""
    return _data.TASKS[name]() if name in _data.TASKS else _data.from_hub(name, "train")


def halves(task: Task) -> tuple[Task, Task]:
    """Return the first and the second half of the classes, as tasks of their own."""
    count = len(task.classes)
    return task.only(tuple(range(count // 2))), task.only(tuple(range(count // 2, count)))


def sample(setting: Setting, test: Task, seed: int) -> Images:
    """Return the images of every pair of a seed, of all classes."""
    rows = np.random.default_rng(seed).permutation(len(test.images))[: setting.k]
    pictures = [Image.fromarray(test.images[row]).convert("RGB") for row in rows]
    return replace(load_images(pictures, k=len(pictures)), id=f"{setting.data}, held out, sample {seed}")


def trained(
    name: str,
    network: nn.Module,
    task: Task,
    setting: Setting,
    work: Path,
    *,
    seed: int,
    after_epoch: Callable[[int], None] | None = None,
) -> nn.Module:
    """Train a network in place, unless the folder has it; return it in eval mode on the CPU.

    Args:
        name: Its file.
        network: As it is at first.
        task: Pictures to train on.
        setting: How.
        work: Folder of all networks.
        seed: Of the order of the pictures.
        after_epoch: Called with the number of epochs after each of them.
    """

    def train() -> None:
        device = make_accelerator().device
        recipe = Recipe(setting.epochs, _rate(setting, network), seed, setting.batch, shift=0)
        pixels, labels = (tensor.to(device) for tensor in tensors(task))
        fit(network.to(device), pixels, labels, recipe, after_epoch)

    kept(network, work / setting.folder / f"{name}.safetensors", train)
    return network


def _rate(setting: Setting, network: nn.Module) -> float:
    """Return the peak of the learning rate; without BatchNorm a lower one."""
    normalised = any(isinstance(module, nn.BatchNorm2d) for module in network.modules())
    return setting.rate if normalised else setting.rate * 0.4


def watched(
    name: str, network: nn.Module, task: Task, setting: Setting, work: Path, *, seed: int
) -> Iterator[nn.Module]:
    """Train a network and yield it as it is at first and after each epoch, the same module each time."""
    from safetensors.torch import load_file, save_file

    setting = replace(setting, epochs=setting.progress, train=setting.train // 3)
    folder = work / setting.folder
    folder.mkdir(parents=True, exist_ok=True)

    def keep(epoch: int) -> None:
        state = {key: tensor.detach().cpu().clone() for key, tensor in network.state_dict().items()}
        save_file(state, folder / f"{name}-{epoch}.safetensors")

    keep(0)
    trained(name, network, task.first(setting.train), setting, work, seed=seed, after_epoch=keep)
    for epoch in range(setting.progress + 1):
        network.load_state_dict(load_file(folder / f"{name}-{epoch}.safetensors"))
        yield network.eval()


def classifier(network: nn.Module, labels: tuple[str, ...], test: Task, name: str) -> Classifier:
    """Return a copy of a network with its preprocessing and the names of its classes."""
    loaded = load_classifier(network, transform=transform(Input(test.images.shape[1])), labels=labels)
    return replace(loaded, id=name)


def held_out_accuracy(network: nn.Module, test: Task) -> float:
    """Return the share of at most 2000 pictures of these classes that a network gets right."""
    return accuracy(network, *tensors(test.first(2000)))
