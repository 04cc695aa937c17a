"""How much of what standard errors promise holds over repeated samples: 68 % within one, 95 % within two."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from hf_infodist.results.difference import ERRORS, Difference


def coverage(found: Sequence[Sequence[Difference]]) -> dict[str, float]:
    """Return how often differences are within their errors of their mean over samples, and how large errors are.

    A sample is part of the mean that it is held against, which narrows its distance from that by √(1 - 1/samples).

    Args:
        found: Each difference in every sample, ``[differences][samples]``; two samples at least.
    """
    nats, errors = (np.array([[getattr(one, name) for one in row] for row in found]) for name in vars(found[0][0]))
    samples = nats.shape[1]
    away = abs(nats - nats.mean(1, keepdims=True)) / (errors * np.sqrt(1 - 1 / samples))
    return {
        "within one error": float(np.mean(away <= 1)),
        "within two errors": float(np.mean(away <= ERRORS)),
        "error / spread over samples": float(np.sqrt((errors**2).mean(1).sum() / nats.var(1, ddof=1).sum())),
    }


def exchanged(prices: NDArray[np.float64], seed: int = 0) -> NDArray[np.float64]:
    """Return samples whose i-th image each is the i-th of any of the samples, the same one for all models.

    No price then depends on another of its sample, and all else is as before: what errors cover now, they would cover
    if images cost the same whatever was learnt before.

    Args:
        prices: ``[samples, ..., images]``.
        seed: Of the exchange.
    """
    rng = np.random.default_rng(seed)
    columns = (prices[rng.permutation(len(prices)), ..., image] for image in range(prices.shape[-1]))
    return np.stack(list(columns), axis=-1)
