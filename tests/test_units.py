"""Units follow the scale of a layer, whichever way it is parameterised."""

import pytest
import torch
from networks import SmallNet, noise_images, rescaled, transform

from hf_infodist.coding.units import parameter_units, with_mean_one


@pytest.fixture(scope="module")
def images():
    return torch.stack([transform(image) for image in noise_images(32)]).double()


def test_units_are_about_one_for_a_fresh_network_and_follow_a_rescaling(images):
    net = SmallNet(gain=1.0)
    fresh, scaled = parameter_units(net, images), parameter_units(rescaled(net, 8.0), images)
    assert all(0.5 < unit < 2 for name, unit in fresh.items() if name.endswith("weight"))
    assert scaled["conv2.weight"] == pytest.approx(8 * fresh["conv2.weight"])
    assert scaled["conv2.bias"] == pytest.approx(8 * fresh["conv2.bias"])
    assert scaled["head.weight"] == pytest.approx(fresh["head.weight"] / 8)
    assert scaled["head.bias"] == pytest.approx(fresh["head.bias"])


def test_a_zero_head_gets_the_unit_of_what_it_sees(images):
    net = SmallNet()
    with torch.no_grad():
        net.head.weight.zero_(), net.head.bias.zero_()
        seen = net.hidden(net.conv2(net.conv1(images).relu()).relu().mean((2, 3))).relu()
    assert parameter_units(net, images)["head.weight"] == pytest.approx(1 / seen.square().mean().sqrt().item())


def test_units_of_mean_one_keep_their_ratios_and_do_not_follow_a_rescaled_pair(images):
    net, twin = SmallNet(), rescaled(SmallNet(), 8.0)
    units, rescaled_units = (with_mean_one(parameter_units(n, images), n) for n in (net, twin))
    weights = [units[f"{layer}.weight"] for layer in ("conv1", "conv2", "hidden", "head")]
    assert torch.tensor(weights).log().mean().item() == pytest.approx(0, abs=1e-6)
    assert rescaled_units["conv1.weight"] == pytest.approx(units["conv1.weight"])
    assert rescaled_units["conv2.weight"] == pytest.approx(8 * units["conv2.weight"])
