"""Kin are told from strangers: seldom where nobody is, by a chance that is what it says, and never by few models."""

import numpy as np
import pytest
from scipy.stats import t

from hf_infodist.analysis.direction import tell_direction
from hf_infodist.analysis.kinship import ALPHA, FEWEST, MARGIN, compare_with_strangers, holm


def strangers(n, seed, noise=0.1):
    """Distances of n models, each at a level of its own, none of which is related to another."""
    rng = np.random.default_rng(seed)
    level, e = rng.normal(2, 0.4, n), np.triu(rng.normal(0, noise, (n, n)), 1)
    return np.exp(level[:, None] + level + e + e.T)


def related(distances, *pairs, by=1.0):
    """The same, where some pairs are nearer by a factor e^by."""
    d = distances.copy()
    for i, j in pairs:
        d[i, j] = d[j, i] = d[i, j] * np.exp(-by)
    return d


def by_definition(p):
    """Holm (1979): reject the smallest as long as each is at most α over how many are left; the least such α."""
    m, order = len(p), sorted(range(len(p)), key=lambda i: p[i])
    return [min(1, max((m - rank) * p[j] for rank, j in enumerate(order) if rank <= order.index(i))) for i in range(m)]


@pytest.mark.parametrize("seed", range(4))
def test_holm_is_what_its_definition_says(seed):
    p = np.random.default_rng(seed).uniform(0, 0.3, 9)
    np.testing.assert_allclose(holm(p), by_definition(list(p)))
    rejected = set(np.flatnonzero(holm(p) <= ALPHA))
    left, stepwise = list(np.argsort(p)), set()
    while left and p[left[0]] <= ALPHA / len(left):
        stepwise.add(left.pop(0))
    assert rejected == stepwise


def test_chance_is_that_of_the_pair_against_a_fit_without_it():
    n, (i, j) = 7, (2, 5)
    d = strangers(n, 0, noise=0.05)
    first, second = np.triu_indices(n, 1)
    others = (first != i) | (second != j)
    design = np.eye(n)[first] + np.eye(n)[second]
    levels, squares, rank, _ = np.linalg.lstsq(design[others], np.log(d[first, second])[others])
    new, dof = np.eye(n)[i] + np.eye(n)[j], others.sum() - rank
    error = np.sqrt(squares[0] / dof * (1 + new @ np.linalg.inv(design[others].T @ design[others]) @ new))
    found = compare_with_strangers(d)
    assert found.expected[i, j] == pytest.approx(np.exp(new @ levels))
    excess = np.log(d[i, j]) - new @ levels
    assert found.chance[i, j] == pytest.approx(t.cdf((excess + MARGIN) / error, dof))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("n", "margin", "most"), [(7, MARGIN, 0.02), (7, 0.0, 0.1), (12, MARGIN, 0.02), (12, 0.0, 0.1)]
)
def test_among_strangers_any_kin_is_seldom_named(n, margin, most):
    runs = [compare_with_strangers(strangers(n, seed), margin=margin) for seed in range(150)]
    assert np.mean([found.kin.any() for found in runs]) <= most  # 5 %, and what 150 runs leave open
    chances = np.concatenate([found.chance[np.triu_indices(n, 1)] for found in runs])
    if margin == 0:
        assert np.mean(chances < 0.05) == pytest.approx(0.05, abs=0.02)


@pytest.mark.parametrize("seed", range(3))
def test_planted_kin_are_found_and_nobody_else(seed):
    pairs = [(0, 1), (0, 2), (1, 2), (5, 6)]  # a tree of three and one of two
    found = compare_with_strangers(related(strangers(11, seed), *pairs, by=1.2))
    assert {(int(i), int(j)) for i, j in np.argwhere(found.kin) if i < j} == set(pairs)
    assert set(found.strangers) == {8}  # groups of kin count once


def test_kin_do_not_hide_one_another():
    tree = [(i, j) for i in range(5) for j in range(i)]  # ten of 66 pairs
    assert compare_with_strangers(related(strangers(12, 3), *tree, by=1.5)).kin.sum() == 2 * len(tree)


def test_with_few_models_nothing_is_said():
    d = related(strangers(FEWEST - 1, 0), (0, 1), by=5)
    found = compare_with_strangers(d)
    assert not found.told.any() and not found.kin.any() and np.isnan(found.chance).all()
    kin = compare_with_strangers(related(strangers(FEWEST, 0, noise=0.01), (0, 1), by=3))
    assert not kin.kin.any() and not kin.told.any()  # five of which two are one family are four


def test_two_of_one_architecture_are_nearer_and_no_kin():
    d = related(strangers(14, 1), *[(i, j) for i in range(7) for j in range(i)], by=0.9)
    families = ["vgg"] * 7 + ["vit"] * 7
    assert not compare_with_strangers(d, families).kin.any()
    few = np.delete(np.delete(d, range(2, 7), 0), range(2, 7), 1)  # two vgg among seven vit
    assert not compare_with_strangers(few, families[5:]).kin.any()
    assert compare_with_strangers(few).kin[0, 1]  # who does not know the architectures takes them for kin


def test_units_and_order_change_nothing():
    d = related(strangers(9, 2), (3, 4), by=1)
    order = np.random.default_rng(0).permutation(9)
    found, moved = compare_with_strangers(d), compare_with_strangers(7 * d[np.ix_(order, order)])
    np.testing.assert_allclose(moved.adjusted, found.adjusted[np.ix_(order, order)], rtol=1e-6)
    np.testing.assert_allclose(moved.expected, 7 * found.expected[np.ix_(order, order)], rtol=1e-6)


def test_of_the_reference_nothing_is_asked():
    d = related(strangers(9, 2), (3, 4), (7, 8), by=1)
    given = np.arange(9) < 5
    found = compare_with_strangers(d, asked=given[:, None] | given)
    assert found.kin[3, 4] and not found.kin[7, 8] and np.isnan(found.adjusted[7, 8])
    alone = compare_with_strangers(d)
    assert found.adjusted[3, 4] < alone.adjusted[3, 4]  # there are fewer pairs to correct for


def test_a_child_is_the_worse_start_for_strangers():
    rng = np.random.default_rng(0)
    nats = np.exp(rng.normal(4, 0.2, (8, 1)) + rng.normal(0, 0.02, (8, 8)))
    nats[:, 0] *= 1.3
    others = range(2, 8)
    assert (tell_direction(nats, 0, 1, others), tell_direction(nats, 1, 0, others)) == ("from", "to")
    assert tell_direction(nats, 2, 3, [4, 5, 6, 7]) == "unknown"
    assert tell_direction(nats, 0, 1, [2, 3, 4]) == "unknown"  # three others are too few
