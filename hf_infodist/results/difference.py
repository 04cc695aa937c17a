"""Differences of codelengths of the same images, paired image by image: what is hard for all cancels."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from typing import Self

import numpy as np
from numpy.typing import NDArray

from hf_infodist.results.codelength import stderr_of_sum

ERRORS = 2.0  # standard errors within which nothing is said to differ
NEW = 50  # images, the first, that cost much for being new; what they teach is saved on later ones

Prices = NDArray[np.float64]


@dataclass(frozen=True)
class Difference:
    """How much more the same images cost one way than another.

    Attributes:
        nats: The difference.
        stderr_nats: Its standard error over the draw of the images; NaN of a single one.
    """

    nats: float
    stderr_nats: float

    @classmethod
    def of(cls, prices: Prices, others: Prices, orders: int = 1, new: int = 0) -> Self:
        """Return how much more some images cost than the same images cost otherwise.

        Args:
            prices: Nats of each image, ``[n]``.
            others: Nats of the same images, ``[n]``.
            orders: In how many orders of the same images each price is the mean: these lower no error over the draw
                of the images, though they smooth the prices.
            new: So many of the first images, at most a quarter, are taken to vary like the others.
        """
        apart = prices - others
        return cls(math.fsum(apart), math.sqrt(orders) * stderr_of_sum(apart, min(new, len(apart) // 4)))

    @property
    def tied(self) -> bool:
        """Whether it may be chance."""
        return abs(self.nats) <= self.smallest_nats or self.nats == 0

    @property
    def smallest_nats(self) -> float:
        """The smallest difference that would count: two standard errors."""
        return ERRORS * self.stderr_nats


def difference_of_distances(
    ways: Sequence[Prices], others: Sequence[Prices], orders: int = 1, new: int = NEW
) -> Difference:
    """Return how much larger one distance is than another: ``max_i Σ ways_i - max_j Σ others_j``.

    The larger directions of both are paired image by image. Where another direction may be the larger one just as
    well, being tied with it, the error is the largest of those that the pairings give: so it does not depend on which
    direction chance has made the larger. Errors are told without the first 50 images, or the first quarter of fewer
    than 200: what is dear because a student has not seen the like saves on what comes later, so sums of prices vary
    less than these would make believe. What they cover is measured by ``infodist study paired_errors``.

    Args:
        ways: Both directions of the one distance, nats of each image, ``[n]`` each.
        others: Both directions of the other, of the same images.
        orders: As in `Difference.of`.
        new: Likewise.
    """
    first, *rest = product(_possibly_larger(ways, orders, new), _possibly_larger(others, orders, new))
    found = Difference.of(*first, orders, new)
    errors = [found.stderr_nats, *(Difference.of(*pairing, orders, new).stderr_nats for pairing in rest)]
    return Difference(found.nats, max(errors))


def _possibly_larger(ways: Sequence[Prices], orders: int, new: int) -> list[Prices]:
    """Return the directions that may be the larger one, the one that is first."""
    larger, *rest = sorted(ways, key=math.fsum, reverse=True)
    return [larger, *(way for way in rest if Difference.of(larger, way, orders, new).tied)]
