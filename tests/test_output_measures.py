"""Measures of outputs against scipy's."""

import numpy as np
import pytest
from scipy.spatial.distance import jensenshannon
from scipy.special import log_softmax, softmax
from scipy.stats import entropy

from hf_infodist.baselines import output


@pytest.fixture(scope="module", params=[7, 1500])
def logits(request):
    """Logits of two models on fewer and on more images than are in memory at once."""
    rng = np.random.default_rng(0)
    return tuple((3 * rng.standard_normal((request.param, 11))).astype(np.float32) for _ in range(2))


def probabilities(logits):
    return [softmax(x.astype(np.float64), axis=1) for x in logits]


def test_kl_is_the_mean_relative_entropy_of_a_to_b(logits):
    p, q = probabilities(logits)
    assert output.kl_divergence(*logits) == pytest.approx(np.mean([entropy(x, y) for x, y in zip(p, q, strict=True)]))


def test_jensen_shannon_is_the_square_of_scipys_distance(logits):
    p, q = probabilities(logits)
    assert output.jensen_shannon(*logits) == pytest.approx((jensenshannon(p, q, axis=1) ** 2).mean())


def test_disagreement_counts_first_choices(logits):
    first, second = (x.argmax(1).tolist() for x in logits)
    assert output.disagreement(*logits) == sum(x != y for x, y in zip(first, second, strict=True)) / len(first)


def test_opposite_certainty_is_finite():
    a, b = np.array([[1e4, 0.0]]), np.array([[0.0, 1e4]])
    assert output.kl_divergence(a, b) == pytest.approx(-log_softmax(b, axis=1)[0, 0])
    assert output.jensen_shannon(a, b) == pytest.approx(np.log(2))
    assert output.disagreement(a, b) == 1.0
