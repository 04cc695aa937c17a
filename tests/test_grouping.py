"""Scores of grouping: 1 for who knows the truth, chance for who knows nothing, and what others compute."""

from itertools import permutations

import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import average_precision_score, roc_auc_score

from hf_infodist.studies.measures.grouping import (
    Pairs,
    average_precision,
    chance_precision,
    conformity,
    group_scores,
    rank_correlation,
    run_conformity,
)

GROUPS = [group for group in range(5) for _ in range(5)]
PAIRS = Pairs.of(GROUPS)
ONCE = np.ones((1, 25), dtype=int)


def noise(seed, n=25):
    values = np.random.default_rng(seed).uniform(1, 2, (n, n))
    return values + values.T


def grouped(near, far):
    groups = np.array(GROUPS)
    return np.where(groups[:, None] == groups, near, far)


def test_perfect_groups_have_one_and_the_opposite_has_nothing_but_what_its_share_gives():
    precision, conforming = group_scores(grouped(0.1, 5) + noise(0) / 10, PAIRS, ONCE)
    assert precision == conforming == 1
    precision, conforming = group_scores(grouped(5, 0.1) + noise(0) / 10, PAIRS, ONCE)
    assert conforming == 0 and precision < chance_precision(10, 100)


def test_noise_has_what_chance_has():
    scores = np.array([group_scores(noise(seed), PAIRS, ONCE) for seed in range(200)])[..., 0]
    precision, conforming = scores.mean(0)
    assert precision == pytest.approx(chance_precision(10, 100), abs=0.006)
    assert conforming == pytest.approx(0.5, abs=0.01)
    assert 10 / 110 < chance_precision(10, 100) < 0.13


def test_chance_is_the_mean_over_all_orders():
    orders = set(permutations([1, 1, 0, 0, 0]))
    mean = np.mean([average_precision_score(order, [5, 4, 3, 2, 1]) for order in orders])
    assert chance_precision(2, 3) == pytest.approx(mean, abs=1e-12)


@pytest.mark.parametrize("seed", range(4))
def test_precision_is_that_of_scikit_learn_and_conformity_the_area_under_roc_with_and_without_ties(seed):
    rng = np.random.default_rng(seed)
    within, weights = np.arange(40) < 10, rng.integers(1, 4, (3, 40)).astype(float)
    for distances in (rng.normal(size=40), rng.integers(0, 6, 40).astype(float)):
        for row, found in zip(weights, average_precision(distances, within, weights), strict=True):
            assert found == pytest.approx(average_precision_score(within, -distances, sample_weight=row))
    untied = rng.permutation(40).astype(float)
    for row, found in zip(weights, conformity(untied, within, weights), strict=True):
        assert found == pytest.approx(roc_auc_score(within, -untied, sample_weight=row))


def test_of_equal_distances_none_conforms():
    within = np.array([True, False, False])
    assert conformity(np.ones(3), within, np.ones((1, 3)))[0] == 0
    assert average_precision(np.ones(3), within, np.ones((1, 3)))[0] == pytest.approx(1 / 3)


@pytest.mark.parametrize("ties", [False, True])
def test_rank_correlation_is_that_of_repeated_pairs(ties):
    rng = np.random.default_rng(1)
    x, y = (rng.integers(0, 7, 30).astype(float) if ties else rng.normal(size=30) for _ in range(2))
    weights = rng.integers(0, 4, (5, 30))
    found = rank_correlation(x, y, weights.astype(float))
    for row, value in zip(weights, found, strict=True):
        repeated = np.repeat(np.arange(30), row)
        assert value == pytest.approx(stats.spearmanr(x[repeated], y[repeated]).statistic)


def test_a_constant_has_no_rank_correlation_and_a_draw_of_one_network_alone_no_score():
    assert np.isnan(rank_correlation(np.ones(6), np.arange(6.0), np.ones((1, 6)))[0])
    assert np.isnan(rank_correlation(np.arange(6.0), np.arange(6.0), np.zeros((1, 6)))[0])
    scores = group_scores(noise(0, 6), Pairs.of([0, 0, 0, 1, 1, 1]), np.array([[3, 0, 0, 1, 1, 1]]))
    assert np.isnan(scores).all()


def test_a_network_that_is_drawn_twice_is_no_pair_with_itself():
    pairs = Pairs.of([0, 0, 0, 1, 1, 1])
    matrix = noise(3, 6)
    twice = np.array([[2, 1, 0, 1, 1, 1]])
    repeated = np.repeat(np.arange(6), twice[0])
    others = [(a, b) for i, a in enumerate(repeated) for b in repeated[i + 1 :] if a != b]
    expected = []
    for group in (0, 1):
        inside = [int(a // 3 == group) + int(b // 3 == group) for a, b in others]
        chosen = [(pair, number == 2) for pair, number in zip(others, inside, strict=True) if number]
        expected.append(average_precision_score([within for _, within in chosen], [-matrix[p] for p, _ in chosen]))
    assert group_scores(matrix, pairs, twice)[0] == pytest.approx(np.mean(expected))


def test_draws_keep_the_size_of_each_group_and_follow_their_seed():
    counts = PAIRS.draw(50, seed=1)
    assert (counts.reshape(50, 5, 5).sum(2) == 5).all() and len(np.unique(counts, axis=0)) == 50
    assert np.array_equal(counts, PAIRS.draw(50, seed=1)) and not np.array_equal(counts, PAIRS.draw(50, seed=2))


def test_what_does_not_apply_has_no_score():
    matrix = noise(0)
    matrix[0, 1] = matrix[1, 0] = np.nan
    assert np.isnan(group_scores(matrix, PAIRS, ONCE)).all() and np.isnan(run_conformity(matrix))


def test_a_run_along_a_line_conforms_and_one_that_returns_does_not():
    place = np.array([0.0, 1, 3, 4])
    assert run_conformity(abs(place[:, None] - place)) == 1
    assert run_conformity(10 - abs(place[:, None] - place)) == 0
    circle = np.array([0.0, 1, 2, 0.5])  # the last comes back
    assert 0 < run_conformity(abs(circle[:, None] - circle)) < 1
    assert np.mean([run_conformity(noise(seed, 5)) for seed in range(200)]) == pytest.approx(0.5, abs=0.03)
