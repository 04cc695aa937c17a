"""Measures in output space: what two models of one label space say, image by image, without any learning."""

import math
from collections.abc import Iterator

import torch
from torch import Tensor

from hf_infodist.coding.nats import kl_nats
from hf_infodist.coding.targets import Targets
from hf_infodist.outputs.arrays import Rows

_CHUNK = 1024  # images whose probabilities are in memory at once


def kl_divergence(a: Rows, b: Rows) -> float:
    """Return mean_i KL(f_A(x_i) ‖ f_B(x_i)), nats, appendix B.1.

    Args:
        a: Rows of A, ``[k, C]``.
        b: Rows of B, the same classes in the same order.
    """
    return _mean(kl_nats(p, q) for p, q in _log_probs(a, b))


def jensen_shannon(a: Rows, b: Rows) -> float:
    """Return the mean Jensen-Shannon divergence, nats, from 0 to ln 2 (Lin 1991).

    (KL(p ‖ m) + KL(q ‖ m)) / 2 with m = (p + q) / 2. Arguments as in `kl_divergence`.
    """

    def divergence(p: Tensor, q: Tensor) -> Tensor:
        mixed = torch.logaddexp(p, q) - math.log(2)
        return (kl_nats(p, mixed) + kl_nats(q, mixed)) / 2

    return _mean(divergence(p, q) for p, q in _log_probs(a, b))


def disagreement(a: Rows, b: Rows) -> float:
    """Return the share of images on which the most probable class differs. Arguments as in `kl_divergence`."""
    return _mean((p.argmax(-1) != q.argmax(-1)).double() for p, q in _log_probs(a, b))


def _log_probs(a: Rows, b: Rows) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield log-probabilities of both models, ``[n, C]`` in float64, a few images at a time."""
    outputs_a, outputs_b = Targets(a), Targets(b)
    for first in range(0, a.shape[0], _CHUNK):
        rows = slice(first, first + _CHUNK)
        yield outputs_a.soft(rows), outputs_b.soft(rows)


def _mean(pieces: Iterator[Tensor]) -> float:
    values = torch.cat(list(pieces))  # [k]
    return math.fsum(values.tolist()) / len(values)
