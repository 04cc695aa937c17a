"""Learning what the student's classes are called, from a few images."""

import math

import numpy as np
import pytest
import torch
from scipy.special import logsumexp

from hf_infodist.coding.label_learners import ClassMap, Permutation
from hf_infodist.coding.nats import kl_nats
from hf_infodist.coding.targets import Targets


def model(k=400, classes=6, seed=0, sure=8.0, wrong=0.1):
    """Logits of a student that is sure of the right class in most images, and of a teacher of the same function."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, 1, (k, classes))
    logits[np.arange(k), rng.integers(0, classes, k)] += sure
    return logits, logits + wrong * rng.normal(0, 1, (k, classes))


def image_nats(learner, teacher):
    """Price image by image, as the coding does."""
    targets, nats = Targets(teacher), []
    for i in range(len(teacher)):
        prediction = learner.code(i, i + 1, targets.shown(slice(i, i + 1)))
        assert torch.logsumexp(prediction, -1).item() == pytest.approx(0, abs=1e-9)
        nats.append(kl_nats(targets.soft(slice(i, i + 1)), prediction).item())
    return np.array(nats)


@pytest.mark.parametrize("classes", [3, 10, 25])
def test_a_permutation_costs_about_the_logarithm_of_their_number(classes):
    logits, teacher = model(k=300, classes=classes)
    order = np.roll(np.arange(classes), 1)
    known = image_nats(Permutation(logits, range(classes)), teacher).sum()
    learner = Permutation(logits, range(classes))
    learnt = image_nats(learner, teacher[:, order]).sum()
    assert 0.5 * math.lgamma(classes + 1) < learnt - known < math.lgamma(classes + 1) + 3
    assert learner.rows() == tuple(order)


def test_belief_is_the_posterior_of_all_permutations():
    """Sinkhorn's matrix against the sum over all 4! permutations after a few images: the same, but less decided."""
    from itertools import permutations

    logits, teacher = model(k=4, classes=4, sure=3.0)
    learner = Permutation(logits, range(4))
    image_nats(learner, teacher[:, [2, 0, 3, 1]])
    orders = np.array(list(permutations(range(4))))
    evidence = learner.evidence.numpy()[np.arange(4), orders].sum(1)
    posterior = np.exp(evidence - logsumexp(evidence))
    exact = np.array([[posterior[orders[:, c] == s].sum() for s in range(4)] for c in range(4)])
    assert np.abs(learner.belief.numpy() - exact).max() < 0.25
    assert (learner.belief.numpy().argmax(1) == exact.argmax(1)).all()
    assert np.allclose(learner.belief.sum(0), 1, atol=1e-9) and np.allclose(learner.belief.sum(1), 1, atol=2e-3)


def test_classes_as_they_are_cost_a_single_bit():
    logits, teacher = model()
    static = (
        kl_nats(Targets(teacher).soft(slice(0, 400)), torch.log_softmax(torch.from_numpy(logits), -1)).sum().item()
    )
    learner = Permutation(logits, range(6))
    assert image_nats(learner, teacher).sum() < static + math.log(2)
    assert learner.rows() == tuple(range(6))


def test_map_learns_coarse_classes():
    """Six classes of the student are two of the teacher: a map needs each of the six once, no permutation exists."""
    logits, _ = model(k=1500)
    probs = np.exp(logits - logsumexp(logits, axis=1, keepdims=True))
    coarse = np.log(np.stack([probs[:, [0, 2, 5]].sum(1), probs[:, [1, 3, 4]].sum(1)], 1))
    nats = image_nats(ClassMap(logits, 2), coarse)
    assert nats[:6].sum() > 1 and nats[-750:].sum() < 6 and nats.sum() < 6 * math.log(2) + 12


def test_map_matches_its_closed_form_for_a_student_that_is_certain():
    classes = np.random.default_rng(0).integers(0, 3, 200)
    labels = (classes + (np.arange(200) % 10 == 0)) % 3
    with np.errstate(divide="ignore"):
        logits, teacher = np.log(np.eye(3)[classes]), np.log(np.eye(3)[labels])
    expected, counts = 0.0, np.full((3, 3), ClassMap.prior_images / 3)
    for s, c in zip(classes, labels, strict=True):
        expected -= math.log(counts[s, c] / counts[s].sum())
        counts[s, c] += 1
    assert image_nats(ClassMap(logits, 3), teacher).sum() == pytest.approx(expected, rel=1e-9)


MAKERS = [lambda x: ClassMap(x, 6), lambda x: ClassMap(x, 6, most_counts=0), lambda x: Permutation(x, range(6))]


def coded(make, logits, teacher, ends=(400,)):
    """Predictions, in tiles."""
    learner, targets, start, found = make(logits), Targets(teacher), 0, []
    for end in ends:
        found.append(learner.code(start, end, targets.shown(slice(start, end))))
        start = end
    return torch.cat(found)


@pytest.mark.parametrize("make", MAKERS, ids=["map", "map without counts", "permuted"])
def test_tiles_change_nothing(make):
    logits, teacher = model()
    teacher = teacher[:, [3, 1, 0, 5, 4, 2]]
    whole = coded(make, logits, teacher)
    for ends in ((1, 2, 30, 400), (128, 256, 400), tuple(range(1, 401))):
        assert torch.allclose(coded(make, logits, teacher, ends), whole, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("make", MAKERS, ids=["map", "map without counts", "permuted"])
def test_no_target_is_read_before_its_prediction(make):
    logits, teacher = model(k=120)
    teacher = teacher[:, [3, 1, 0, 5, 4, 2]]
    before = coded(make, logits, teacher, (50, 120))
    for i in (0, 17, 49, 50, 118):
        changed = teacher.copy()
        changed[i] = changed[i, ::-1]
        after = coded(make, logits, changed, (50, 120))
        assert torch.equal(before[: i + 1], after[: i + 1])
        assert i > 20 or not torch.equal(before[i + 1 :], after[i + 1 :])  # later one image hardly counts


def test_a_map_is_the_same_without_its_table_of_counts():
    logits, teacher = model()
    with_counts, without = (coded(make, logits, teacher, (100, 400)) for make in MAKERS[:2])
    assert torch.allclose(with_counts, without, rtol=1e-12, atol=1e-13)


def test_a_column_too_small_for_its_exponential_is_balanced_in_logarithms():
    logits, teacher = model(classes=4, sure=400.0)
    learner = Permutation(logits, range(4))
    image_nats(learner, teacher[:, [2, 0, 3, 1]])
    learner.evidence = torch.diag(torch.full((4,), 1e4, dtype=torch.float64)) - torch.tensor([0.0, 0, 0, 9e3])
    learner.balance = torch.zeros(4, dtype=torch.float64)
    learner._balance()
    assert torch.allclose(learner.belief, torch.eye(4, dtype=torch.float64), atol=1e-3)
