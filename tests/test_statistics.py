"""Intervals cover what they should, and seeds are nested in configurations."""

import numpy as np
import pytest

from hf_infodist.studies.measures.statistics import mean, nested, pearson, spearman


def pair(rng, rho, n):
    x, y = rng.standard_normal((2, n))
    return x, rho * x + np.sqrt(1 - rho**2) * y


@pytest.mark.parametrize("n", [9, 15])
def test_fishers_interval_covers_the_true_correlation(n):
    rng = np.random.default_rng(0)
    intervals = [pearson(*pair(rng, -0.8, n)) for _ in range(300)]
    assert 0.91 < np.mean([one.low <= -0.8 <= one.high for one in intervals]) < 0.99
    assert all(one.low < one.value < one.high for one in intervals)


def test_the_interval_of_ranks_covers_their_true_correlation():
    rng, rho = np.random.default_rng(0), 0.6
    truth = 6 / np.pi * np.arcsin(rho / 2)  # Spearman's of a bivariate normal
    intervals = [spearman(*pair(rng, rho, 15)) for _ in range(300)]
    assert 0.91 < np.mean([one.low <= truth <= one.high for one in intervals]) < 0.99


def test_ranks_do_not_care_for_scale():
    x = np.arange(12.0)
    assert spearman(x, np.exp(x)).value == pytest.approx(1) and pearson(x, np.exp(x)).value < 0.8


@pytest.mark.parametrize("correlate", [pearson, spearman])
def test_what_does_not_vary_has_no_correlation(correlate):
    found = correlate(np.full(9, 0.3), np.arange(9))
    assert np.isnan([found.value, found.low, found.high]).all()


def test_the_mean_has_students_interval():
    found = mean([1.0, 2.0, 3.0])
    assert found.value == 2 and found.high - 2 == pytest.approx(4.302653 / np.sqrt(3), rel=1e-5)
    assert np.isnan(mean([1.0]).low)


def test_what_seeds_have_in_common_does_not_hide_what_configurations_do():
    """Seeds shift both figures together; within each, and between the means, configurations go the other way."""
    configurations, seeds = np.arange(9.0), np.array([[0.0], [10.0], [20.0]])
    found = nested(configurations + seeds, -configurations + seeds)
    assert found.within == pytest.approx((-1, -1, -1)) and found.over_seeds.value == pytest.approx(-1)
    assert found.of_means.value == pytest.approx(-1) and found.of_means.n == 9
    assert found.pooled.value > 0.5 and found.pooled.n == 27
    assert found.pooled.low < found.pooled.value < found.pooled.high


def test_means_over_seeds_average_noise_out():
    rng = np.random.default_rng(0)
    x = np.linspace(0, 1, 9) + rng.normal(0, 0.6, (8, 9))
    found = nested(x, np.linspace(1, 0, 9) + np.zeros((8, 9)))
    assert found.of_means.value < found.pooled.value < 0 and found.over_seeds.n == 8
    assert found.over_seeds.low < found.over_seeds.value < found.over_seeds.high < 0


def test_a_measure_without_values_has_no_correlation():
    found = nested(np.full((3, 9), np.nan), np.random.default_rng(0).random((3, 9)))
    assert np.isnan([found.of_means.value, found.pooled.value, found.over_seeds.value]).all()
