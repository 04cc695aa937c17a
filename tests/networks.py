"""Small real networks for tests, and copies of them that compute the same function."""

import copy

import numpy as np
import torch
from PIL import Image
from torch import nn
from torchvision import transforms

from hf_infodist.outputs.arrays import Pixels

SIZE = 12


class SmallNet(nn.Module):
    """Two convolutions and two linear layers with ReLU; BatchNorm if asked.

    In float64, so that round-off stays below what Adam can turn into nats.
    """

    def __init__(self, num_classes=5, *, seed=0, batchnorm=False, gain=3.0, dtype=torch.float64):
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.conv1 = nn.Conv2d(3, 8, 3, padding=1)
            self.norm = nn.BatchNorm2d(8) if batchnorm else nn.Identity()
            self.conv2 = nn.Conv2d(8, 10, 3, stride=2, padding=1)
            self.hidden = nn.Linear(10, 12)
            self.head = nn.Linear(12, num_classes)
            with torch.no_grad():
                for p in self.parameters():
                    p.mul_(gain)
        self.to(dtype).eval()

    def forward(self, x):
        x = self.norm(self.conv1(x)).relu()
        x = self.conv2(x).relu().mean((2, 3))
        return self.head(self.hidden(x).relu())


def transform(image):
    return transforms.functional.to_tensor(image.resize((SIZE, SIZE)))


def noise_images(k=200, seed=0):
    """Smooth coloured noise: neighbouring pixels agree, as in photographs."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (k, 4, 4, 3), dtype=np.uint8)
    return [Image.fromarray(array).resize((SIZE, SIZE), Image.Resampling.BILINEAR) for array in coarse]


def noise_pixels(k, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0)):
    """The same as a student sees it."""
    values = torch.stack([transform(image) for image in noise_images(k)]).mul(255).round().to(torch.uint8)
    return Pixels(values.numpy(), mean, std)


@torch.no_grad()
def logits_of(net, pixels):
    return net(pixels.batch(slice(0, len(pixels)), "cpu", torch.float64)).numpy()


@torch.no_grad()
def permuted(net, seed=0):
    """Return a copy whose hidden units come in another order, in every layer."""
    twin, generator = copy.deepcopy(net), torch.Generator().manual_seed(seed)
    for layer, follower in ((twin.conv1, twin.conv2), (twin.conv2, twin.hidden), (twin.hidden, twin.head)):
        order = torch.randperm(len(layer.weight), generator=generator)
        layer.weight.copy_(layer.weight[order]), layer.bias.copy_(layer.bias[order])
        follower.weight.copy_(follower.weight[:, order])
        if layer is twin.conv1 and isinstance(twin.norm, nn.BatchNorm2d):
            for name in ("weight", "bias", "running_mean", "running_var"):
                values = getattr(twin.norm, name)
                values.copy_(values[order])
    return twin


@torch.no_grad()
def rescaled(net, factor):
    """Return a copy with a hidden layer times ``factor`` and the next divided by it; ReLU keeps the function."""
    twin = copy.deepcopy(net)
    for layer, follower in ((twin.conv2, twin.hidden), (twin.hidden, twin.head)):
        layer.weight.mul_(factor), layer.bias.mul_(factor)
        follower.weight.div_(factor)
    return twin


def _blocks(resnet):
    return [module for module in resnet.modules() if hasattr(module, "bn1") and hasattr(module, "conv2")]


@torch.no_grad()
def permuted_blocks(resnet, seed=0):
    """Return a copy whose units within residual blocks come in another order."""
    twin, generator = copy.deepcopy(resnet), torch.Generator().manual_seed(seed)
    for block in _blocks(twin):
        order = torch.randperm(len(block.conv1.weight), generator=generator)
        block.conv1.weight.copy_(block.conv1.weight[order])
        block.conv2.weight.copy_(block.conv2.weight[:, order])
        for name in ("weight", "bias", "running_mean", "running_var"):
            values = getattr(block.bn1, name)
            values.copy_(values[order])
    return twin


@torch.no_grad()
def rescaled_blocks(resnet, factor):
    """Return a copy with the first half of each residual block times ``factor`` and the second divided by it."""
    twin = copy.deepcopy(resnet)
    for block in _blocks(twin):
        block.bn1.weight.mul_(factor), block.bn1.bias.mul_(factor)
        block.conv2.weight.div_(factor)
    return twin
