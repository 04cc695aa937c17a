"""Which of two kin was made from the other, as far as two codelengths and third models tell."""

from collections.abc import Sequence
from typing import Literal

import numpy as np

from hf_infodist.analysis.kinship import Values

Direction = Literal["from", "to", "unknown"]
FEWEST_OTHERS = 4
"""Third models below which nothing is said."""
LEAST = 0.05
"""By how much a parent is the better start for strangers, at least, in the logarithm of the codelength."""
SURE = 3.0
"""Standard errors over the strangers by which it has to be."""


def tell_direction(nats: Values, i: int, j: int, others: Sequence[int]) -> Direction:
    """Return whether model i was made ``from`` j, or j from it: ``to``; ``unknown`` where that cannot be told.

    A model that was made from another for a purpose of its own is the worse start for strangers. The two codelengths
    between i and j say nothing more: what is left of their difference once is known how dear each is to learn and how
    good a start for others is noise (see the study).

    Args:
        nats: ``[n, n]``, L'(teacher | student).
        i: A model.
        j: Its kin.
        others: Models that are kin of neither.
    """
    if len(others) < FEWEST_OTHERS:
        return "unknown"
    worse = np.log(nats[list(others), i]) - np.log(nats[list(others), j])
    mean, error = worse.mean(), worse.std(ddof=1) / np.sqrt(len(worse))
    if abs(mean) < max(LEAST, SURE * error):
        return "unknown"
    return "from" if mean > 0 else "to"
