"""Learners of labels alone: which of the student's classes, or which mix of them, is each of the teacher's.

They change nothing in the student and see nothing of an image but what the student says of it, so they cost next to
nothing, and learn a new naming of old classes from a handful of images.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from hf_infodist.coding import PricedTargets
from hf_infodist.mixture import kl_nats
from hf_infodist.outputs import Rows

_LEAST_LOG_PROB = -30.0  # of a student that is certain: one image must not rule a permutation out for ever
_BALANCED = 1e-3  # largest error of a row sum at which Sinkhorn's iteration ends
_MOST_ITERATIONS = 50
_PROOF_NATS = 7.0  # about ln 1000, as unlikely as another order is where the names agree: less may be chance
_GROWTH = 1.05  # beliefs are worked out anew when the images have grown by this factor: at first, at each


class _LabelLearner:
    """What both share: they read the student's outputs, and learn image by image."""

    costs_gradients = False
    image_by_image = True

    def __init__(self, logits: Rows):
        self.logits = logits  # [k, S]

    def stop(self) -> None:
        """Free nothing."""

    def _log_probs(self, start: int, end: int) -> Tensor:
        logits = torch.from_numpy(np.array(self.logits[start:end], dtype=np.float64))
        return torch.log_softmax(logits, dim=-1)  # [n, S]


class ClassMap(_LabelLearner):
    """Predicts ``Σ_s p_A(s|x) T[s, c]`` and learns T, the teacher's mean output where the student says s.

    Each row of T has a Dirichlet prior worth ``prior_images``, so a class costs about what it takes to see it once.

    Args:
        logits: The student's own outputs, ``[k, S]``.
        num_classes: C, the teacher's classes.
    """

    name = "map"
    prior_images = 0.03  # .03, .1, .3 and 1 were tried: the less, the cheaper

    def __init__(self, logits: Rows, num_classes: int):
        super().__init__(logits)
        self.counts = torch.full((logits.shape[1], num_classes), self.prior_images / num_classes, dtype=torch.float64)

    def predict(self, start: int, end: int) -> Tensor:
        """Return log-probabilities for images ``[start, end)``, ``[n, C]``."""
        probs = self._log_probs(start, end).exp()
        return (probs / self.counts.sum(1) @ self.counts).log()

    def learn(self, start: int, end: int, priced: PricedTargets) -> int:
        """Count what the teacher said where the student said s."""
        self.counts += self._log_probs(start, end).exp().T @ priced[start:end].exp()
        return 0

    def state_dict(self) -> dict[str, Any]:
        """Return the counts."""
        return {"counts": self.counts}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a checkpoint."""
        self.counts = state["counts"]


class Permutation(_LabelLearner):
    """Predicts what the student says with its classes in another order, and learns the order.

    A permutation π has the likelihood ``exp Σ_i Σ_c q_i(c) log p_A(π(c)|x_i)``. The prediction is the mean over the
    posterior of all permutations, with Sinkhorn's doubly stochastic matrix in place of its marginals; so a copy with
    permuted classes costs about ln C! nats, as the first image of each class costs the logarithm of the number of
    classes not yet met. Half of the prior is on the classes as they are.

    Args:
        logits: The student's own outputs, ``[k, C]``.
        as_they_are: The student's class for each of the teacher's, by name or by number.
    """

    name = "permuted"

    def __init__(self, logits: Rows, as_they_are: Sequence[int]):
        super().__init__(logits)
        self.as_they_are = tuple(as_they_are)
        classes = len(self.as_they_are)
        self.evidence = torch.zeros(classes, classes, dtype=torch.float64)  # [teacher's, student's]
        self.belief = torch.full_like(self.evidence, 1 / classes)  # marginals of the posterior
        self.balance = torch.zeros(classes, dtype=torch.float64)  # Sinkhorn's column potentials
        self.hypothesis_nats = torch.zeros(2, dtype=torch.float64)  # of the classes as they are, and permuted
        self.image_nats = torch.zeros(logits.shape[0], dtype=torch.float64)
        self.images = self.next_belief = 0

    def predict(self, start: int, end: int) -> Tensor:
        """Return log-probabilities for images ``[start, end)``, ``[n, C]``."""
        return self._mix(self._hypotheses(start, end))

    def learn(self, start: int, end: int, priced: PricedTargets) -> int:
        """Weigh the permutations by how well they explain the new images."""
        revealed, hypotheses = priced[start:end], self._hypotheses(start, end)
        self.image_nats[start:end] = kl_nats(revealed, self._mix(hypotheses))
        self.hypothesis_nats += kl_nats(revealed, hypotheses).sum(1)
        self.evidence += revealed.exp().T @ self._log_probs(start, end).clamp_min(_LEAST_LOG_PROB)
        self.images += end - start
        if self.images >= self.next_belief:
            self._balance()
            self.next_belief = max(self.images + 1, round(self.images * _GROWTH))
        return 0

    def rows(self) -> tuple[int, ...]:
        """Return the student's class for each of the teacher's that is most likely (Hungarian method)."""
        if self.hypothesis_nats[0] <= self.hypothesis_nats[1] + _PROOF_NATS:
            return self.as_they_are
        _, rows = linear_sum_assignment(self.evidence.numpy(), maximize=True)
        return tuple(int(row) for row in rows)

    def _hypotheses(self, start: int, end: int) -> Tensor:
        """Return both hypotheses' log-probabilities, ``[2, n, C]``."""
        log_probs = self._log_probs(start, end)
        permuted = (log_probs.exp() @ self.belief.T).log()
        return torch.stack([log_probs[:, list(self.as_they_are)], permuted])

    def _mix(self, hypotheses: Tensor) -> Tensor:
        weights = torch.log_softmax(-self.hypothesis_nats, dim=0)
        return torch.logsumexp(weights[:, None, None] + hypotheses, dim=0)

    def _balance(self) -> None:
        """Scale rows and columns of ``exp(evidence)`` to sums of 1 (Sinkhorn & Knopp 1967), from where it stood."""
        for _ in range(_MOST_ITERATIONS):
            scaled = self.evidence + self.balance
            scaled = scaled - torch.logsumexp(scaled, dim=1, keepdim=True)
            columns = torch.logsumexp(scaled, dim=0)
            self.balance = self.balance - columns
            self.belief = (scaled - columns).exp()
            if (self.belief.sum(1) - 1).abs().max() < _BALANCED:
                return

    def state_dict(self) -> dict[str, Any]:
        """Return the evidence and what was made of it."""
        return {name: getattr(self, name) for name in _PERMUTATION_STATE}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a checkpoint."""
        for name in _PERMUTATION_STATE:
            setattr(self, name, state[name])


_PERMUTATION_STATE = ("evidence", "belief", "balance", "hypothesis_nats", "image_nats", "images", "next_belief")
