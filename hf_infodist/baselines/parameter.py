"""Measures in parameter space, appendix B.1: two networks of one architecture, weight by weight."""

import math
from collections.abc import Mapping

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from hf_infodist.baselines.result import Inapplicable
from hf_infodist.baselines.transport import transport_cost

Weights = Mapping[str, Tensor]


def read_weights(network: nn.Module) -> dict[str, Tensor]:
    """Return weights and biases by name, without those of BatchNorm, which can outweigh all others."""
    return {
        name: parameter.detach()
        for module_name, module in network.named_modules()
        if not isinstance(module, _BatchNorm)
        for name, parameter in module.named_parameters(module_name, recurse=False)
    }


def check_same_layers(a: Weights, b: Weights) -> None:
    """Raise Inapplicable unless names and shapes agree."""
    for name in {**a, **b}:
        if name not in a or name not in b:
            raise Inapplicable(f"different architectures: only {'A' if name in a else 'B'} has {name}")
        if a[name].shape != b[name].shape:
            raise Inapplicable(f"{name} is {list(a[name].shape)} in A, {list(b[name].shape)} in B")


def l2(a: Weights, b: Weights) -> float:
    """Return ‖w_A − w_B‖, all weights as one vector."""
    return math.sqrt(sum(float((a[name].double() - b[name].double()).square().sum()) for name in a))


def cosine(a: Weights, b: Weights) -> float:
    """Return w_A · w_B / (‖w_A‖ ‖w_B‖), all weights as one vector.

    Raises:
        Inapplicable: If all weights of one network are zero.
    """
    norms = math.sqrt(_product(a, a) * _product(b, b))
    if norms == 0:
        raise Inapplicable("all weights of a network are zero: they have no direction")
    return _product(a, b) / norms


def emd(a: Weights, b: Weights) -> float:
    """Return what it costs to move the neurons of A onto those of B, layer by layer, summed over layers.

    Σ_i min_P ⟨P, M^i⟩ with M^i_mn = ‖w^i_Am − w^i_Bn‖: a neuron is a row of a weight matrix or a kernel of a
    convolution. What feeds a layer is not reordered when the layer before is matched.

    Raises:
        Inapplicable: If POT is not installed.
    """
    layers = [name for name in a if a[name].ndim > 1]
    return math.fsum(transport_cost(a[name].flatten(1).numpy(), b[name].flatten(1).numpy()) for name in layers)


def _product(a: Weights, b: Weights) -> float:
    return sum(float((a[name].double() * b[name].double()).sum()) for name in a)
