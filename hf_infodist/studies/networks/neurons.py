"""Hidden units of a ResNet in another order: other weights, the same function."""

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn


@torch.no_grad()
def permute_neurons(module: Any, seed: int) -> None:
    """Bring all hidden units of a ResNet of basic blocks into another order, in place; it computes the same.

    Units within a block have an order of their own; those on the residual stream one for each stage, or one for
    several where no convolution lies between them.
    """
    generator = torch.Generator().manual_seed(seed)

    def shuffled(layer: nn.Module) -> Tensor:
        return torch.randperm(len(layer.weight), generator=generator)  # type: ignore[arg-type]

    stem = [*module.conv1, module.bn1] if isinstance(module.conv1, nn.Sequential) else [module.conv1, module.bn1]
    order = torch.arange(3)  # of the colours
    for convolution, norm in zip(_all(stem, nn.Conv2d), _all(stem, nn.BatchNorm2d), strict=True):
        convolution.weight.copy_(convolution.weight[:, order])
        order = shuffled(convolution)
        _reorder(convolution, norm, order)
    stages = [stage for name, stage in module.named_children() if name.startswith("layer")]
    for block in (block for stage in stages for block in stage):
        within, after = shuffled(block.conv1), order
        if block.downsample is not None:
            (convolution,), (norm,) = _all(block.downsample, nn.Conv2d), _all(block.downsample, nn.BatchNorm2d)
            after = shuffled(convolution)
            convolution.weight.copy_(convolution.weight[:, order])
            _reorder(convolution, norm, after)
        block.conv1.weight.copy_(block.conv1.weight[:, order])
        _reorder(block.conv1, block.bn1, within)
        block.conv2.weight.copy_(block.conv2.weight[:, within])
        _reorder(block.conv2, block.bn2, after)
        order = after
    module.fc.weight.copy_(module.fc.weight[:, order])


def _all(layers: Iterable[nn.Module], kind: type[nn.Module]) -> list[Any]:
    return [layer for layer in layers if isinstance(layer, kind)]


def _reorder(convolution: Any, norm: Any, order: Tensor) -> None:
    """Bring the outputs of a convolution and of the BatchNorm after it into an order."""
    convolution.weight.copy_(convolution.weight[order])
    for values in (norm.weight, norm.bias, norm.running_mean, norm.running_var):
        values.copy_(values[order])
