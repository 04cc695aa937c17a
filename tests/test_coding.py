"""The prequential loop on learners whose codelength is known in closed form."""

import math

import numpy as np
import pytest
import torch
from scipy.special import gammaln, rel_entr

from hf_infodist.coding.learners import Static, Uniform
from hf_infodist.coding.loop import prequential
from hf_infodist.coding.mixture import Mixture
from hf_infodist.coding.nats import kl_nats
from hf_infodist.coding.targets import PricedTargets, Targets, draw_labels
from hf_infodist.protocol import CodingProtocol, LearnerSpec
from hf_infodist.results.codelength import Codelength, LearnerRecord, mean_over_orders


class Laplace:
    """Predicts each class by its count so far plus one."""

    name = "laplace"
    costs_gradients = one_by_one = False

    def __init__(self, num_classes):
        self.counts = torch.ones(num_classes, dtype=torch.float64)

    def predict(self, start, end):
        return (self.counts / self.counts.sum()).log().expand(end - start, -1)

    def learn(self, start, end, priced, nats):
        self.counts += priced[slice(start, end)].exp().sum(0)
        return 0

    def stop(self):
        raise AssertionError("it costs no gradients")


class Recorder(Uniform):
    """A uniform learner that records what it is asked and shown, and learns by blocks."""

    one_by_one = False

    def __init__(self, num_classes):
        super().__init__(num_classes)
        self.calls = []

    def predict(self, start, end):
        self.calls.append(("predict", start, end))
        return super().predict(start, end)

    def learn(self, start, end, priced, nats):
        self.calls.append(("learn", start, end))
        with pytest.raises(IndexError, match=f"image {end} is not priced yet"):
            priced[slice(start, end + 1)]
        with pytest.raises(IndexError, match="not priced yet"):
            priced[np.array([0, end])]
        assert len(priced[slice(0, end)]) == end
        return 0


def code(learners, logits, blocks, labels=None, price="kl", **options):
    mixture, targets = Mixture([1.0] * len(learners)), "labels" if price == "labels" else "soft"
    rules = protocol(price=price, targets=targets)
    return prequential(learners, Targets(logits, labels), blocks, rules, mixture=mixture, **options)


def protocol(**fields):
    return CodingProtocol("test", (LearnerSpec("uniform"),), **fields)


def one_hot_logits(labels, num_classes):
    with np.errstate(divide="ignore"):
        return np.log(np.eye(num_classes)[labels])


def random_logits(k=200, num_classes=7, seed=0, scale=3.0):
    return np.random.default_rng(seed).normal(0, scale, (k, num_classes))


def test_laplace_learner_matches_its_closed_form():
    labels = np.random.default_rng(1).integers(0, 5, 400)
    result = code([Laplace(5)], one_hot_logits(labels, 5), protocol(first_block=1).blocks(400))
    counts = np.bincount(labels, minlength=5)
    closed_form = gammaln(400 + 5) - gammaln(5) - gammaln(counts + 1).sum()
    assert result.nats == pytest.approx(closed_form, rel=1e-12, abs=1e-9)


def test_laplace_learner_in_blocks_matches_its_block_formula():
    labels = np.random.default_rng(2).integers(0, 3, 300)
    blocks = list(protocol(first_block=16, growth=1.5).blocks(300))
    expected = 0.0
    for start, end in blocks:
        counts = np.bincount(labels[:start], minlength=3) + 1
        expected -= np.log(counts[labels[start:end]] / counts.sum()).sum()
    assert code([Laplace(3)], one_hot_logits(labels, 3), blocks).nats == pytest.approx(expected, abs=1e-9)


def test_uniform_learner_costs_k_ln_c_for_sure_labels():
    result = code([Uniform(10)], one_hot_logits(np.arange(640) % 10, 10), protocol().blocks(640))
    assert result.nats == pytest.approx(640 * math.log(10), rel=1e-14)


def test_uniform_learner_costs_k_ln_c_less_the_entropy_of_soft_targets():
    logits = random_logits()
    q = torch.softmax(torch.from_numpy(logits), -1)
    entropy = -(q * q.log()).sum().item()
    result = code([Uniform(7)], logits, protocol().blocks(200))
    assert result.nats == pytest.approx(200 * math.log(7) - entropy, rel=1e-12)


def test_kl_matches_scipy_and_is_zero_only_for_equals():
    q, p = (torch.log_softmax(torch.from_numpy(random_logits(seed=s)), -1) for s in (3, 4))
    assert np.allclose(kl_nats(q, p), rel_entr(q.exp().numpy(), p.exp().numpy()).sum(-1), rtol=1e-12)
    assert (kl_nats(q, q) == 0).all() and (kl_nats(q, p) > 0).all()


def test_kl_of_a_sure_teacher_is_the_surprise():
    sure = torch.tensor([[0.0, -math.inf, -math.inf]], dtype=torch.float64)
    p = torch.tensor([[0.2, 0.3, 0.5]], dtype=torch.float64).log()
    assert kl_nats(sure, p).item() == pytest.approx(-math.log(0.2))


@pytest.mark.parametrize("fields", [{}, {"first_block": 10, "growth": 2.0}, {"first_block": 7, "growth": 1.5}])
def test_every_image_is_priced_exactly_once_and_before_it_is_learnt_from(fields):
    recorder = Recorder(7)
    code([recorder], random_logits(), protocol(**fields).blocks(200))
    priced = 0
    for (verb, start, end), follower in zip(recorder.calls[::2], recorder.calls[1::2], strict=False):
        assert (verb, start) == ("predict", priced) and follower == ("learn", start, end)
        priced = end
    assert recorder.calls[-1] == ("predict", priced, 200)  # nothing is left to be priced after the last block


def test_drawn_labels_follow_the_teacher():
    logits = np.tile(np.log([[0.1, 0.2, 0.7]]), (20000, 1))
    frequencies = np.bincount(draw_labels(logits, seed=0), minlength=3) / 20000
    assert np.allclose(frequencies, [0.1, 0.2, 0.7], atol=0.015)
    assert (draw_labels(logits, 0) == draw_labels(logits, 0)).all()
    assert (draw_labels(logits, 0) != draw_labels(logits, 1)).any()


def test_a_class_of_probability_zero_is_never_drawn():
    logits = one_hot_logits(np.arange(300) % 3, 3)
    assert (draw_labels(logits, 0).numpy() == np.arange(300) % 3).all()


def test_sampled_price_of_a_static_learner_is_its_kl_on_average():
    teacher, student = random_logits(500, scale=1.0), random_logits(500, seed=5, scale=1.0)
    exact = code([Static(student)], teacher, protocol().blocks(500)).nats
    draws = [
        code([Static(student)], teacher, protocol().blocks(500), draw_labels(teacher, s), "labels").nats
        for s in range(60)
    ]
    assert abs(np.mean(draws) - exact) < 3 * np.std(draws) / math.sqrt(60)


def test_a_student_shown_labels_sees_nothing_else():
    logits = random_logits(50)
    shown = PricedTargets(Targets(logits, draw_labels(logits, 0)), 50)[slice(0, 50)].exp()
    assert ((shown == 0) | (shown == 1)).all() and (shown.sum(-1) == 1).all()


def test_a_prediction_that_is_not_finite_is_an_error():
    class Broken(Uniform):
        def predict(self, start, end):
            return super().predict(start, end) * math.nan

    with pytest.raises(FloatingPointError, match="image 0 is not finite"):
        code([Broken(7)], random_logits(), protocol().blocks(200))


def test_a_learner_that_diverges_is_left_behind_by_the_mixture():
    teacher = random_logits(200)
    broken = np.where(np.arange(200)[:, None] < 64, teacher, np.nan)
    result = code([Static(broken), Uniform(7)], teacher, protocol().blocks(200))
    assert math.isfinite(result.nats) and result.learners[0].nats == math.inf
    assert result.learners[1].weight == pytest.approx(1)


class Costly(Static):
    """A learner that would cost gradients."""

    costs_gradients = True
    one_by_one = False

    def __init__(self, logits, name):
        super().__init__(logits)
        self.name, self.learnt, self.stopped = name, 0, False

    def learn(self, start, end, priced, nats):
        self.learnt = end
        return end - start

    def stop(self):
        self.stopped = True


def test_the_worse_half_stops_for_good_and_learners_that_cost_nothing_stay():
    teacher = random_logits(400)
    noise = np.random.default_rng(9).normal(0, 1, teacher.shape)
    learners = [Costly(teacher + scale * noise, str(scale)) for scale in (2.0, 0.1, 3.0, 0.2)] + [Uniform(7)]
    mixture = Mixture([1.0] * 5, True)
    rules = protocol(reduction=2, trial=64)
    result = prequential(learners, Targets(teacher), rules.blocks(400), rules, mixture=mixture)
    assert [learner.images for learner in result.learners] == [64, 400, 64, 128, 400]
    assert [learner.learnt for learner in learners[:4]] == [32, 384, 32, 96]
    assert [learner.stopped for learner in learners[:4]] == [True, False, True, True]
    assert [learner.weight == 0 for learner in result.learners] == [True, False, True, True, False]
    assert sum(learner.weight for learner in result.learners) == pytest.approx(1)
    assert result.gradient_images == 32 + 384 + 32 + 96
    assert result.nats <= result.learners[1].nats + math.log(5) + 2 * math.log(400)


def test_halving_looks_only_at_priced_images():
    teacher = random_logits(400)
    late = teacher.copy()
    late[64:] += 5 * np.random.default_rng(1).normal(0, 1, late[64:].shape)  # breaks just after the first trial
    other = teacher + 0.1 * np.random.default_rng(2).normal(0, 1, late.shape)
    learners = [Costly(late, "late"), Costly(other, "other")]
    rules = protocol(reduction=2, trial=64)
    result = prequential(learners, Targets(teacher), rules.blocks(400), rules, mixture=Mixture([1, 1]))
    assert [learner.images for learner in result.learners] == [400, 64]  # too late to regret


def record(image_nats, block_ends, epsilon=0.05):
    learner = LearnerRecord("one", float(np.sum(image_nats)), len(image_nats), 1.0, 0)
    return Codelength(np.asarray(image_nats, float), 9.0, 12.0, (learner,), block_ends, epsilon, 1.0)


def test_convergence_looks_at_the_last_block_or_the_last_tenth():
    falling = np.concatenate([np.ones(80), np.full(20, 0.01)])
    assert record(falling, (50, 80, 100)).final_nats_per_image == pytest.approx(0.01)
    assert record(falling, (50, 80, 100)).converged
    assert record(falling, tuple(range(1, 101))).final_nats_per_image == pytest.approx(0.01)  # ten images, not one
    assert not record(falling, (50, 100)).converged


def test_standard_error_covers_the_spread_and_ignores_the_trend():
    rng = np.random.default_rng(0)
    trend = 2 * np.exp(-np.arange(1000) / 200)
    totals = [(trend + rng.gamma(1.0, 0.5, 1000)).sum() for _ in range(300)]
    reported = record(trend + rng.gamma(1.0, 0.5, 1000), (1000,)).stderr_nats
    assert reported == pytest.approx(np.std(totals), rel=0.15)


def test_curve_ends_at_the_total_and_stays_short():
    result = record(np.ones(10000), tuple(range(2, 10001, 2)))
    curve = result.curve()
    assert curve[-1] == (10000, pytest.approx(10000)) and len(curve) <= 201
    assert all(nats == pytest.approx(images) for images, nats in curve)


def test_progress_is_reported_after_each_block():
    seen = []
    result = code([Uniform(7)], random_logits(), protocol().blocks(200), on_block=lambda *at: seen.append(at))
    assert [images for images, _ in seen] == [32, 64, 96, 128, 160, 192, 200]
    assert seen[-1][1] == result.nats


def test_orders_are_averaged_and_their_spread_is_told():
    codes = [record([4.0, 2.0, 1.0], (3,)), record([2.0, 2.0, 2.0], (3,)), record([6.0, 1.0, 1.0], (3,))]
    mean = mean_over_orders(codes)
    assert mean.image_nats.tolist() == pytest.approx([4.0, 5 / 3, 4 / 3])
    assert mean.order_nats == (7.0, 6.0, 8.0) and mean.nats == pytest.approx(7.0)
    assert mean.stderr_orders_nats == pytest.approx(np.std([7, 6, 8], ddof=1) / math.sqrt(3))
    assert mean.stderr_nats == pytest.approx(np.mean([code.stderr_nats for code in codes]))  # the same images
    assert math.isnan(codes[0].stderr_orders_nats) and mean_over_orders(codes[:1]) is codes[0]


def test_excess_is_what_was_paid_above_the_final_price():
    code = record(np.concatenate([np.full(90, 1.0), np.full(10, 0.2)]), (90, 100))
    assert code.excess_nats == pytest.approx(100 - 100 * 0.2 - 8)


def test_head_is_paid_for_on_the_first_256_images():
    assert record(np.arange(300.0), (300,)).head_nats == sum(range(256))


def test_normalised_codelength_is_a_share_of_what_the_mean_output_costs():
    assert record(np.ones(6), (6,)).normalised == 0.5
