"""Measures in representation space: penultimate features of two models, ``[k, D_A]`` and ``[k, D_B]``, image by image.

Nothing is larger than the features, a matrix ``[D_A, D_B]``, or a few numbers per image.
"""

import math

import numpy as np
from numpy.typing import NDArray

from hf_infodist.baselines.result import Inapplicable
from hf_infodist.baselines.transport import transport_cost

Features = NDArray[np.floating]
NEIGHBOURS = 10
_FLAT = 1e-12  # what is left of a difference that is zero but for round-off, relative to its terms


def l2(a: Features, b: Features) -> float:
    """Return mean_i ‖f_A(x_i) − f_B(x_i)‖, appendix B.1.

    Raises:
        Inapplicable: If D_A ≠ D_B.
    """
    a, b = _equally_wide(a, b)
    return float(np.linalg.norm(a - b, axis=1).mean())


def cosine(a: Features, b: Features) -> float:
    """Return mean_i cos(f_A(x_i), f_B(x_i)), appendix B.1; an image without any active feature counts 0.

    Raises:
        Inapplicable: If D_A ≠ D_B.
    """
    a, b = _equally_wide(a, b)
    return float(_cosines(a, b).mean())


def emd(a: Features, b: Features) -> float:
    """Return what it costs to move the units of A onto those of B, appendix B.1.

    min_P ⟨P, M⟩ with M_mn = ‖f_A,m − f_B,n‖: a unit is the vector of its activations on the ``k`` images.

    Raises:
        Inapplicable: If POT is not installed.
    """
    return transport_cost(a.T, b.T)


def linear_cka(a: Features, b: Features) -> float:
    """Return linear centred kernel alignment (Kornblith et al. 2019), of centred features.

    ‖f_Bᵀ f_A‖² / (‖f_Aᵀ f_A‖ ‖f_Bᵀ f_B‖). With fewer images than features it is near 1 whatever the models are.

    Raises:
        Inapplicable: If the features of a model are the same for all images.
    """
    a, b = _centred(a), _centred(b)
    return _product(a, b) / math.sqrt(_product(a, a) * _product(b, b))


def debiased_cka(a: Features, b: Features) -> float:
    """Return linear CKA with the unbiased estimator of HSIC (Song et al. 2012; Nguyen et al. 2021).

    Its expectation is about 0 for unrelated features, however few the images; it may be negative.

    Raises:
        Inapplicable: If there are fewer than 4 images, or all of them are equally far apart for a model.
    """
    if len(a) < 4:
        raise Inapplicable("needs at least 4 images")
    a, b = _centred(a), _centred(b)
    norm_a, norm_b = _unbiased(a, a), _unbiased(b, b)
    if norm_a <= _FLAT * _product(a, a) or norm_b <= _FLAT * _product(b, b):
        raise Inapplicable("all images are equally far apart in the features of a model")
    return _unbiased(a, b) / math.sqrt(norm_a * norm_b)


def procrustes(a: Features, b: Features) -> float:
    """Return the squared distance that the best rotation of the features leaves (Schönemann 1966; Ding et al. 2021).

    min_Q ‖f_A Q − f_B‖² = 2 − 2 ‖f_Aᵀ f_B‖_*, of features centred and scaled to norm 1; from 0 to 2.

    Raises:
        Inapplicable: If the features of a model are the same for all images.
    """
    a, b = (x / np.linalg.norm(x) for x in (_centred(a), _centred(b)))
    return max(0.0, 2 - 2 * float(np.linalg.norm(a.T @ b, "nuc")))


def rsa(a: Features, b: Features) -> float:
    """Return the correlation of representational dissimilarities (Kriegeskorte et al. 2008).

    Pearson's r, over pairs i ≠ j of images, of 1 − corr(f_A(x_i), f_A(x_j)) with the same of B. Its sums over pairs
    follow from matrices ``[D, D]``: Σ_ij (a_i · a_j)(b_i · b_j) = ‖aᵀ b‖².

    Raises:
        Inapplicable: If there are fewer than 3 images, or all pairs of them are equally alike for a model.
    """
    if len(a) < 3:
        raise Inapplicable("needs at least 3 images")
    a, b = (_unit_rows(_centred_rows(x)) for x in (a, b))
    variance_a, variance_b = _covariance_of_pairs(a, a), _covariance_of_pairs(b, b)
    if min(variance_a, variance_b) <= _FLAT:
        raise Inapplicable("all pairs of images are equally alike in the features of a model")
    return _covariance_of_pairs(a, b) / math.sqrt(variance_a * variance_b)


def knn_jaccard(a: Features, b: Features) -> float:
    """Return how far the models agree on the nearest images: mean_i |N_A(i) ∩ N_B(i)| / |N_A(i) ∪ N_B(i)|.

    N(i) are the 10 images nearest to image i by cosine (mutual k-NN; Klabunde et al. 2023).

    Raises:
        Inapplicable: If every image is among the nearest of every other.
    """
    common = (_nearest(a)[:, :, None] == _nearest(b)[:, None, :]).sum((1, 2))
    return float((common / (2 * NEIGHBOURS - common)).mean())


def second_order_cosine(a: Features, b: Features) -> float:
    """Return how far the models agree on *how* near the nearest images are (Hamilton et al. 2016).

    mean_i cos(s_A, s_B), where s holds the cosines between image i and the images in N_A(i) ∪ N_B(i).

    Raises:
        Inapplicable: If every image is among the nearest of every other.
    """
    nearest_a, nearest_b = _nearest(a), _nearest(b)
    others = np.hstack([nearest_a, nearest_b])  # [k, 2 * NEIGHBOURS]
    counted_twice = (nearest_b[:, :, None] == nearest_a[:, None, :]).any(2)
    once = np.hstack([np.ones_like(counted_twice), ~counted_twice])
    return float(_cosines(_similarities(a, others) * once, _similarities(b, others) * once).mean())


def _equally_wide(a: Features, b: Features) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    if a.shape[1] != b.shape[1]:
        raise Inapplicable(f"A has {a.shape[1]} features, B has {b.shape[1]}")
    return np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)


def _centred(features: Features) -> NDArray[np.float64]:
    """Subtract the mean over images and scale to at most 1; constant features become exactly zero."""
    centred = np.asarray(features, dtype=np.float64) - features[0]
    largest = np.abs(centred).max()
    if largest == 0:
        raise Inapplicable("the features of a model are the same for all images")
    centred /= largest
    return centred - centred.mean(0)


def _unit_rows(features: Features) -> NDArray[np.float64]:
    """Scale each row to norm 1; rows of zeros stay."""
    features = np.asarray(features, dtype=np.float64)
    largest = np.abs(features).max(1, keepdims=True)
    features = features / np.where(largest > 0, largest, 1.0)  # squares neither overflow nor vanish
    norm = np.linalg.norm(features, axis=1, keepdims=True)
    return features / np.where(norm > 0, norm, 1.0)


def _centred_rows(features: Features) -> NDArray[np.float64]:
    """Subtract the mean over features; rows of one value become exactly zero."""
    centred = np.asarray(features, dtype=np.float64) - features[:, :1]
    return centred - centred.mean(1, keepdims=True)


def _cosines(a: Features, b: Features) -> NDArray[np.float64]:
    return np.einsum("kd,kd->k", _unit_rows(a), _unit_rows(b))


def _similarities(features: Features, others: NDArray[np.integer]) -> NDArray[np.float64]:
    """Return the cosine between each image and each of its others, of which there are ``[k, n]``."""
    unit = _unit_rows(features)
    return np.stack([np.einsum("kd,kd->k", unit, unit[column]) for column in others.T], axis=1)


def _product(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    """Return ‖aᵀ b‖², the sum over all pairs of images of (a_i · a_j)(b_i · b_j)."""
    return float(np.square(a.T @ b).sum())


def _unbiased(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    """Return k (k − 3) times the unbiased HSIC of centred features.

    Of a kernel whose diagonal is set to zero, the rows then sum to minus that diagonal.
    """
    k = len(a)
    own_a, own_b = np.square(a).sum(1), np.square(b).sum(1)
    return (
        _product(a, b)
        - k / (k - 2) * float(own_a @ own_b)
        + float(own_a.sum() * own_b.sum()) / ((k - 1) * (k - 2))
    )  # fmt: skip


def _covariance_of_pairs(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    """Return the covariance of a_i · a_j and b_i · b_j over pairs i ≠ j, of rows of norm 1 (or 0)."""
    pairs = len(a) * (len(a) - 1)
    own_a, own_b = np.square(a).sum(1), np.square(b).sum(1)
    mean_a, mean_b = ((np.square(x.sum(0)).sum() - own.sum()) / pairs for x, own in ((a, own_a), (b, own_b)))
    return float((_product(a, b) - own_a @ own_b) / pairs - mean_a * mean_b)


def _nearest(features: Features) -> NDArray[np.integer]:
    """Return the nearest other images of each image by cosine, ``[k, NEIGHBOURS]``."""
    from sklearn.neighbors import NearestNeighbors

    if len(features) < NEIGHBOURS + 2:
        raise Inapplicable(f"needs at least {NEIGHBOURS + 2} images")
    search = NearestNeighbors(n_neighbors=NEIGHBOURS, algorithm="brute").fit(_unit_rows(features))
    return search.kneighbors(return_distance=False)
