"""The loop that trains small networks does what its settings say."""

import itertools

import pytest
import torch
from torch import nn

from hf_infodist.studies.networks.fit import (
    Examples,
    Goal,
    Training,
    _dropout,
    augmented,
    fit,
    log_probabilities,
    normalised,
    score,
)


def network(seed=0):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        layers = nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6), nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten()
        return nn.Sequential(*layers, nn.Linear(24, 3)).eval()


def examples(count=96, seed=0):
    """Noise whose class is the brightest channel."""
    generator = torch.Generator().manual_seed(seed)
    images = torch.randint(100, (count, 3, 8, 8), generator=generator, dtype=torch.uint8)
    labels = torch.randint(3, (count,), generator=generator)
    images[torch.arange(count), labels] += 120
    return Examples(images, labels)


def loss(net, some):
    return score(log_probabilities(net, some.images), some.targets).loss


def weights(net):
    return torch.cat([parameter.detach().flatten() for parameter in net.parameters()])


def test_a_seed_gives_the_same_bits_and_leaves_the_global_generator_alone():
    training = Training(2, batch=16, dropout=0.2, augment=True)
    nets, before = [network() for _ in range(3)], torch.random.get_rng_state()
    for net, seed in zip(nets, (5, 5, 6), strict=True):
        fit(net, examples(), training, seed=seed)
    assert torch.equal(before, torch.random.get_rng_state())
    assert torch.equal(weights(nets[0]), weights(nets[1])) and not torch.equal(weights(nets[0]), weights(nets[2]))


@pytest.mark.parametrize("optimizer, rate", [("adam", 1e-2), ("sgd", 0.3)])
def test_it_learns(optimizer, rate):
    net, unseen = network(), examples(seed=1)
    before = loss(net, unseen)
    fitted = fit(net, examples(), Training(6, optimizer=optimizer, rate=rate, batch=16), seed=0)
    assert loss(net, unseen) < 0.5 * before and not net.training
    assert fitted.examples == 6 * 96 and fitted.loss is None and not fitted.reached


def test_training_ends_at_the_first_look_that_reaches_the_goal():
    watched, training = examples(seed=1), Training(20, rate=1e-2, batch=16)
    net = network()
    fitted = fit(net, examples(), training, seed=0, goal=Goal(0.6, every=32), watched=watched)
    assert fitted.reached and fitted.examples % 32 == 0 and fitted.examples < 20 * 96
    assert fitted.loss == pytest.approx(loss(net, watched), rel=1e-6) and fitted.loss <= 0.6
    one_look_before = Goal(0.6, every=fitted.examples - 32)
    again = fit(network(), examples(), training, seed=0, goal=one_look_before, watched=watched)
    assert again.examples > fitted.examples - 32  # it was not there yet


def test_a_goal_out_of_reach_is_told():
    fitted = fit(network(), examples(), Training(1, batch=16), seed=0, goal=Goal(0.0, 48), watched=examples())
    assert not fitted.reached and fitted.examples == 96 and fitted.loss > 0


def test_weight_decay_makes_weights_smaller():
    nets = [network() for _ in range(2)]
    for net, decay in zip(nets, (0.0, 0.3), strict=True):
        fit(net, examples(), Training(6, rate=1e-2, batch=16, weight_decay=decay), seed=0)
    assert weights(nets[1]).norm() < 0.8 * weights(nets[0]).norm()


def test_smoothed_labels_make_a_network_less_sure():
    sure = []
    for smoothing in (0.0, 0.5):
        net = network()
        fit(net, examples(), Training(12, rate=1e-2, batch=16, smoothing=smoothing), seed=0)
        sure.append(log_probabilities(net, examples().images).exp().max(1).values.mean())
    assert sure[1] < sure[0] - 0.1


def test_a_distilled_network_says_what_its_teacher_says():
    teacher, student = network(1), network(2)
    fit(teacher, examples(), Training(2, rate=1e-2, batch=16), seed=0)
    said = log_probabilities(teacher, examples().images)
    fit(student, examples().taught_by(said), Training(30, rate=1e-2, batch=16, anneal=True), seed=0)
    apart = (said.exp() * (said - log_probabilities(student, examples().images))).sum(1).mean()
    assert 0 <= apart < 0.02


def test_dropout_is_on_every_relu_while_training_only():
    net, pixels = nn.Sequential(nn.ReLU()), torch.ones(1, 3, 60, 60)
    with _dropout(net, 0.25, torch.Generator().manual_seed(0)):
        dropped = net.train()(pixels)
        assert torch.equal(net.eval()(pixels), pixels)
    assert (dropped == 0).double().mean().item() == pytest.approx(0.25, abs=0.02)
    assert sorted(dropped.unique().tolist()) == pytest.approx([0, 1 / 0.75])
    assert torch.equal(net.train()(pixels), pixels) and not net[0]._forward_hooks


def test_augmentation_moves_and_mirrors_each_picture():
    pixels = normalised(examples(8).images)
    moved = augmented(pixels, torch.Generator().manual_seed(0))
    padded = nn.functional.pad(pixels, (3,) * 4, mode="replicate")
    kinds = set()
    for one, result in zip(padded, moved, strict=True):
        found = [
            (row, left, mirrored)
            for row, left in itertools.product(range(7), range(7))
            for mirrored, crop in enumerate((one[:, row : row + 8, left : left + 8],) * 2)
            if torch.equal(crop.flip(2) if mirrored else crop, result)
        ]
        assert found
        kinds |= set(found)
    assert len({kind[:2] for kind in kinds}) > 4 and {kind[2] for kind in kinds} == {0, 1}


def test_a_score_is_cross_entropy_and_accuracy():
    logs = torch.tensor([[0.5, 0.5], [0.2, 0.8], [0.9, 0.1]], dtype=torch.float64).log()
    found = score(logs, torch.tensor([0, 1, 1]))
    assert found.accuracy == pytest.approx(2 / 3)
    assert found.loss == pytest.approx(-sum(map(torch.log, torch.tensor([0.5, 0.8, 0.1], dtype=torch.float64))) / 3)
