"""What the studies do to networks does what it says, and nothing else."""

import numpy as np
import pytest
import torch

from hf_infodist.baselines.parameter import read_weights
from hf_infodist.studies.networks import changes
from hf_infodist.studies.networks.resnet import Architecture, Features, hidden, streams

KINDS = [Architecture(2, 4, 2), Architecture(2, 4, 1, batch_norm=False)]
BOTH = pytest.mark.parametrize("shape", KINDS, ids=lambda shape: shape.name)


def lived_in(shape, seed=0):
    """Return a network whose statistics, biases and zero weights are no longer those of a fresh one."""
    network, generator = shape.drawn(5, seed), torch.Generator().manual_seed(seed)
    for name, tensor in network.state_dict().items():
        if tensor.is_floating_point():
            noise = torch.rand(tensor.shape, generator=generator)
            tensor.add_(noise if name.endswith("running_var") else 0.2 * (noise - 0.5))
    return network.eval()


def pictures(count=8, side=12, seed=0):
    return torch.randn(count, 3, side, side, generator=torch.Generator().manual_seed(seed))


@torch.no_grad()
def outputs(network, pixels):
    return Features(network)(pixels), network(pixels)


def distance(a, b):
    weights = read_weights(a), read_weights(b)
    return torch.cat([(weights[0][name] - weights[1][name]).flatten() for name in weights[0]])


def test_the_network_of_the_paper_has_its_size():
    network = Architecture().drawn(10, 0)
    assert Architecture().name == "ResNet-56-16"
    layers = [m for m in network.modules() if isinstance(m, torch.nn.Conv2d | torch.nn.Linear)]
    assert sum(getattr(m, "kernel_size", (3, 3)) == (3, 3) for m in layers) == 56
    assert sum(p.numel() for p in network.parameters()) / 1e6 == pytest.approx(0.85, abs=0.01)  # He et al., table 6


@BOTH
def test_other_classes_change_the_first_weights_of_the_head_alone(shape):
    five, ten = shape.drawn(5, 3), shape.drawn(10, 3)
    before = torch.random.get_rng_state()
    for (name, a), b in zip(five.state_dict().items(), ten.state_dict().values(), strict=True):
        assert name.startswith("fc.") or torch.equal(a, b)
    assert torch.equal(before, torch.random.get_rng_state())
    assert not torch.equal(five.conv1.weight, shape.drawn(5, 4).conv1.weight)


@BOTH
@pytest.mark.parametrize("factor", [0.25, 4.0, 3.0])
def test_scaling_changes_weights_and_no_output(shape, factor):
    network, pixels = lived_in(shape), pictures()
    scaled = changes.scaled(network, factor)
    for before, after in zip(outputs(network, pixels), outputs(scaled, pixels), strict=True):
        torch.testing.assert_close(after, before, rtol=1e-4, atol=1e-5)
    block = scaled.layer2[1]
    torch.testing.assert_close(block.conv2.weight, factor * network.layer2[1].conv2.weight)
    assert distance(network, scaled).abs().max() > 0.1


@BOTH
@pytest.mark.parametrize("share", [0.5, 1.0])
def test_swapping_permutes_features_and_no_logits(shape, share):
    network, pixels = lived_in(shape), pictures()
    swapped = changes.swapped(network, share, seed=1)
    (features, logits), (moved, same) = outputs(network, pixels), outputs(swapped, pixels)
    torch.testing.assert_close(same, logits, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(moved.sort(1).values, features.sort(1).values, rtol=1e-4, atol=1e-5)
    stayed = torch.isclose(moved, features, rtol=1e-4, atol=1e-5).all(0).float().mean()
    assert stayed >= 1 - share - 1e-6 and stayed < 1
    for name, weight in read_weights(network).items():
        assert sorted(weight.flatten().tolist()) == sorted(read_weights(swapped)[name].flatten().tolist())


@BOTH
def test_every_unit_but_the_logits_can_be_swapped(shape):
    network = lived_in(shape)
    groups = [*hidden(network), *streams(network)]
    written = [name for units in groups for name in units.written]
    convolutions = [n for n, m in network.named_modules() if isinstance(m, torch.nn.Conv2d)]
    assert sorted(written) == sorted(convolutions)
    assert sorted(name for units in groups for name in units.read) == sorted({*convolutions, "fc"} - {"conv1"})


def test_noise_has_the_standard_deviation_asked_for_and_spares_batchnorm():
    network = lived_in(KINDS[0])
    noisy = changes.perturbed(network, 0.03, seed=2)
    added = distance(noisy, network)
    assert float(added.std()) == pytest.approx(0.03, rel=0.05) and abs(float(added.mean())) < 0.002
    norms = [name for name in network.state_dict() if "bn" in name]
    assert norms and all(torch.equal(network.state_dict()[name], noisy.state_dict()[name]) for name in norms)
    twice = changes.perturbed(network, 0.06, seed=2)
    torch.testing.assert_close(distance(twice, network), 2 * added, rtol=1e-3, atol=1e-6)


@BOTH
def test_an_adversary_moves_features_farther_than_noise_of_the_same_size(shape):
    network, pixels = lived_in(shape), pictures(60)
    noisy = changes.perturbed(network, 0.02, seed=3)
    attacked = changes.perturbed_adversarially(network, 0.02, pixels, seed=3)
    assert float(distance(attacked, network).std()) == pytest.approx(0.02, rel=1e-3)
    before = outputs(network, pictures(40, seed=9))[0]  # other pictures than it was chosen by
    by_noise, by_attack = (
        float((outputs(changed, pictures(40, seed=9))[0] - before).norm()) for changed in (noisy, attacked)
    )
    assert by_attack > 3 * by_noise > 0


@BOTH
def test_interpolation_begins_at_one_network_and_ends_at_the_other(shape):
    a, b = lived_in(shape, 0), lived_in(shape, 1)
    for share, end in ((0.0, a), (1.0, b)):
        state = changes.interpolated(a, b, share).state_dict()
        assert all(torch.equal(state[name], tensor) for name, tensor in end.state_dict().items())
    middle = changes.interpolated(a, b, 0.25).state_dict()
    for name, tensor in middle.items():
        if tensor.is_floating_point():
            np.testing.assert_allclose(tensor, 0.75 * a.state_dict()[name] + 0.25 * b.state_dict()[name], atol=1e-6)
