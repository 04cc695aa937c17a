"""Differences are paired image by image, and their errors cover what they promise."""

import math

import numpy as np
import pytest

from hf_infodist.results.codelength import stderr_of_sum
from hf_infodist.results.difference import NEW, Difference, difference_of_distances

K = 300


def falling(rng, level=0.4, spread=0.3):
    """Prices as a student has them that learns, k of them: they fall as 1/√n, and wander a little around that."""
    fall = level / np.sqrt(1 + np.arange(K) / 20)
    wander = np.convolve(rng.normal(size=K + 9), np.ones(10) / 10, "valid")
    return fall * np.exp(spread * wander) * rng.gamma(0.5, 2.0, K)


def test_what_is_hard_for_both_cancels():
    rng = np.random.default_rng(0)
    shared, a, b = rng.gamma(0.5, 8.0, K), falling(rng), falling(rng)
    paired = Difference.of(shared + a, shared + b)
    assert paired.nats == pytest.approx(math.fsum(a) - math.fsum(b))
    assert paired.stderr_nats == pytest.approx(stderr_of_sum(a - b))
    assert paired.stderr_nats < 0.2 * math.hypot(stderr_of_sum(shared + a), stderr_of_sum(shared + b))


def test_nothing_and_what_is_within_two_errors_is_tied():
    a, noise = np.full(100, 0.5), np.tile([0.1, -0.1], 50)
    error = Difference.of(a + noise, a).stderr_nats
    assert error == pytest.approx(math.sqrt(100 * 0.02))
    assert Difference.of(a, a) == Difference(0.0, 0.0) and Difference.of(a, a).tied
    assert Difference.of(a + noise + 1.99 * error / 100, a).tied
    assert not Difference.of(a + noise + 2.01 * error / 100, a).tied
    assert Difference.of(a + noise, a).smallest_nats == 2 * error
    assert not Difference.of(a[:1] + 1, a[:1]).tied  # a single image has no error


def test_swapping_changes_the_sign_alone():
    rng = np.random.default_rng(0)
    ways = [[falling(rng) for _ in range(2)] for _ in range(2)]
    there, back = difference_of_distances(*ways), difference_of_distances(*ways[::-1])
    assert there.nats == -back.nats and there.stderr_nats == back.stderr_nats


def test_orders_of_the_same_images_lower_no_error():
    rng = np.random.default_rng(0)
    a, b = falling(rng), falling(rng)
    assert Difference.of(a, b, orders=4).stderr_nats == pytest.approx(2 * Difference.of(a, b).stderr_nats)


def test_a_difference_of_distances_is_that_of_the_larger_directions():
    rng = np.random.default_rng(0)
    small, large, other = 0.1 * falling(rng), falling(rng), 2 * falling(rng)
    found = difference_of_distances([small, large], [other, 0.1 * other])
    assert found == Difference.of(large, other, new=NEW)
    assert found.nats == math.fsum(large) - math.fsum(other)
    assert found.stderr_nats == pytest.approx(math.sqrt(K / (K - 50)) * stderr_of_sum((large - other)[50:]))
    few = difference_of_distances([large[:40], small[:40]], [other[:40], 0.1 * other[:40]])
    assert few.stderr_nats == pytest.approx(math.sqrt(4 / 3) * stderr_of_sum((large - other)[10:40]))


def test_the_error_does_not_depend_on_which_direction_chance_makes_the_larger():
    """Two directions that cost the same in all: one varies with the other distance, one against it."""
    rng = np.random.default_rng(0)
    other = falling(rng)
    along, against = other + 0.3, 2 * other.mean() + 0.3 - other
    errors = [
        difference_of_distances([along + more, against - more], [other, 0 * other]).stderr_nats
        for more in (1e-6, -1e-6)
    ]
    assert errors[0] == pytest.approx(errors[1]) and errors[0] == pytest.approx(stderr_of_sum(against - other, NEW))


def covered(draw, expected, samples=600):
    """Return the share of samples whose difference is within one and two of its errors from what is expected."""
    found = [draw() for _ in range(samples)]
    away = np.array([abs(one.nats - expected) / one.stderr_nats for one in found])
    return np.mean(away <= 1), np.mean(away <= 2)


@pytest.mark.parametrize("k", [200, 500])
def test_two_paired_errors_cover_95_percent_of_prices_that_fall_and_wander(k):
    """Two students learn the same images: what is hard for both is shared, and one of them learns less well."""
    rng, fall = np.random.default_rng(k), 0.5 / np.sqrt(1 + np.arange(k) / 20)

    def prices(level):
        shared = rng.gamma(0.5, 2.0, k)
        slow = np.exp(0.2 * np.convolve(rng.normal(size=k + 9), np.ones(10) / math.sqrt(10), "valid") - 0.02)
        a, b = (fall * slow * (0.8 * shared + 0.2 * rng.gamma(0.5, 2.0, k)) for _ in range(2))
        return level * a, b

    one, two = covered(lambda: Difference.of(*prices(1.1)), 0.1 * fall.sum())
    assert 0.63 < one < 0.73 and 0.93 < two < 0.97


def test_unpaired_errors_would_cover_too_much_and_a_noise_of_whole_samples_is_not_seen():
    """What the figures would be if errors were wrong: those of two samples, and prices that all move together."""
    rng, level = np.random.default_rng(0), np.full(K, 0.2)

    def prices():
        shared = rng.gamma(0.5, 2.0, K)
        return level * (shared + 0.3 * rng.gamma(0.5, 2.0, K)), level * (shared + 0.3 * rng.gamma(0.5, 2.0, K))

    def unpaired():
        a, b = prices()
        return Difference(math.fsum(a) - math.fsum(b), math.hypot(stderr_of_sum(a), stderr_of_sum(b)))

    def moved():
        a, b = prices()
        return Difference.of(a + 0.02 * rng.normal(), b)

    assert covered(unpaired, 0)[0] > 0.95
    assert covered(moved, 0)[1] < 0.8


def learnt(rng, symbols=20):
    """Prices of symbols that are equally likely, by Laplace's rule: each is dear when it is new, and cheaper later."""
    drawn = rng.integers(symbols, size=K)
    before = np.tril(drawn[:, None] == drawn, -1).sum(1)
    return 0.3 * np.log((np.arange(K) + symbols) / (before + 1))


@pytest.mark.parametrize(
    ("prices", "new", "least"), [(falling, 0, (0.7, 0.96)), (falling, NEW, (0.66, 0.94)), (learnt, NEW, (0.7, 0.96))]
)
def test_the_larger_of_two_directions_that_are_level_is_covered(prices, new, least):
    """Both directions of both distances cost the same in expectation, the hardest case of the maximum.

    The first images vary most: where no price depends on another, errors that do without them cover just enough.
    """
    rng = np.random.default_rng(0)

    def draw():
        shared = falling(rng)
        b, c = ([0.5 * shared + prices(rng) for _ in range(2)] for _ in range(2))
        return difference_of_distances(b, c, new=new)

    assert all(found > share for found, share in zip(covered(draw, 0), least, strict=True))


def test_what_is_dear_when_it_is_new_saves_on_what_comes_later():
    """Errors from all prices are too large for a code that learns, and those without the first less so."""
    rng, sizes = np.random.default_rng(0), {}
    pairs = [(learnt(rng), learnt(rng)) for _ in range(600)]
    spread = np.std([math.fsum(a) - math.fsum(b) for a, b in pairs])
    for new in (0, NEW):
        errors = [Difference.of(a, b, new=new).stderr_nats for a, b in pairs]
        sizes[new] = math.sqrt(np.mean(np.square(errors))) / spread
    assert 1 < sizes[NEW] < sizes[0] - 0.03
