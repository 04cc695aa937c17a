"""Learners of labels alone: which of the student's classes, or which mix of them, is each of the teacher's.

They change nothing in the student and see nothing of an image but what the student says of it, so they cost next to
nothing, and learn a new naming of old classes from a handful of images.
"""

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from hf_infodist.coding.nats import kl_nats
from hf_infodist.outputs.arrays import Rows

MOST_PERMUTED = 4096  # classes; their evidence is a square matrix
LEAST_LOG_PROB = -30.0  # of a student that is certain: one image must not rule a permutation out for ever
_BALANCED = 1e-3  # largest error of a row sum at which Sinkhorn's iteration ends
_MOST_ITERATIONS = 50
_PROOF_NATS = 7.0  # about ln 1000, as unlikely as another order is where the names agree: less may be chance
_GROWTH = 1.05  # beliefs are worked out anew when the images have grown by this factor: at first, at each
_COARSE_GROWTH, _MANY = 1.25, 128  # and by this one where there are more classes than so many
_LEAST = 1e-100  # of a column's largest: smaller ones are balanced in logarithms, which is slower
_MOST_COUNTS = 2**22  # numbers in a table of classes by classes; beyond, counts are worked out from the images


class _LabelLearner:
    """What both share: they read the student's outputs, and learn image by image."""

    costs_gradients = False
    one_by_one = True

    def __init__(self, logits: Rows):
        self.logits = logits  # [k, S]

    def _log_probs(self, start: int, end: int) -> Tensor:
        logits = torch.from_numpy(np.array(self.logits[start:end], dtype=np.float64))
        return torch.log_softmax(logits, dim=-1)  # [n, S]


class ClassMap(_LabelLearner):
    """Predicts ``Σ_s p_A(s|x) T[s, c]`` and learns T, the teacher's mean output where the student says s.

    Each row of T has a Dirichlet prior worth ``prior_images``, so a class costs about what it takes to see it once.
    T is linear in what was seen, so where it is too large to be kept, its products with the images' outputs are.

    Args:
        logits: The student's own outputs, ``[k, S]``.
        num_classes: C, the teacher's classes.
        most_counts: Numbers in T up to which it is kept; does not change the prediction.
    """

    name = "map"
    prior_images = 0.03  # .03, .1, .3 and 1 were tried: the less, the cheaper

    def __init__(self, logits: Rows, num_classes: int, most_counts: int = _MOST_COUNTS):
        super().__init__(logits)
        classes = logits.shape[1]
        self.num_classes = num_classes
        self.totals = torch.full((classes,), self.prior_images, dtype=torch.float64)  # [S]
        self.counts: Tensor | None = None
        if classes * num_classes <= most_counts:
            self.counts = torch.zeros(classes, num_classes, dtype=torch.float64)
        self._seen: list[Tensor] = []  # of the teacher, where there are no counts

    def code(self, start: int, end: int, shown: Tensor) -> Tensor:
        """Predict images one after the other; return log-probabilities, ``[n, C]``."""
        probs, teacher = self._log_probs(start, end).exp(), shown.exp()
        before = torch.cat([self.totals[None], probs]).cumsum(0)  # [n + 1, S]
        shares = probs / before[:-1]
        predicted = shares.sum(1, keepdim=True) * (self.prior_images / self.num_classes)
        predicted = predicted + self._from_past(shares, start) + (shares @ probs.T).tril(-1) @ teacher
        self.totals = before[-1]
        if self.counts is None:
            self._seen.append(teacher)
        else:
            self.counts += probs.T @ teacher
        return predicted.log()

    def _from_past(self, shares: Tensor, start: int) -> Tensor:
        if self.counts is not None:
            return shares @ self.counts
        total, first = torch.zeros(len(shares), self.num_classes, dtype=torch.float64), 0
        for teacher in self._seen:
            last = first + len(teacher)
            total += shares @ self._log_probs(first, last).exp().T @ teacher
            first = last
        return total


class Permutation(_LabelLearner):
    """Predicts what the student says with its classes in another order, and learns the order.

    Beliefs about the order are Sinkhorn's doubly stochastic matrix in place of its marginals; so a copy with
    permuted classes costs about ln C! nats, as the first image of each class costs the logarithm of the number of
    classes not yet met. Half of the prior is on the classes as they are.

    Args:
        logits: The student's own outputs, ``[k, C]``.
        as_they_are: The student's class for each of the teacher's, by number.
    """

    name = "permuted"

    def __init__(self, logits: Rows, as_they_are: Sequence[int]):
        super().__init__(logits)
        self.as_they_are = tuple(as_they_are)
        classes = len(self.as_they_are)
        self.growth = _GROWTH if classes <= _MANY else _COARSE_GROWTH
        self.evidence = torch.zeros(classes, classes, dtype=torch.float64)  # [teacher's, student's]
        self.belief = torch.full_like(self.evidence, 1 / classes)  # marginals of the posterior
        self.balance = torch.zeros(classes, dtype=torch.float64)  # Sinkhorn's column potentials
        self.hypothesis_nats = torch.zeros(2, dtype=torch.float64)  # of the classes as they are, and permuted
        self.image_nats = torch.zeros(logits.shape[0], dtype=torch.float64)
        self.images = self.next_belief = 0
        self.beliefs: list[tuple[int, int, Tensor]] = []  # of the last tile: its parts, and what was believed there

    def code(self, start: int, end: int, shown: Tensor) -> Tensor:
        """Predict images one after the other; return log-probabilities, ``[n, C]``."""
        self.beliefs = []
        return torch.cat([self._part(i, j, shown[i - start : j - start]) for i, j in self._parts(start, end)])

    def _parts(self, start: int, end: int) -> Iterator[tuple[int, int]]:
        """Yield ranges within which beliefs stay as they are."""
        while start < end:
            stop = min(end, max(start + 1, self.next_belief))
            yield start, stop
            start = stop

    def _part(self, start: int, end: int, shown: Tensor) -> Tensor:
        self.beliefs.append((start, end, self.belief))
        log_probs = self._log_probs(start, end)
        permuted = (log_probs.exp() @ self.belief.T).log()
        hypotheses = torch.stack([log_probs[:, list(self.as_they_are)], permuted])  # [2, n, C]
        paid = torch.cat([self.hypothesis_nats[:, None], kl_nats(shown, hypotheses)], dim=1).cumsum(1)  # [2, n + 1]
        weights = torch.log_softmax(-paid[:, :-1], dim=0)
        mixed = torch.logsumexp(weights[:, :, None] + hypotheses, dim=0)
        self.image_nats[start:end] = kl_nats(shown, mixed)
        self.hypothesis_nats, self.images = paid[:, -1], end
        self.evidence += shown.exp().T @ log_probs.clamp_min(LEAST_LOG_PROB)
        if self.images >= self.next_belief:
            self._balance()
            self.next_belief = max(self.images + 1, round(self.images * self.growth))
        return mixed

    def rows(self) -> tuple[int, ...]:
        """Return the student's class for each of the teacher's that is most likely (Hungarian method)."""
        if self.hypothesis_nats[0] <= self.hypothesis_nats[1] + _PROOF_NATS:
            return self.as_they_are
        _, rows = linear_sum_assignment(self.evidence.numpy(), maximize=True)
        return tuple(int(row) for row in rows)

    def _balance(self) -> None:
        """Scale rows and columns of ``exp(evidence)`` to sums of 1 (Sinkhorn & Knopp 1967), from where it stood."""
        scaled = self.evidence + self.balance
        kernel = (scaled - scaled.amax(1, keepdim=True)).exp()  # largest of each row 1, so no row is lost
        if kernel.amax(0).min() < _LEAST:  # but a column would be
            return self._balance_in_logs()
        matrix = kernel.numpy()  # a few small products, for which NumPy takes half of torch's time
        sums = matrix.sum(1)
        for _ in range(_MOST_ITERATIONS):
            rows = 1 / sums
            columns = 1 / (rows @ matrix)
            sums = matrix @ columns
            if np.abs(rows * sums - 1).max() < _BALANCED:
                break
        self.balance = self.balance + torch.from_numpy(np.log(columns))
        self.belief = torch.from_numpy(rows[:, None] * matrix * columns)

    def _balance_in_logs(self) -> None:
        for _ in range(_MOST_ITERATIONS):
            scaled = self.evidence + self.balance
            scaled = scaled - torch.logsumexp(scaled, dim=1, keepdim=True)
            columns = torch.logsumexp(scaled, dim=0)
            self.balance = self.balance - columns
            self.belief = (scaled - columns).exp()
            if (self.belief.sum(1) - 1).abs().max() < _BALANCED:
                return
