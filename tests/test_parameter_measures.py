"""Measures of weights against independent implementations."""

import numpy as np
import pytest
import torch
from networks import SmallNet, permuted
from scipy.optimize import linear_sum_assignment, linprog
from scipy.spatial.distance import cdist, cosine, euclidean
from torch.nn.utils import parameters_to_vector

from hf_infodist.baselines import Inapplicable, parameter
from hf_infodist.baselines.transport import transport_cost
from hf_infodist.models.load import load_classifier

A, B = SmallNet(), SmallNet(seed=1)
WEIGHTS_A, WEIGHTS_B = parameter.read_weights(A), parameter.read_weights(B)
LAYERS = ("conv1", "conv2", "hidden", "head")


def vector(net):
    return parameters_to_vector(net.parameters()).detach().numpy()


def test_l2_and_cosine_are_those_of_one_long_vector():
    assert parameter.l2(WEIGHTS_A, WEIGHTS_B) == pytest.approx(euclidean(vector(A), vector(B)))
    assert parameter.cosine(WEIGHTS_A, WEIGHTS_B) == pytest.approx(1 - cosine(vector(A), vector(B)))


def test_emd_is_the_best_assignment_of_neurons_layer_by_layer():
    expected = 0.0
    for name in LAYERS:
        a, b = (net.get_submodule(name).weight.detach().numpy().reshape(net.get_submodule(name).weight.shape[0], -1)
                for net in (A, B))  # fmt: skip
        cost = cdist(a, b)
        expected += cost[linear_sum_assignment(cost)].mean()
    assert parameter.emd(WEIGHTS_A, WEIGHTS_B) == pytest.approx(expected)


def test_emd_of_a_layer_does_not_see_the_order_of_its_neurons():
    first = {name: p for name, p in WEIGHTS_A.items() if name.startswith("conv1")}
    reordered = {name: p for name, p in parameter.read_weights(permuted(A)).items() if name.startswith("conv1")}
    assert parameter.l2(first, reordered) > 1
    assert parameter.emd(first, reordered) == 0.0


def test_transport_between_unequal_numbers_of_neurons_is_the_linear_program():
    rng = np.random.default_rng(0)
    a, b = rng.standard_normal((4, 3)), rng.standard_normal((6, 3))
    rows = np.kron(np.eye(4), np.ones(6))
    columns = np.kron(np.ones(4), np.eye(6))
    solution = linprog(
        cdist(a, b).ravel(), A_eq=np.vstack([rows, columns]), b_eq=[1 / 4] * 4 + [1 / 6] * 6, bounds=(0, None)
    )
    assert transport_cost(a, b) == pytest.approx(solution.fun)


@pytest.mark.parametrize("scale", [1e-30, 1.0, 1e30])
def test_transport_is_proportional_to_the_scale_and_zero_only_for_equal_sets(scale):
    rng = np.random.default_rng(0)
    a, b = rng.standard_normal((50, 3)), rng.standard_normal((50, 3))
    assert transport_cost(scale * a, scale * b) / scale == pytest.approx(transport_cost(a, b), rel=1e-9)
    assert transport_cost(scale * a, scale * a[::-1]) == 0.0
    assert transport_cost(a, np.repeat(a, 2, axis=0)) == 0.0  # every neuron twice is the same set
    assert transport_cost(a, a + 1e-9) / 1e-9 == pytest.approx(3**0.5, rel=1e-6)


def test_batchnorm_has_no_say():
    a, b = SmallNet(batchnorm=True), SmallNet(batchnorm=True)
    with torch.no_grad():
        b.norm.weight.fill_(100.0), b.norm.bias.fill_(-100.0), b.norm.running_mean.fill_(1e6)
    assert parameter.l2(parameter.read_weights(a), parameter.read_weights(b)) == 0.0
    with torch.no_grad():
        b.conv1.bias[0] += 2.0
    assert parameter.l2(parameter.read_weights(a), parameter.read_weights(b)) == pytest.approx(2.0)


def test_batchnorm_of_timm_is_recognised():
    network = load_classifier("random:timm:test_efficientnet.r160_in1k").network.module
    names = parameter.read_weights(network).keys()
    left_out = {name for name, _ in network.named_parameters()} - names
    assert left_out and all("bn" in name for name in left_out) and not any("bn" in name for name in names)


def test_network_of_zeros_has_no_direction():
    zeros = {name: torch.zeros_like(weight) for name, weight in WEIGHTS_A.items()}
    assert parameter.l2(WEIGHTS_A, zeros) == pytest.approx(np.linalg.norm(vector(A)))
    with pytest.raises(Inapplicable, match="direction"):
        parameter.cosine(WEIGHTS_A, zeros)
