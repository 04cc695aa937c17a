"""Measures of transferability against other ways to compute them, and what each of them cannot see."""

import math

import numpy as np
import pytest
from scipy import optimize, stats
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import KFold, LeaveOneOut, cross_val_predict
from sklearn.neighbors import KNeighborsClassifier

from hf_infodist.baselines import transfer
from hf_infodist.baselines.result import Inapplicable
from hf_infodist.baselines.transfer import MEASURES, NEIGHBOURS, scores

RNG = np.random.default_rng(0)
LABELS = RNG.integers(3, size=60)
SCALES = np.array([1, 2, 0.5, 4, 1.5])
FEATURES = (RNG.normal(size=(60, 5)) + 1.5 * np.eye(5)[LABELS] + 3) * SCALES
PROBABILITIES = RNG.dirichlet(np.ones(4), size=60) * 0.4 + 0.6 * np.eye(4)[(LABELS + RNG.integers(2, size=60)) % 4]
NOISE = RNG.normal(size=(60, 5)) * SCALES


def standardised(features):
    return (features - features.mean(0)) / features.std(0)


def read(name):
    return FEATURES if MEASURES[name].reads == "features" else PROBABILITIES


def test_knn_is_leave_one_out():
    ranks = np.arange(NEIGHBOURS)
    votes = KNeighborsClassifier(NEIGHBOURS, weights=lambda distances: 1 + 2.0 ** -(4 + ranks + 0 * distances))
    expected = cross_val_predict(votes, standardised(FEATURES), LABELS, cv=LeaveOneOut())
    assert transfer.knn(FEATURES, LABELS) == (expected == LABELS).mean()


def test_a_linear_probe_never_sees_what_it_is_scored_on():
    hits = []
    for train, test in KFold(5, shuffle=True, random_state=0).split(FEATURES):
        mean, scale = FEATURES[train].mean(0), FEATURES[train].std(0)
        probe = LogisticRegression(max_iter=2000).fit((FEATURES[train] - mean) / scale, LABELS[train])
        hits.extend(probe.predict((FEATURES[test] - mean) / scale) == LABELS[test])
    assert transfer.linear_probe(FEATURES, LABELS) == pytest.approx(np.mean(hits))


def log_evidence(logs, features, y):
    alpha, beta = np.exp(logs)
    covariance = np.eye(len(y)) / beta + features @ features.T / alpha
    return stats.multivariate_normal.logpdf(y, np.zeros(len(y)), covariance)


@pytest.mark.parametrize("width", [5, 90])
def test_logme_is_the_maximum_of_the_evidence(width):
    mixed = FEATURES @ np.random.default_rng(1).normal(size=(5, width)) if width > 5 else FEATURES
    features = mixed + np.random.default_rng(2).normal(size=(60, width))
    best = []
    for label in range(3):
        y = (label == LABELS).astype(float)
        found = optimize.minimize(
            lambda logs, y=y: -log_evidence(logs, features, y), (0.0, 0.0), method="Nelder-Mead",
            options={"xatol": 1e-6, "fatol": 1e-9, "maxiter": 2000},
        )  # fmt: skip
        best.append(-found.fun / len(y))
    assert transfer.logme(features, LABELS) == pytest.approx(np.mean(best), abs=1e-6)


def test_h_score_is_the_trace_of_explicit_covariances():
    between = np.zeros((5, 5))
    for label in range(3):
        away = FEATURES[label == LABELS].mean(0) - FEATURES.mean(0)
        between += (label == LABELS).mean() * np.outer(away, away)
    expected = np.trace(np.linalg.inv(np.cov(FEATURES.T, bias=True)) @ between)
    assert transfer.h_score(FEATURES, LABELS) == pytest.approx(expected)


def test_the_shrunk_h_score_shrinks_as_ledoit_and_wolf_do():
    centred, k = FEATURES - FEATURES.mean(0), len(FEATURES)
    covariance = centred.T @ centred / k
    target = np.trace(covariance) / 5 * np.eye(5)
    spread = sum(np.sum((np.outer(row, row) - covariance) ** 2) for row in centred) / k**2
    share = spread / np.sum((covariance - target) ** 2)
    assert 0.05 < share < 0.95
    between = np.zeros((5, 5))
    for label in range(3):
        away = centred[label == LABELS].mean(0)
        between += (label == LABELS).mean() * np.outer(away, away)
    expected = np.trace(np.linalg.inv((1 - share) * covariance + share * target) @ ((1 - share) * between))
    assert transfer.h_score_shrunk(FEATURES, LABELS) == pytest.approx(expected)


def test_leep_is_its_formula_in_loops():
    k, total = len(LABELS), 0.0
    for i in range(k):
        inner = 0.0
        for z in range(4):
            same = sum(PROBABILITIES[j, z] for j in range(k) if LABELS[j] == LABELS[i])
            inner += same / sum(PROBABILITIES[j, z] for j in range(k)) * PROBABILITIES[i, z]
        total += math.log(inner)
    assert transfer.leep(PROBABILITIES, LABELS) == pytest.approx(total / k)


def test_nce_is_the_joint_entropy_less_that_of_the_source():
    z = PROBABILITIES.argmax(1)
    joint = np.unique(np.stack([z, LABELS]), axis=1, return_counts=True)[1]
    own = np.unique(z, return_counts=True)[1]
    assert transfer.nce(PROBABILITIES, LABELS) == pytest.approx(stats.entropy(own) - stats.entropy(joint))


def test_what_says_all_of_the_labels_scores_as_high_as_can_be():
    certain = np.eye(3)[LABELS]
    assert transfer.leep(certain, LABELS) == transfer.nce(certain, LABELS) == 0
    assert transfer.knn(certain, LABELS) == transfer.linear_probe(certain, LABELS) == 1
    assert transfer.h_score(certain, LABELS) == pytest.approx(2)


@pytest.mark.parametrize("name", MEASURES)
def test_noise_scores_less(name):
    noise = NOISE if MEASURES[name].reads == "features" else np.full((60, 4), 0.25)
    assert MEASURES[name].compute(noise, LABELS) < MEASURES[name].compute(read(name), LABELS)


@pytest.mark.parametrize("name", MEASURES)
def test_names_and_order_of_labels_and_images_do_not_matter(name):
    compute, order = MEASURES[name].compute, np.random.default_rng(1).permutation(60)
    value = compute(read(name), LABELS)
    assert compute(read(name), np.array([7, 2, 9])[LABELS]) == pytest.approx(value)
    if name != "linear probe":  # whose folds are drawn by place
        assert compute(read(name)[order], LABELS[order]) == pytest.approx(value)


ROTATION = np.linalg.qr(np.random.default_rng(3).normal(size=(5, 5)))[0]
CHANGES = {
    "rotation": lambda x: x @ ROTATION,
    "shift": lambda x: x + np.arange(5.0),
    "scale": lambda x: 100 * x,
    "scales": lambda x: x * np.array([1, 5, 0.1, 10, 2]),
}
BLIND = {
    "kNN": {"shift", "scale", "scales"},
    "linear probe": {"shift", "scale", "scales"},
    "LogME": {"rotation", "scale"},
    "H-score": {"rotation", "shift", "scale", "scales"},
    "shrunk H-score": {"rotation", "shift", "scale"},
}


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("name", BLIND)
def test_changes_of_the_features_matter_where_they_are_not_declared(name, change):
    compute = MEASURES[name].compute
    before, after = compute(FEATURES, LABELS), compute(CHANGES[change](FEATURES), LABELS)
    if change in BLIND[name]:
        assert after == pytest.approx(before, rel=1e-6)
    else:
        assert abs(after - before) > 1e-4


@pytest.mark.parametrize("name", MEASURES)
def test_one_class_is_refused(name):
    with pytest.raises(Inapplicable, match="one label"):
        MEASURES[name].compute(read(name), np.zeros(60, int))


def test_what_does_not_apply_is_left_empty():
    found = scores(FEATURES[:5], None, LABELS[:5])
    assert found["kNN"] is found["LEEP"] is found["NCE"] is None and found["LogME"] is not None
    assert scores(FEATURES, PROBABILITIES, LABELS).keys() == MEASURES.keys()


def test_features_wider_than_the_images_are_many_and_constant_ones_are_finite():
    wide = np.hstack([FEATURES, np.ones((60, 3)), np.random.default_rng(4).normal(size=(60, 100))])
    assert all(np.isfinite(value) for value in scores(wide, PROBABILITIES, LABELS).values())
    flat = scores(np.zeros((60, 5)), PROBABILITIES, LABELS)
    assert flat["H-score"] == 0 and flat["shrunk H-score"] is None
