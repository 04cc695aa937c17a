"""Measures of features against independent implementations, and where features are few, huge, tiny or flat."""

import tracemalloc

import numpy as np
import pytest
from scipy.linalg import orthogonal_procrustes
from scipy.optimize import linear_sum_assignment
from scipy.spatial import procrustes
from scipy.spatial.distance import cdist, cosine, euclidean, pdist, squareform
from scipy.stats import pearsonr

from hf_infodist.baselines import Inapplicable, representation

CKAS = [representation.linear_cka, representation.debiased_cka]
OF_ANY_WIDTH = [
    *CKAS,
    representation.procrustes,
    representation.rsa,
    representation.knn_jaccard,
    representation.second_order_cosine,
]


def features(k=60, width_a=8, width_b=8, seed=0, common=5):
    """Rectified features with something in common, as those of two networks have."""
    rng = np.random.default_rng(seed)
    latent = rng.standard_normal((k, common))
    a, b = (latent @ rng.standard_normal((common, width)) + 0.3 for width in (width_a, width_b))
    return np.maximum(a, 0), np.maximum(b, 0)


def centred_gram(x):
    """Gram matrix of centred features by way of the centring matrix."""
    k = len(x)
    centring = np.eye(k) - np.full((k, k), 1 / k)
    return centring @ (x @ x.T) @ centring


def unbiased_hsic(x, y):
    """Song et al.'s estimator, from Gram matrices without their diagonals."""
    k, one = len(x), np.ones(len(x))
    gram_x, gram_y = (z @ z.T - np.diag((z**2).sum(1)) for z in (x, y))
    middle = (one @ gram_x @ one) * (one @ gram_y @ one) / ((k - 1) * (k - 2))
    return (np.trace(gram_x @ gram_y) + middle - 2 / (k - 2) * (one @ gram_x @ gram_y @ one)) / (k * (k - 3))


def neighbours(x):
    distances = cdist(x, x, "cosine")
    np.fill_diagonal(distances, np.inf)
    return [set(row[:10]) for row in distances.argsort(1).tolist()]


def test_l2_and_cosine_are_means_over_images():
    a, b = features()
    a = a + 0.1
    rows = list(zip(a, b + 0.1, strict=True))
    assert representation.l2(a, b + 0.1) == pytest.approx(np.mean([euclidean(x, y) for x, y in rows]))
    assert representation.cosine(a, b + 0.1) == pytest.approx(np.mean([1 - cosine(x, y) for x, y in rows]))


def test_emd_is_the_best_assignment_of_units():
    a, b = features()
    cost = cdist(a.T, b.T)
    assert representation.emd(a, b) == pytest.approx(cost[linear_sum_assignment(cost)].mean())


@pytest.mark.parametrize("width", [8, 13])
def test_linear_cka_is_the_alignment_of_centred_gram_matrices(width):
    a, b = features(width_b=width)
    gram_a, gram_b = centred_gram(a), centred_gram(b)
    expected = np.trace(gram_a @ gram_b) / (np.linalg.norm(gram_a) * np.linalg.norm(gram_b))
    assert representation.linear_cka(a, b) == pytest.approx(expected)


@pytest.mark.parametrize("k", [5, 60])
def test_debiased_cka_is_made_of_unbiased_hsic(k):
    a, b = features(k, width_b=13)
    expected = unbiased_hsic(a, b) / np.sqrt(unbiased_hsic(a, a) * unbiased_hsic(b, b))
    assert representation.debiased_cka(a, b) == pytest.approx(expected)


def test_unrelated_features_fool_linear_cka_on_few_images_but_not_the_debiased_form():
    rng = np.random.default_rng(0)
    pairs = [(rng.standard_normal((20, 100)), rng.standard_normal((20, 100))) for _ in range(50)]
    assert np.mean([representation.linear_cka(*pair) for pair in pairs]) > 0.5
    assert abs(np.mean([representation.debiased_cka(*pair) for pair in pairs])) < 0.02


def test_procrustes_agrees_with_scipy():
    a, b = features()
    *_, disparity = procrustes(a, b)  # 1 − ‖aᵀ b‖_*²
    assert representation.procrustes(a, b) == pytest.approx(2 - 2 * np.sqrt(1 - disparity))


def test_procrustes_of_unequal_widths_is_that_of_features_padded_with_zeros():
    a, b = features(width_b=13)
    x, y = (z - z.mean(0) for z in (np.pad(a, ((0, 0), (0, 5))), b))
    x, y = x / np.linalg.norm(x), y / np.linalg.norm(y)
    rotation, _ = orthogonal_procrustes(x, y)
    assert representation.procrustes(a, b) == pytest.approx(((x @ rotation - y) ** 2).sum())


@pytest.mark.parametrize("width", [8, 13])
def test_rsa_is_the_correlation_of_dissimilarities(width):
    a, b = features(width_b=width)
    a, b = a + 0.1, b + np.arange(width)  # no flat rows, on which scipy divides by zero
    expected = pearsonr(pdist(a, "correlation"), pdist(b, "correlation")).statistic
    assert representation.rsa(a, b) == pytest.approx(expected)


def test_knn_jaccard_counts_common_neighbours():
    a, b = features(width_b=13, seed=1)
    a, b = a + 0.1, b + 0.1
    expected = np.mean([len(x & y) / len(x | y) for x, y in zip(neighbours(a), neighbours(b), strict=True)])
    assert 0.1 < expected < 0.9
    assert representation.knn_jaccard(a, b) == pytest.approx(expected)


def test_second_order_cosine_compares_similarities_to_the_union_of_neighbours():
    a, b = features(width_b=13, seed=1)
    a, b = a + 0.1, b + 0.1
    similar_a, similar_b = (1 - squareform(pdist(x, "cosine")) for x in (a, b))
    unions = [sorted(x | y) for x, y in zip(neighbours(a), neighbours(b), strict=True)]
    expected = np.mean([1 - cosine(similar_a[i, union], similar_b[i, union]) for i, union in enumerate(unions)])
    assert representation.second_order_cosine(a, b) == pytest.approx(expected)


@pytest.mark.parametrize("k", range(2, 13))
@pytest.mark.parametrize("width", [1, 3, 50])
@pytest.mark.parametrize("cka", CKAS)
def test_cka_of_a_small_batch_is_a_number_or_has_a_reason(cka, width, k):
    a, b = features(k, width, width, seed=k)
    try:
        value = cka(a, b)
    except Inapplicable as reason:
        assert str(reason)
    else:
        assert -1 - 1e-9 <= value <= 1 + 1e-9
        assert cka is representation.debiased_cka or value >= 0


@pytest.mark.parametrize("measure", OF_ANY_WIDTH)
@pytest.mark.parametrize(("scale", "dtype"), [(1e-35, "f4"), (1e35, "f4"), (1e-150, "f8"), (1e150, "f8")])
def test_scale_of_features_neither_overflows_nor_matters(measure, scale, dtype):
    a, b = features()
    scaled = (a.astype(dtype) * np.array(scale, dtype), b.astype(dtype))
    assert measure(*scaled) == pytest.approx(measure(a, b), rel=1e-4 if dtype == "f4" else 1e-9)


@pytest.mark.parametrize("cka", CKAS)
def test_units_far_from_zero_do_not_drown_the_others(cka):
    a, b = features()
    assert cka(a + 1e6 * np.arange(8), b) == pytest.approx(cka(a, b), rel=1e-6)


@pytest.mark.parametrize("measure", [*CKAS, representation.procrustes, representation.rsa])
@pytest.mark.parametrize("constant", [0.0, 0.1, 1e30])
def test_features_of_one_value_have_a_reason_instead_of_a_number(measure, constant):
    a, b = features(k=7)
    with pytest.raises(Inapplicable):
        measure(a, np.full_like(b, constant))


def test_images_that_are_all_equally_far_apart_have_a_reason():
    a, _ = features(k=8)
    with pytest.raises(Inapplicable, match="equally far"):
        representation.debiased_cka(a, np.eye(8))
    assert 0 < representation.linear_cka(a, np.eye(8)) <= 1


def test_a_dead_unit_changes_nothing():
    a, b = features()
    dead = np.hstack([a, np.full((len(a), 1), 0.1)])
    for measure in (*CKAS, representation.procrustes):
        assert measure(dead, b) == pytest.approx(measure(a, b))


def test_an_image_without_active_features_counts_zero():
    a = np.array([[3.0, 4.0], [0.0, 0.0]])
    assert representation.cosine(a, a) == 0.5


@pytest.mark.parametrize("measure", [representation.emd, *OF_ANY_WIDTH])
def test_memory_grows_with_images_not_with_pairs_of_them(measure):
    a, b = features(k=8000, width_b=12)
    tracemalloc.start()
    measure(a, b)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 8000 * 8000  # an eighth of a matrix of pairs
