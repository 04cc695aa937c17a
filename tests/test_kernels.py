"""Closed-form learners against independent implementations, and what must not change their numbers."""

import numpy as np
import pytest
import torch
from scipy.spatial.distance import cdist
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import RBF, ConstantKernel
from sklearn.kernel_ridge import KernelRidge
from sklearn.preprocessing import StandardScaler

from hf_infodist.coding import kernels
from hf_infodist.coding.features import FEATURES, Distances
from hf_infodist.coding.kernels import Factors, Kernel, Regression, flattened
from hf_infodist.outputs.arrays import Outputs
from hf_infodist.outputs.layers import Layer

K, WIDTH, TARGETS = 90, 6, 4
LAYERS = (Layer("a", 3, 4), Layer("b", 5, 1), Layer("c", 2, 2), Layer("d", 7, 1), Layer("e", 1, 1))
KERNEL = Kernel("penultimate", 0.3, 0.02)


def made(k=K, seed=0):
    """Outputs of a student that was never run."""
    rng = np.random.default_rng(seed)
    hidden = rng.normal(size=(k, 5))

    def layer(width):
        return np.tanh(hidden @ rng.normal(size=(5, width))) + 0.1 * rng.normal(size=(k, width))

    values = np.concatenate([layer(each.values) for each in LAYERS], axis=1)
    return Outputs(None, layer(4), layer(WIDTH), values, LAYERS, "key")


@pytest.fixture(scope="module")
def outputs():
    return made()


@pytest.fixture(scope="module")
def targets(outputs):
    """What a teacher says: a smooth function of what the student sees."""
    rng = np.random.default_rng(1)
    return torch.from_numpy(np.sin(outputs.features @ rng.normal(size=(WIDTH, TARGETS))))


def predictions(outputs, targets, kernel=KERNEL, tiles=(K,)):
    regression, found, start = Regression(Factors(outputs, [kernel]), kernel, targets.shape[1]), [], 0
    for end in (*tiles[:-1], len(targets)):
        found.append(regression.code(start, end, targets[start:end]))
        start = end
    return tuple(torch.cat(parts) for parts in zip(*found, strict=True))


def gram(features, kernel=KERNEL):
    units = StandardScaler().fit_transform(features)
    return np.exp(-kernel.gamma * cdist(units, units, "sqeuclidean") / units.shape[1]) + 1


def test_each_image_is_predicted_as_by_ridge_regression_refitted_on_all_before_it(outputs, targets):
    means, covariance = predictions(outputs, targets)[0].numpy(), gram(outputs.features)
    assert np.array_equal(means[0], np.zeros(TARGETS))
    for i in range(1, K):
        ridge = KernelRidge(alpha=KERNEL.noise, kernel="precomputed").fit(covariance[:i, :i], targets[:i].numpy())
        assert means[i] == pytest.approx(ridge.predict(covariance[i : i + 1, :i])[0], rel=1e-9, abs=1e-11)


def test_variances_are_those_of_a_gaussian_process(outputs, targets):
    _, variances, scales = predictions(outputs, targets)
    units = StandardScaler().fit_transform(outputs.features)
    length = (WIDTH / (2 * KERNEL.gamma)) ** 0.5
    prior = RBF(length, "fixed") + ConstantKernel(1.0, "fixed")
    whitened = []
    for i in (1, 17, 60, K - 1):
        process = GaussianProcessRegressor(prior, alpha=KERNEL.noise, optimizer=None).fit(
            units[:i], targets[:i].numpy()
        )
        _, deviation = process.predict(units[i : i + 1], return_std=True)
        assert variances[i].item() == pytest.approx(float(np.ravel(deviation)[0]) ** 2, rel=1e-7)
    means = predictions(outputs, targets)[0]
    whitened = (targets - means).square().sum(1) / (variances + KERNEL.noise)
    assert scales[0] == 0
    assert scales[20].item() == pytest.approx(whitened[:20].sum().item() / (20 * TARGETS), rel=1e-9)


def test_tiles_change_nothing(outputs, targets):
    whole = predictions(outputs, targets)
    for tiles in ((1, 2, 3, 50, K), tuple(range(1, K + 1)), (64, K)):
        for one, other in zip(whole, predictions(outputs, targets, tiles=tiles), strict=True):
            assert torch.allclose(one, other, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("landmarks", [kernels.LANDMARKS, 40])
def test_no_target_is_read_before_its_prediction(outputs, targets, landmarks, monkeypatch):
    monkeypatch.setattr(kernels, "LANDMARKS", landmarks)
    before = predictions(outputs, targets, tiles=(16, 48, K))
    for i in (0, 15, 16, 47, 48, 70, K - 1):
        changed = targets.clone()
        changed[i] += 100
        after = predictions(outputs, changed, tiles=(16, 48, K))
        assert all(torch.equal(a[: i + 1], b[: i + 1]) for a, b in zip(before, after, strict=True))
        assert i == K - 1 or not torch.equal(before[0][i + 1 :], after[0][i + 1 :])


def test_beyond_the_landmarks_images_are_seen_through_their_kernel_with_these(outputs, targets, monkeypatch):
    """Against the subset-of-regressors posterior, written out with dense matrices (Quiñonero-Candela & Rasmussen)."""
    monkeypatch.setattr(kernels, "LANDMARKS", 30)
    means = predictions(outputs, targets, tiles=(20, 55, K))[0].numpy()
    full = gram(outputs.features)
    low_rank = full[:, :30] @ np.linalg.solve(full[:30, :30], full[:30])
    for i in (30, 31, 54, 55, 80, K - 1):
        weights = np.linalg.solve(low_rank[:i, :i] + KERNEL.noise * np.eye(i), targets[:i].numpy())
        assert means[i] == pytest.approx(low_rank[i, :i] @ weights, rel=1e-4, abs=1e-5)
    monkeypatch.undo()
    exact = predictions(outputs, targets)[0]
    assert np.allclose(means[:30], exact[:30], rtol=1e-9, atol=1e-12)


def test_distances_are_those_of_standardised_features(outputs):
    distances = Distances(outputs).between(slice(0, K), slice(0, K))
    assert tuple(sorted(distances)) == tuple(sorted(FEATURES))
    for name, features in (("penultimate", outputs.features), ("logits", outputs.logits)):
        units = StandardScaler().fit_transform(features)
        assert np.allclose(distances[name], cdist(units, units, "sqeuclidean") / units.shape[1], atol=1e-11)
    units = StandardScaler().fit_transform(outputs.values[:, 48:53])  # of the second of five layers
    assert np.allclose(distances["second"], cdist(units, units, "sqeuclidean") / 5, atol=1e-11)
    quarters = [distances[name] for name in ("first", "second", "third", "last")]
    sizes = torch.tensor([1, 1, 1, 2])
    assert torch.allclose(distances["all"], sum(n * d for n, d in zip(sizes, quarters, strict=True)) / 5)


def test_order_scale_and_offset_of_units_change_no_distance(outputs):
    rng = np.random.default_rng(2)
    values, first = outputs.values.copy(), 0
    for layer in LAYERS:
        part = values[:, first : first + layer.values].reshape(K, layer.channels, -1)
        part = part[:, rng.permutation(layer.channels)] * rng.choice([-30, 0.01, 7], (1, layer.channels, 1)) + 5
        values[:, first : first + layer.values] = part.reshape(K, -1)
        first += layer.values
    features = outputs.features[:, ::-1] * 1e3
    twin = Outputs(None, outputs.logits, features, values, LAYERS, "key")
    one, other = (Distances(each).between(slice(0, 20), slice(0, K)) for each in (outputs, twin))
    for name in FEATURES:
        assert torch.allclose(one[name], other[name], rtol=1e-9, atol=1e-10), name


def test_units_that_never_vary_are_left_out(outputs):
    layers = (*LAYERS, Layer("dead", 2, 1))
    values = np.concatenate([outputs.values, np.full((K, 2), 3.7) + 1e-9 * outputs.values[:, :2]], axis=1)
    twin = Outputs(None, outputs.logits, np.c_[outputs.features, np.zeros(K)], values, layers, "key")
    one, other = (Distances(each).between(slice(0, K), slice(0, K)) for each in (outputs, twin))
    for name in FEATURES:
        assert torch.allclose(one[name], other[name], rtol=1e-12, atol=1e-12)


def test_features_that_never_vary_leave_a_learnt_mean(targets):
    nothing = np.zeros((K, 1))
    means, variances, _ = predictions(Outputs(None, nothing, nothing, nothing, (Layer("a", 1, 1),), ""), targets + 3)
    assert means.isfinite().all() and variances.isfinite().all()
    assert torch.allclose(means[-1], (targets[:-1] + 3).sum(0) / (K - 1 + KERNEL.noise / 2))


@pytest.mark.parametrize("landmarks", [kernels.LANDMARKS, 40])
def test_threads_change_nothing(outputs, targets, landmarks, monkeypatch):
    monkeypatch.setattr(kernels, "LANDMARKS", landmarks)
    before, found = torch.get_num_threads(), []
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            found.append(predictions(outputs, targets)[0])
    finally:
        torch.set_num_threads(before)
    assert torch.allclose(*found, rtol=1e-9, atol=1e-12)


def test_what_is_uncertain_is_said_less_loudly():
    logits = torch.tensor([[4.0, 0.0], [4.0, 0.0], [4.0, 0.0]], dtype=torch.float64)
    flat = flattened(logits, torch.tensor([0.0, 1.0, 1.0]), torch.tensor([9.0, 0.0, 9.0]))
    assert torch.equal(flat[:2], logits[:2])
    assert flat[2].tolist() == pytest.approx([4 / (1 + np.pi / 8 * 9) ** 0.5, 0])
