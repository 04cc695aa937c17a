"""Guarantees of the mixture."""

import math

import numpy as np
import pytest
import torch

from hf_infodist.coding import kl_nats
from hf_infodist.mixture import Mixture


def draw(learners=4, images=300, classes=6, seed=0):
    rng = np.random.default_rng(seed)
    teacher = torch.log_softmax(torch.from_numpy(rng.normal(0, 2, (images, classes))), -1)
    noise = np.linspace(0.2, 2, learners)[:, None, None] * rng.normal(0, 1, (learners, images, classes))
    return teacher, torch.log_softmax(teacher + torch.from_numpy(noise), -1)


def price(mixture, teacher, students, block=32):
    total, losses = 0.0, kl_nats(teacher, students)
    for start in range(0, len(teacher), block):
        piece = slice(start, start + block)
        total += kl_nats(teacher[piece], mixture.code(students[:, piece], losses[:, piece])).sum().item()
    return total, losses.sum(1)


@pytest.mark.parametrize("seed", range(5))
def test_mixture_pays_at_most_the_best_learner_and_the_price_of_choosing_it(seed):
    teacher, students = draw(seed=seed)
    prior = [0.4, 0.3, 0.2, 0.1]
    total, alone = price(Mixture(prior), teacher, students)
    assert total <= min(nats + math.log(1 / w) for nats, w in zip(alone.tolist(), prior, strict=True)) + 1e-9


def test_switching_mixture_follows_a_change_of_the_best_learner():
    teacher, students = draw(learners=2, images=2000)
    changing = students.clone()
    changing[0, 1000:], changing[1, 1000:] = students[1, 1000:], students[0, 1000:]
    switching, alone = price(Mixture([1, 1], switching=True), teacher, changing)
    staying, _ = price(Mixture([1, 1]), teacher, changing)
    best_of_each_half = kl_nats(teacher, students)[0].sum().item()
    assert switching < best_of_each_half + 4 * math.log(2000) < min(staying, alone.min().item())


def test_a_single_learner_is_left_alone_to_the_bit():
    teacher, students = draw(learners=1)
    total, alone = price(Mixture([1.0], switching=True), teacher, students, block=300)
    assert total == alone.item()


def test_weights_stay_normalised_and_block_size_does_not_matter():
    teacher, students = draw()
    totals = []
    for block in (1, 7, 300):
        mixture = Mixture([1, 1, 1, 1], switching=True)
        totals.append(price(mixture, teacher, students, block)[0])
        assert mixture.log_weights.exp().sum().item() == pytest.approx(1, abs=1e-12)
    assert totals == pytest.approx([totals[0]] * 3, rel=1e-12)


def test_an_unlikely_learner_that_never_helps_costs_next_to_nothing():
    teacher, students = draw(learners=2)
    students[0] = teacher
    total, _ = price(Mixture([0.999, 0.001], switching=True), teacher, students)
    assert 0 <= total <= 0.01
