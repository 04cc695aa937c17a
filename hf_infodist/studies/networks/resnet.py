"""ResNets of basic blocks, which timm builds, and which of their units may be exchanged or scaled."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import timm
import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class Architecture:
    """Shape of a ResNet for small pictures, as He et al. (2016), section 4.2, have it for CIFAR, but for its classes.

    Where the width changes, the shortcut is a 1×1 convolution.

    Attributes:
        blocks: In each of three stages, n of the depth 6n + 2.
        width: Channels of the first stage; the others have twice and four times as many.
        stride: Of the first convolution.
        batch_norm: Whether each convolution is followed by BatchNorm; else by `Affine`.
    """

    blocks: int = 9
    width: int = 16
    stride: int = 1
    batch_norm: bool = True

    @property
    def name(self) -> str:
        """Depth and width, and whether BatchNorm is missing."""
        return f"ResNet-{6 * self.blocks + 2}-{self.width}" + ("" if self.batch_norm else "-plain")

    def build(self, num_classes: int) -> Any:
        """Return a network with fresh weights, drawn alike for any number of classes but for the head."""
        width, blocks = self.width, self.blocks
        network: Any = timm.create_model(
            "resnet18",
            layers=(blocks, blocks, blocks, 0),  # timm has four stages: the last one is empty
            channels=(width, 2 * width, 4 * width, 4 * width),
            stem_type="deep",
            stem_width=width // 2,  # of which the width is kept
            norm_layer=nn.BatchNorm2d if self.batch_norm else Affine,
        )
        network.conv1 = nn.Conv2d(3, width, 3, self.stride, padding=1, bias=False)
        nn.init.kaiming_normal_(network.conv1.weight, mode="fan_out", nonlinearity="relu")
        network.maxpool = nn.Identity()
        network.reset_classifier(num_classes)
        return network

    def drawn(self, num_classes: int, seed: int) -> Any:
        """Return a network with the fresh weights of a seed; the global generator stays as it is."""
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)
            return self.build(num_classes)


class Affine(nn.Module):
    """What BatchNorm leaves when it does not normalise: a scale and a shift per channel."""

    def __init__(self, channels: int, **where: Any):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels, **where))
        self.bias = nn.Parameter(torch.zeros(channels, **where))

    def forward(self, pixels: Tensor) -> Tensor:
        """Return ``[N, channels, H, W]``."""
        return pixels * self.weight[:, None, None] + self.bias[:, None, None]


class Features(nn.Module):
    """A ResNet that ends before its head."""

    def __init__(self, network: Any):
        super().__init__()
        self.network = network

    def forward(self, pixels: Tensor) -> Tensor:
        """Return penultimate features, ``[N, D]``."""
        return self.network.forward_head(self.network.forward_features(pixels), pre_logits=True)


@dataclass(frozen=True)
class Units:
    """Units that may be exchanged or scaled, by the layers around them.

    Attributes:
        written: Convolutions whose outputs they are.
        norms: What normalises those.
        read: Layers whose inputs they are.
    """

    written: tuple[str, ...]
    norms: tuple[str, ...]
    read: tuple[str, ...]


def hidden(network: nn.Module) -> Iterator[Units]:
    """Yield the units inside each block of a ResNet."""
    for block in _blocks(network):
        yield Units((f"{block}.conv1",), (f"{block}.bn1",), (f"{block}.conv2",))


def streams(network: nn.Module) -> Iterator[Units]:
    """Yield the units of the stem, then those that blocks read and add to; the last are the penultimate features.

    A stream ends where its shape changes.
    """
    convolutions, norms = _named(network, "conv1", nn.Conv2d), [*_named(network, "conv1", _NORMS), "bn1"]
    for place, following in enumerate(convolutions[1:]):
        yield Units((convolutions[place],), (norms[place],), (following,))
    written, norms, read = convolutions[-1:], norms[-1:], list[str]()
    for block in _blocks(network):
        read.append(f"{block}.conv1")
        if shortcut := _named(network, f"{block}.downsample", nn.Conv2d):
            yield Units(tuple(written), tuple(norms), (*read, *shortcut))
            written, norms, read = shortcut, _named(network, f"{block}.downsample", _NORMS), []
        written.append(f"{block}.conv2")
        norms.append(f"{block}.bn2")
    yield Units(tuple(written), tuple(norms), (*read, "fc"))


_NORMS = (nn.BatchNorm2d, Affine)


def _blocks(network: nn.Module) -> list[str]:
    return [name for name, _ in network.named_modules() if name.startswith("layer") and name.count(".") == 1]


def _named(network: nn.Module, prefix: str, kinds: type[nn.Module] | tuple[type[nn.Module], ...]) -> list[str]:
    """Return the names of modules of some kinds that are, or lie in, what a name says."""
    found = [(name, module) for name, module in network.named_modules() if f"{name}.".startswith(f"{prefix}.")]
    return [name for name, module in found if isinstance(module, kinds)]
