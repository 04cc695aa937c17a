"""Features of all layers: read through hooks in the forward pass that makes the logits."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

LAYERS_VERSION = 1
"""Raised whenever other layers are read, or other numbers of them: outputs of older code are then computed again."""

MOST_LAYERS = 16  # evenly over the depth: 34 layers of a ViT cost 33.1 nats, 16 of them 33.2
MOST_VALUES = 2048  # of a layer's grid: 1024 and 4096 cost the same
_GRIDS = (8, 4, 2)
_MOST_PREFIX_TOKENS = 5  # class, distillation and register tokens before those of the map
_PROBED = 2  # images on which layers are tried
_STEADY = 1e-3  # of the largest value of a layer: what an image may change beside others, which is round-off


@dataclass(frozen=True)
class Layer:
    """What is read of one layer.

    Attributes:
        name: Of its module.
        channels: C, its units.
        grid: Averages over ``grid x grid`` parts of its map are kept, ``[C, grid, grid]``; 1: over all positions.
    """

    name: str
    channels: int
    grid: int

    @property
    def values(self) -> int:
        """Numbers kept of an image."""
        return self.channels * self.grid**2


def choose_layers(network: nn.Module, heads: Sequence[str], example: Tensor) -> tuple[Layer, ...]:
    """Choose which layers are read: convolutions, linear layers and norms, evenly over the depth.

    A layer whose output goes straight into a norm is left out in favour of the norm, and so are the heads, whose
    outputs are the logits. What a module makes of an image must not depend on the images beside it.

    Args:
        network: In eval mode, on the device of the example.
        heads: Names of the layers that make the logits.
        example: Pixels ``[n, channels, H, W]``.

    Returns:
        Layers in the order in which they are called, at most `MOST_LAYERS`.
    """
    example = example[:_PROBED]
    names = [name for name, module in network.named_modules() if _has_units(module) and name not in heads]
    inputs: dict[str, Tensor] = {}
    outputs: dict[str, Tensor] = {}
    with _watching(
        network, names, lambda name, given, made: (inputs.setdefault(name, given), outputs.setdefault(name, made))
    ):
        network(example)
    normed = {id(inputs[name]) for name in outputs if _is_norm(network.get_submodule(name))}
    kept = [name for name, made in outputs.items() if id(made) not in normed]
    layers = []
    for name in kept:
        maps = _as_map(network.get_submodule(name), outputs[name], len(example))
        if maps is not None and maps.isfinite().all():
            layers.append(Layer(name, maps.shape[1], _grid(maps)))
    alone: dict[str, Tensor] = {}
    with _watching(network, [layer.name for layer in layers], lambda name, _, made: alone.setdefault(name, made)):
        network(example[:1])
    steady = [
        layer
        for layer in layers
        if layer.name in alone
        and _same_alone(network.get_submodule(layer.name), outputs[layer.name], len(example), alone[layer.name])
    ]
    if len(steady) <= MOST_LAYERS:
        return tuple(steady)
    places = torch.linspace(0, len(steady) - 1, MOST_LAYERS, dtype=torch.float64).round().int().tolist()
    return tuple(steady[place] for place in places)


@contextmanager
def reading(network: nn.Module, layers: Sequence[Layer], images: int) -> Iterator[Callable[[], Tensor]]:
    """Read layers in the one forward pass of ``images`` images that is made within.

    Yields:
        A function that returns what was read, ``[images, sum of layer.values]``, once the pass is made.
    """
    by_name = {layer.name: layer for layer in layers}
    seen: dict[str, Tensor] = {}

    def note(name: str, _: Tensor, made: Tensor) -> None:
        if name not in seen:  # of a module that is called several times, the first call
            seen[name] = _pooled(network.get_submodule(name), by_name[name], made, images)

    with _watching(network, list(by_name), note):
        yield lambda: torch.cat([seen[layer.name] for layer in layers], dim=1)


def parts_of(values: Tensor, layer: Layer) -> list[Tensor]:
    """Return the averages of a layer at each resolution: over all positions, and over its grids.

    Args:
        values: What `reading` gave of it, ``[n, layer.values]``.
        layer: Which.

    Returns:
        The mean over all positions, ``[n, C]``, then the two finest of the grids, ``[n, C * g * g]`` each.
    """
    grid = values.view(len(values), layer.channels, layer.grid, layer.grid)
    parts = [grid.mean((2, 3))]
    if layer.grid > 2:
        half = layer.grid // 2
        parts.append(functional.avg_pool2d(grid, 2).reshape(len(values), layer.channels * half**2))
    if layer.grid > 1:
        parts.append(values)
    return parts


# Which modules


def _is_norm(module: nn.Module) -> bool:
    kinds = (nn.modules.batchnorm._BatchNorm, nn.LayerNorm, nn.GroupNorm)
    return isinstance(module, kinds) or any(word in type(module).__name__ for word in ("BatchNorm", "RMSNorm"))


def _has_units(module: nn.Module) -> bool:
    """Tell whether a module is a layer whose channels are units: a convolution, a linear layer, a norm."""
    convolutions = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
    return isinstance(module, (*convolutions, nn.Linear)) or _is_norm(module)


@contextmanager
def _watching(network: nn.Module, names: Sequence[str], note: Callable[[str, Tensor, Tensor], Any]) -> Iterator[None]:
    """Call ``note`` with name, input and output of each call of these modules."""

    def hook(name: str) -> Callable[..., None]:
        def called(module: nn.Module, inputs: tuple, output: Any) -> None:
            if isinstance(output, Tensor) and inputs and isinstance(inputs[0], Tensor):
                note(name, inputs[0], output)

        return called

    hooks = [network.get_submodule(name).register_forward_hook(hook(name)) for name in names]
    try:
        with torch.no_grad():
            yield
    finally:
        for each in hooks:
            each.remove()


def _same_alone(module: nn.Module, together: Tensor, images: int, alone: Tensor) -> bool:
    """Tell whether the first image is the same without the others, up to round-off."""
    beside, single = _as_map(module, together, images), _as_map(module, alone, 1)
    if beside is None or single is None or beside.shape[1:] != single.shape[1:]:
        return False
    first, single = beside[0].double(), single[0].double()
    return bool((first - single).abs().max() <= _STEADY * single.abs().max())


# What is read of them


def _pooled(module: nn.Module, layer: Layer, output: Tensor, images: int) -> Tensor:
    """Return averages over the grid of a layer, ``[images, layer.values]``, in float32 or better."""
    maps = _as_map(module, output, images)
    assert maps is not None, layer.name
    maps = maps if maps.dtype in (torch.float32, torch.float64) else maps.float()
    if layer.grid == 1:
        return maps.mean((2, 3))
    return functional.adaptive_avg_pool2d(maps, layer.grid).flatten(1)


def _grid(maps: Tensor) -> int:
    """Return the finest grid that a map ``[n, C, H, W]`` has positions for, within `MOST_VALUES`."""
    fits = (g for g in _GRIDS if min(maps.shape[2:]) >= g and maps.shape[1] * g**2 <= MOST_VALUES)
    return next(fits, 1)


def _as_map(module: nn.Module, output: Tensor, images: int) -> Tensor | None:
    """Return the output of a layer as ``[images, C, H, W]``; None if it has no place for images or channels.

    Tokens make a map where they are a square, after class tokens if there are any; else, as windows of images do, they
    make a row. What has no positions has one.
    """
    channels, dim = _channels(module, output)
    if channels is None or len(output) % images:
        return None
    values = output.movedim(dim, -1)  # [N, ..., C]
    positions = values.shape[1:-1]
    if len(output) != images:  # windows of an image, one after the other
        values = values.reshape(images, -1, channels)
        return values.transpose(1, 2)[:, :, None]
    if len(positions) == 2:
        return values.movedim(-1, 1)
    values = values.reshape(images, -1, channels)  # [N, T, C]
    tokens = values.shape[1]
    side = int(tokens**0.5)
    prefix = tokens - side**2
    if side < 2 or prefix > _MOST_PREFIX_TOKENS:
        return values.transpose(1, 2)[:, :, None]
    return values[:, prefix:].transpose(1, 2).unflatten(2, (side, side))


def _channels(module: nn.Module, output: Tensor) -> tuple[int | None, int]:
    """Return the number of units of a layer, and the dimension of its output that counts them."""
    weight = getattr(module, "weight", None)
    if isinstance(module, nn.Linear):
        units, dim = module.out_features, -1
    elif isinstance(module, (nn.Conv1d, nn.Conv2d, nn.Conv3d)):
        units, dim = module.out_channels, 1
    elif isinstance(module, nn.LayerNorm) or "RMSNorm" in type(module).__name__:
        shape = getattr(module, "normalized_shape", None) or (
            weight.shape if weight is not None else output.shape[-1:]
        )
        first = "2d" in type(module).__name__ or getattr(module, "data_format", "") == "channels_first"
        units, dim = shape[-1], 1 if first and output.ndim == 4 else -1
    else:
        units, dim = output.shape[1] if output.ndim > 1 else 0, 1
    fits = output.ndim > 1 and output.shape[dim] == units
    return (int(units), dim) if fits else (None, dim)
