"""The ResNets for small pictures of He et al. (2016), section 4.2: three stages, with or without BatchNorm."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional


@dataclass(frozen=True)
class Architecture:
    """What decides the shape of a `ResNet` but for its classes.

    Attributes:
        blocks: Per stage, n of the depth 6n + 2.
        width: Channels of the first stage; the others have twice and four times as many.
        stride: Of the first convolution.
        batch_norm: Whether each convolution is followed by BatchNorm; else it has a bias.
    """

    blocks: int = 9
    width: int = 16
    stride: int = 1
    batch_norm: bool = True

    @property
    def name(self) -> str:
        """Depth and width, and whether BatchNorm is missing."""
        return f"ResNet-{6 * self.blocks + 2}-{self.width}" + ("" if self.batch_norm else "-plain")

    def build(self, num_classes: int, seed: int) -> "ResNet":
        """Return a network with fresh weights; for another number of classes another head, and all else alike."""
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)
            return ResNet(self, num_classes)


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


class Block(nn.Module):
    """Two convolutions beside a shortcut, which is a convolution of one pixel where the shape changes."""

    def __init__(self, inputs: int, channels: int, stride: int, batch_norm: bool):
        super().__init__()
        self.conv1, self.norm1 = _convolution(inputs, channels, 3, stride, batch_norm)
        self.conv2, self.norm2 = _convolution(channels, channels, 3, 1, batch_norm)
        self.changes_shape = inputs != channels
        if self.changes_shape:
            self.conv3, self.norm3 = _convolution(inputs, channels, 1, stride, batch_norm)
        if not batch_norm:
            nn.init.zeros_(self.conv2.weight)  # begins as its shortcut, or else plain networks explode

    def forward(self, x: Tensor) -> Tensor:
        """Return ``[N, channels, H, W]``."""
        hidden = functional.relu(self.norm1(self.conv1(x)))
        past = self.norm3(self.conv3(x)) if self.changes_shape else x
        return functional.relu(self.norm2(self.conv2(hidden)) + past)


class ResNet(nn.Module):
    """A classifier of pictures of any size.

    Args:
        architecture: Its shape.
        num_classes: C.
    """

    def __init__(self, architecture: Architecture, num_classes: int):
        super().__init__()
        width, batch_norm = architecture.width, architecture.batch_norm
        self.conv, self.norm = _convolution(3, width, 3, architecture.stride, batch_norm)
        stages, inputs = [], width
        for channels, stride in ((width, 1), (2 * width, 2), (4 * width, 2)):
            first = Block(inputs, channels, stride, batch_norm)
            rest = [Block(channels, channels, 1, batch_norm) for _ in range(architecture.blocks - 1)]
            stages.append(nn.Sequential(first, *rest))
            inputs = channels
        self.stages = nn.Sequential(*stages)
        self.head = nn.Linear(inputs, num_classes)  # last, so that all else is drawn alike for any number of classes

    def features(self, pixels: Tensor) -> Tensor:
        """Return penultimate features, ``[N, 4 width]``."""
        return self.stages(functional.relu(self.norm(self.conv(pixels)))).mean((2, 3))

    def forward(self, pixels: Tensor) -> Tensor:
        """Return logits, ``[N, C]``."""
        return self.head(self.features(pixels))

    def hidden(self) -> Iterator[Units]:
        """Yield the units inside each block."""
        for name, module in self.named_modules():
            if isinstance(module, Block):
                yield Units((f"{name}.conv1",), (f"{name}.norm1",), (f"{name}.conv2",))

    def streams(self) -> Iterator[Units]:
        """Yield the units that all blocks of a stage read and add to; the last are the penultimate features."""
        written, norms = ["conv"], ["norm"]
        for number, stage in enumerate(self.stages):
            blocks = [f"stages.{number}.{place}" for place in range(len(list(stage.children())))]
            if number:
                written, norms = [f"{blocks[0]}.conv3"], [f"{blocks[0]}.norm3"]
            read = [f"{name}.conv1" for name in blocks[1 if number else 0 :]]
            following = f"stages.{number + 1}.0"
            read += ["head"] if number == 2 else [f"{following}.conv1", f"{following}.conv3"]
            written += [f"{name}.conv2" for name in blocks]
            norms += [f"{name}.norm2" for name in blocks]
            yield Units(tuple(written), tuple(norms), tuple(read))


def _convolution(inputs: int, channels: int, side: int, stride: int, batch_norm: bool) -> tuple[nn.Conv2d, nn.Module]:
    """Return a convolution and what follows it."""
    layer = nn.Conv2d(inputs, channels, side, stride, side // 2, bias=not batch_norm)
    nn.init.kaiming_normal_(layer.weight, mode="fan_out")
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
    return layer, nn.BatchNorm2d(channels) if batch_norm else nn.Identity()
