"""Optimal transport of neurons: what it costs to move those of one layer onto those of another."""

import math

import numpy as np
from numpy.typing import ArrayLike

from hf_infodist.baselines.result import Inapplicable

_MOST_ITERATIONS = 10_000_000  # the solver stops far earlier: 3072 neurons take four seconds


def transport_cost(a: ArrayLike, b: ArrayLike) -> float:
    """Return the earth mover's distance between two sets of neurons of equal total mass.

    min_P ⟨P, M⟩ with M_mn = ‖a_m − b_n‖, over plans P ≥ 0 with rows summing to 1/N_A and columns to 1/N_B (Li et al.
    2020, "Representation transfer by optimal transport").

    Args:
        a: A vector per neuron, ``[N_A, d]``.
        b: Likewise, ``[N_B, d]``.

    Raises:
        Inapplicable: If POT, which solves the problem, is not installed.
    """
    try:
        import ot
    except ImportError as error:
        raise Inapplicable("needs POT: pip install 'hf-infodist[baselines]'") from error
    from sklearn.metrics.pairwise import euclidean_distances

    a, b = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    distances = euclidean_distances(a, b)  # [N_A, N_B]; good enough to find the plan, not to say that it costs 0
    relative = distances / (distances.max() or 1.0)  # tiny differences count as none in the solver
    plan = ot.emd([], [], relative, numItermax=_MOST_ITERATIONS)
    return math.fsum(plan[m, n] * np.linalg.norm(a[m] - b[n]) for m, n in zip(*plan.nonzero(), strict=True))
