"""The scale in which each parameter is trained: what makes Adam blind to a rescaling of hidden units."""

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn


def parameter_units(network: nn.Module, images: Tensor) -> dict[str, float]:
    """Return the scale in which each parameter is trained.

    Adam moves every weight by about its learning rate, however large the weight is, so a layer scaled by c with the
    next scaled by 1/c would learn differently though the function is the same. In these units it learns the same. A
    freshly initialised network has units of about 1.

    Args:
        network: The student at its start.
        images: A few of the images to be coded, ``[n, 3, H, W]``.
    """
    inputs, outputs = _layer_rms(network, images)
    units = {}
    for module_name, module in network.named_modules():
        for name, parameter in module.named_parameters(module_name, recurse=False):
            own = _rms(parameter)
            if name.endswith("bias"):
                unit = outputs.get(module_name, 1.0)
            elif parameter.ndim > 1 and name.endswith("weight"):
                fan_in = parameter[0].numel()
                unit = own * math.sqrt(3 * fan_in) or 1 / inputs.get(module_name, 1.0)
            else:
                unit = own
            units[name] = unit or 1.0
    return units


def with_mean_one(units: dict[str, float], network: nn.Module) -> dict[str, float]:
    """Divide units by their geometric mean over the weight matrices and kernels.

    A layer times c and the next divided by c leave that mean as it is.
    """
    weights = [units[name] for name, parameter in network.named_parameters() if parameter.ndim > 1]
    mean = math.exp(sum(map(math.log, weights)) / max(1, len(weights)))
    return {name: unit / mean for name, unit in units.items()}


def _layer_rms(network: nn.Module, images: Tensor) -> tuple[dict[str, float], dict[str, float]]:
    inputs: dict[str, float] = {}
    outputs: dict[str, float] = {}

    def record(name: str) -> Callable:
        def hook(module: nn.Module, args: tuple, output: Tensor) -> None:
            if args and isinstance(args[0], Tensor) and isinstance(output, Tensor):
                inputs[name], outputs[name] = _rms(args[0]) or 1.0, _rms(output)

        return hook

    leaves = [
        (name, module) for name, module in network.named_modules() if next(module.parameters(False), None) is not None
    ]
    handles = [module.register_forward_hook(record(name)) for name, module in leaves]
    try:
        with torch.no_grad():
            network(images)
    finally:
        for handle in handles:
            handle.remove()
    return inputs, outputs


def _rms(values: Tensor) -> float:
    return float(values.detach().double().square().mean().sqrt())
