"""Bayes' rule over learners with fixed share, and a pool of them as one predictor more; all in log space."""

import math
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.linalg.lapack import dposv
from torch import Tensor

from hf_infodist.coding.nats import kl_nats

_LEAST_LOG_PROB = -30.0  # in a pool: keeps a learner that is certain and wrong from weighing infinitely
_STIFFNESS = 10.0  # of a pool: pseudo-observations (in nats² per unit of weight) that hold the weights


class Pool:
    """A logarithmic opinion pool, ``p ∝ Π_j p_j^θ_j``, whose exponents are learnt image by image.

    Where learners err differently, their pool predicts better than the best of them (Genest & Zidek 1986). KL is
    convex in θ; each image moves θ by one Newton step on the images so far. Learners change as they learn, so the
    i-th image counts what came before it ``1 - 2/i`` times: an image has lost three quarters when i has doubled.

    Args:
        weights: Exponents before the first image, ``[J]``; normalised here.
    """

    def __init__(self, weights: list[float]):
        first = np.array(weights, dtype=np.float64)
        self.exponents = first / first.sum()  # [J]
        self.precision = _STIFFNESS * np.eye(len(weights))  # [J, J]
        self.images = 0

    def code(self, log_probs: Tensor, shown: Tensor) -> Tensor:
        """Predict each image of a block, and learn from what is revealed of it before the next.

        Args:
            log_probs: Every learner's prediction, ``[J, n, C]``.
            shown: Log-probabilities revealed of each image, ``[n, C]``.

        Returns:
            Log-probabilities of the pool, ``[n, C]``.
        """
        clamped = log_probs.clamp_min(_LEAST_LOG_PROB).transpose(0, 1).contiguous().numpy()  # [n, J, C]
        revealed = shown.exp().numpy()
        return torch.from_numpy(np.stack([self._step(*image) for image in zip(clamped, revealed, strict=True)]))

    def _step(self, log_probs: NDArray[np.float64], revealed: NDArray[np.float64]) -> NDArray[np.float64]:
        pooled = self.exponents @ log_probs  # [C]
        pooled -= pooled.max()
        pooled -= math.log(np.exp(pooled).sum())
        probs = np.exp(pooled)
        gradient = log_probs @ (probs - revealed)  # [J]
        centred = log_probs - (log_probs @ probs)[:, None]
        hessian = (centred * probs) @ centred.T  # [J, J], of KL in the exponents
        self.images += 1
        forgotten = 2 / (self.images + 2)
        self.precision = (1 - forgotten) * self.precision + hessian
        self.precision.flat[:: len(gradient) + 1] += forgotten * _STIFFNESS
        _, step, _ = dposv(self.precision, gradient)
        self.exponents = self.exponents - step
        return pooled

    def keep(self, kept: list[int]) -> None:
        """Go on with some of the learners: the exponents that are best where those of the others are 0."""
        gone = [j for j in range(len(self.exponents)) if j not in kept]
        precision = self.precision[kept][:, kept]
        passed_on = np.linalg.solve(precision, self.precision[kept][:, gone] @ self.exponents[gone])
        self.exponents, self.precision = self.exponents[kept] + passed_on, precision


class Mixture:
    """A weighted mixture of ``J`` predictors, and of their `Pool`, under expected log-loss.

    KL to a soft target is 1-exp-concave in the prediction, so the Bayesian mixture pays at most
    ``min_j [Σ_i KL(q_i ‖ p_ji) + ln 1/w_j]`` nats. Fixed share (Herbster & Warmuth 1998) with rate ``1/(i+1)``
    also lets it follow a change of the best predictor.

    Args:
        prior: Weight of each learner before the first image, ``[J]``; normalised here.
        switching: Whether to apply fixed share after each image.
        pooling: Whether the pool of the learners takes part, with the weight of a learner of weight 1.
    """

    def __init__(self, prior: list[float], switching: bool = False, pooling: bool = False):
        self.pool = Pool(prior) if pooling else None
        weights = torch.tensor([*prior, 1.0] if pooling else prior, dtype=torch.float64)
        self.log_prior = (weights / weights.sum()).log()  # [J] or [J + 1], the pool last
        self.log_weights = self.log_prior.clone()
        self.switching = switching
        self.images = 0

    def code(self, log_probs: Tensor, shown: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Predict each image of a block from the weights of its moment, then update them image by image.

        Args:
            log_probs: Every learner's prediction, ``[J, n, C]``.
            shown: Log-probabilities revealed of each image, ``[n, C]``.

        Returns:
            Log-probabilities of the mixture, ``[n, C]``, and of all that are mixed, ``[J or J + 1, n, C]``; and the
            losses of these under what was shown, ``[J or J + 1, n]``, nats.
        """
        if self.pool:
            log_probs = torch.cat([log_probs, self.pool.code(log_probs, shown)[None]])
        losses = kl_nats(shown, log_probs)
        moments = self._advance(losses.numpy())  # [n, J]
        mixed = torch.logsumexp(torch.from_numpy(moments).T[:, :, None] + log_probs, dim=0)
        agreed = (log_probs == log_probs[0]).all(dim=0)  # kept to the bit, so that identity costs exactly nothing
        return torch.where(agreed, log_probs[0], mixed), log_probs, losses

    def keep(self, kept: list[int]) -> None:
        """Go on with some of the learners; the weight of the others is shared out in proportion."""
        if self.pool:
            self.pool.keep(kept)
            kept = [*kept, len(self.log_prior) - 1]
        self.log_prior = torch.log_softmax(self.log_prior[kept], dim=0)
        self.log_weights = torch.log_softmax(self.log_weights[kept], dim=0)

    def state_dict(self) -> dict[str, Any]:
        """Return everything that changes, for a checkpoint."""
        own = {"log_prior": self.log_prior, "log_weights": self.log_weights, "images": self.images}
        if not self.pool:
            return own
        arrays = {"exponents": self.pool.exponents, "precision": self.pool.precision}
        return own | {name: torch.from_numpy(array) for name, array in arrays.items()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a checkpoint."""
        self.log_prior, self.log_weights, self.images = state["log_prior"], state["log_weights"], state["images"]
        if self.pool:
            self.pool.exponents, self.pool.precision = state["exponents"].numpy(), state["precision"].numpy()
            self.pool.images = self.images

    def _advance(self, losses: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the logarithms of the weights before each image, ``[n, J]``, after all of which they go on."""
        advance = self._share if self.switching else self._add_up
        with np.errstate(invalid="ignore", divide="ignore"):  # of an image with no chance
            moments, log_weights = advance(losses.T, self.log_weights.numpy())
        self.log_weights = torch.from_numpy(log_weights)
        self.images += losses.shape[1]
        return moments

    def _add_up(
        self, losses: NDArray[np.float64], log_weights: NDArray[np.float64]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return the moments by Bayes' rule alone."""
        moments = log_weights - np.vstack([np.zeros(len(log_weights)), losses.cumsum(0)])
        moments -= moments.max(1, keepdims=True)
        moments -= np.log(np.exp(moments).sum(1, keepdims=True))
        return moments[:-1], moments[-1]

    def _share(
        self, losses: NDArray[np.float64], log_weights: NDArray[np.float64]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return the moments where ``1/(i+1)`` of the mass goes back to the prior after the i-th image.

        An unlikely learner stays as unlikely as it began, and no weight becomes too small for a number.
        """
        prior, weights = np.exp(self.log_prior.numpy()), np.exp(log_weights)
        moments, likelihoods = np.empty_like(losses), np.exp(losses.min(1, keepdims=True) - losses)
        for i, likelihood in enumerate(likelihoods):
            moments[i] = weights
            posterior = weights * likelihood
            rate = 1 / (self.images + i + 2)
            weights = posterior * ((1 - rate) / posterior.sum()) + rate * prior
        return np.log(moments), np.log(weights)
