"""Guarantees of the mixture."""

import math

import numpy as np
import pytest
import torch

from hf_infodist.coding.mixture import Mixture, Pool
from hf_infodist.coding.nats import kl_nats


def draw(learners=4, images=300, classes=6, seed=0):
    rng = np.random.default_rng(seed)
    teacher = torch.log_softmax(torch.from_numpy(rng.normal(0, 2, (images, classes))), -1)
    noise = np.linspace(0.2, 2, learners)[:, None, None] * rng.normal(0, 1, (learners, images, classes))
    return teacher, torch.log_softmax(teacher + torch.from_numpy(noise), -1)


def price(mixture, teacher, students, block=32):
    total, losses = 0.0, kl_nats(teacher, students)
    for start in range(0, len(teacher), block):
        piece = slice(start, start + block)
        total += kl_nats(teacher[piece], mixture.code(students[:, piece], teacher[piece])[0]).sum().item()
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


def pool_nats(pool, teacher, students):
    return kl_nats(teacher, pool.code(students, teacher)).sum().item()


def test_pool_finds_the_exponents_that_made_the_teacher():
    """Within a few nats of the best fixed exponents, which a batch optimiser finds with hindsight."""
    _, students = draw(images=1000)
    exponents = torch.tensor([0.7, -0.2, 0.3, 0.1], dtype=torch.float64)
    noise = torch.from_numpy(np.random.default_rng(5).normal(0, 0.3, students[0].shape))
    teacher = torch.log_softmax(torch.einsum("j,jnc->nc", exponents, students) + noise, -1)
    free = torch.full((4,), 0.25, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS([free], max_iter=100)

    def loss():
        optimizer.zero_grad()
        value = kl_nats(teacher, torch.log_softmax(torch.einsum("j,jnc->nc", free, students), -1)).sum()
        value.backward()
        return value

    best = optimizer.step(loss) and loss().item()
    pool = Pool([1.0] * 4)
    assert best <= pool_nats(pool, teacher, students) < best + 4 * math.log(1000)
    assert torch.allclose(torch.from_numpy(pool.exponents), exponents, atol=0.1)


def test_pool_beats_the_best_learner_where_learners_err_differently():
    teacher, students = draw(learners=4)
    students = torch.log_softmax(teacher + torch.randn(students.shape, generator=torch.Generator().manual_seed(0)), -1)
    best = kl_nats(teacher, students).sum(1).min().item()
    mixed, _ = price(Mixture([1] * 4, switching=True), teacher, students)
    pooled, _ = price(Mixture([1] * 4, switching=True, pooling=True), teacher, students)
    assert pooled < 0.6 * best and pooled < 0.8 * mixed


def test_pool_of_one_opinion_is_that_opinion():
    teacher, students = draw(learners=1)
    pool = Pool([1.0, 1.0, 1.0])
    assert torch.allclose(pool.code(students.expand(3, -1, -1)[:, :1], teacher[:1]), students[0, :1], atol=1e-12)


def test_pool_without_a_learner_is_where_newton_leads_without_it():
    """On one fixed quadratic problem, leaving a learner out gives the optimum that never had it."""
    generator = torch.Generator().manual_seed(1)
    root = torch.randn(5, 5, generator=generator, dtype=torch.float64)
    pool, target = Pool([1.0] * 5), torch.randn(5, generator=generator, dtype=torch.float64)
    pool.precision = root @ root.T + torch.eye(5)
    pool.exponents = torch.linalg.solve(pool.precision, target)
    expected = torch.linalg.solve(pool.precision[[0, 2, 3]][:, [0, 2, 3]], target[[0, 2, 3]])
    pool.keep([0, 2, 3])
    assert torch.allclose(pool.exponents, expected)


def test_mixture_with_a_pool_pays_little_for_choosing():
    teacher, students = draw(learners=3)
    students[0] = teacher  # perfect: a pool can only be worse
    total, _ = price(Mixture([1, 1, 1], pooling=True), teacher, students)
    assert total <= math.log(4) + 1e-9


def test_mixture_goes_on_from_its_state_to_the_bit():
    teacher, students = draw()
    first, second = (Mixture([1] * 4, switching=True, pooling=True) for _ in range(2))
    first.code(students[:, :100], teacher[:100])
    first.keep([0, 2, 3])
    second.load_state_dict(first.state_dict())
    rest = students[[0, 2, 3], 100:], teacher[100:]
    assert torch.equal(first.code(*rest)[0], second.code(*rest)[0])
