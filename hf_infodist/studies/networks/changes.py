"""What is done to a network: re-parameterisations of appendix B.1, and interpolation between two of them."""

import copy

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.modules.batchnorm import _BatchNorm

from hf_infodist.baselines.parameter import read_weights
from hf_infodist.studies.networks.resnet import Features, Units, hidden, streams

_ASCENT_STEPS, _ASCENT_BATCH, _ASCENT_RATE = 20, 100, 0.5


@torch.no_grad()
def scaled(network: nn.Module, factor: float) -> nn.Module:
    """Multiply the second layer of each block by ``factor`` and the first one by 1/``factor``: the function stays.

    BatchNorm would undo what is done to the weights before it, so where there is one its own weight is divided
    instead, which scales the layer's output as they would. The bias after a layer is divided with it.
    """
    network = copy.deepcopy(network)
    for units in hidden(network):
        for layer, norm in zip(units.written, units.norms, strict=True):
            normalises = isinstance(network.get_submodule(norm), _BatchNorm)
            _weight(network, norm if normalises else layer).div_(factor)
            network.get_submodule(norm).get_parameter("bias").div_(factor)
        for name in units.read:
            _weight(network, name).mul_(factor)
    return network


@torch.no_grad()
def swapped(network: nn.Module, share: float, seed: int) -> nn.Module:
    """Permute a random ``share`` of the units of every layer, and what reads them alike: the function stays.

    The penultimate features are among them; the logits are not.
    """
    network, rng = copy.deepcopy(network), np.random.default_rng(seed)
    for units in (*hidden(network), *streams(network)):
        count = len(_weight(network, units.written[0]))
        chosen = rng.permutation(count)[: round(share * count)]
        order = np.arange(count)
        order[np.sort(chosen)] = chosen
        _reorder(network, units, torch.from_numpy(order))
    return network


def _reorder(network: nn.Module, units: Units, order: Tensor) -> None:
    for name in (*units.written, *units.norms):
        for tensor in network.get_submodule(name).state_dict().values():
            if tensor.ndim:  # a counter has none
                tensor.copy_(tensor[order])
    for name in units.read:
        weight = _weight(network, name)
        weight.copy_(weight[:, order])


@torch.no_grad()
def pruned(network: nn.Module, share: float) -> nn.Module:
    """Set a ``share`` of the weights of every layer to 0, those of least size; biases and BatchNorm stay."""
    network = copy.deepcopy(network)
    for weight in read_weights(network).values():
        if weight.ndim > 1:
            least = weight.abs().flatten().kthvalue(max(1, round(share * weight.numel()))).values
            weight[weight.abs() <= least] = 0
    return network


@torch.no_grad()
def quantised(network: nn.Module, bits: int) -> nn.Module:
    """Round the weights of every layer to 2^``bits`` − 1 even steps about 0; biases and BatchNorm stay."""
    network = copy.deepcopy(network)
    for weight in read_weights(network).values():
        if weight.ndim > 1:
            step = weight.abs().max().clamp_min(1e-30) / (2 ** (bits - 1) - 1)
            weight.copy_((weight / step).round() * step)
    return network


@torch.no_grad()
def perturbed(network: nn.Module, std: float, seed: int) -> nn.Module:
    """Add Gaussian noise of standard deviation ``std`` to each weight and bias, BatchNorm's excepted."""
    network, generator = copy.deepcopy(network), torch.Generator().manual_seed(seed)
    for weight in read_weights(network).values():
        weight += std * torch.randn(weight.shape, generator=generator).to(weight)
    return network


def perturbed_adversarially(network: nn.Module, std: float, pixels: Tensor, seed: int) -> nn.Module:
    """Add a vector v of standard deviation ``std`` that moves the penultimate features as far as it can.

    max_v E_x ‖f^r_θ(x) − f^r_{θ+v}(x)‖² with std(v) = ``std``, by 20 steps along the normalised gradient of 100
    pictures each, brought back to that standard deviation after each. BatchNorm stays as it is.

    Args:
        network: In eval mode, on the device of the pictures.
        std: c of the paper.
        pixels: Pictures to choose v by, ``[N, 3, H, W]``.
        seed: Of the first v and of the pictures of each step.
    """
    network, generator = copy.deepcopy(network).eval(), torch.Generator().manual_seed(seed)
    start = read_weights(network)
    vector = torch.randn(sum(map(Tensor.numel, start.values())), generator=generator).to(pixels.device)
    for _ in range(_ASCENT_STEPS):
        batch = pixels[torch.randperm(len(pixels), generator=generator)[:_ASCENT_BATCH]]
        vector = _of_std(vector, std).requires_grad_()
        moved = functional_call(Features(network), _added(start, vector, "network."), batch)
        with torch.no_grad():
            goal = Features(network)(batch)
        (gradient,) = torch.autograd.grad((moved - goal).square().sum(1).mean(), vector)
        vector = (vector + _ASCENT_RATE * _of_std(gradient, std)).detach()
    network.load_state_dict(_added(start, _of_std(vector, std), ""), strict=False)
    return network


def _of_std(vector: Tensor, std: float) -> Tensor:
    vector = vector - vector.mean()
    return vector * (std / vector.std().clamp_min(1e-30))


def _added(weights: dict[str, Tensor], vector: Tensor, prefix: str) -> dict[str, Tensor]:
    """Add a vector to all weights."""
    parts = vector.split([weight.numel() for weight in weights.values()])
    return {
        prefix + name: weight + part.view_as(weight)
        for (name, weight), part in zip(weights.items(), parts, strict=True)
    }


@torch.no_grad()
def interpolated(a: nn.Module, b: nn.Module, share: float) -> nn.Module:
    """Return (1 − ``share``) θ_A + ``share`` θ_B, running statistics of BatchNorm included.

    Args:
        a: A network.
        b: Another of the same shape.
        share: c of the paper.
    """
    mixed = copy.deepcopy(b)
    for (name, own), other in zip(mixed.state_dict().items(), a.state_dict().values(), strict=True):
        if own.is_floating_point() and not name.endswith("num_batches_tracked"):
            own.copy_(torch.lerp(other, own, share))
    return mixed


def _weight(network: nn.Module, name: str) -> Tensor:
    return network.get_submodule(name).get_parameter("weight")
