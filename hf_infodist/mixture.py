"""Bayes' rule over learners, with fixed share, in log space."""

import math

import torch
from torch import Tensor


class Mixture:
    """A weighted mixture of ``J`` predictors under expected log-loss.

    KL to a soft target is 1-exp-concave in the prediction, so the Bayesian mixture pays at most
    ``min_j [Σ_i KL(q_i ‖ p_ji) + ln 1/w_j]`` nats. Fixed share (Herbster & Warmuth 1998) with rate ``1/(i+1)``
    also lets it follow a change of the best learner.

    Args:
        prior: Weight of each learner before the first image, ``[J]``; normalised here.
        switching: Whether to apply fixed share after each image.
    """

    def __init__(self, prior: list[float], switching: bool = False):
        weights = torch.tensor(prior, dtype=torch.float64)
        self.log_prior = (weights / weights.sum()).log()  # [J]
        self.log_weights = self.log_prior.clone()  # [J]
        self.switching = switching
        self.images = 0

    def code(self, log_probs: Tensor, losses: Tensor) -> Tensor:
        """Predict each image of a block from the weights of its moment, then update them image by image.

        Args:
            log_probs: Every learner's prediction, ``[J, n, C]``.
            losses: Nats every learner loses on what is revealed of each image, ``[J, n]``.

        Returns:
            Log-probabilities of the mixture, ``[n, C]``.
        """
        moments = self._advance(losses)  # [n, J]
        mixed = torch.logsumexp(moments.T[:, :, None] + log_probs, dim=0)
        agreed = (log_probs == log_probs[0]).all(dim=0)  # kept to the bit, so that identity costs exactly nothing
        return torch.where(agreed, log_probs[0], mixed)

    def keep(self, kept: list[int]) -> None:
        """Go on with some of the learners; the weight of the others is shared out in proportion."""
        self.log_prior = torch.log_softmax(self.log_prior[kept], dim=0)
        self.log_weights = torch.log_softmax(self.log_weights[kept], dim=0)

    def _advance(self, losses: Tensor) -> Tensor:
        moments = []
        for loss in losses.T:
            moments.append(self.log_weights)
            posterior = torch.log_softmax(self.log_weights - loss, dim=0)
            self.log_weights = self._share(posterior) if self.switching else posterior
            self.images += 1
        return torch.stack(moments)

    def _share(self, log_posterior: Tensor) -> Tensor:
        """Move ``1/(i+1)`` of the mass back to the prior: an unlikely learner stays as unlikely as it began."""
        rate = 1 / (self.images + 2)
        return torch.logaddexp(log_posterior + math.log1p(-rate), self.log_prior + math.log(rate))
