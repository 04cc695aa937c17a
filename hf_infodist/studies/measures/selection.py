"""How good a choice among checkpoints is that is made by a score, with intervals over targets."""

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from hf_infodist.studies.measures.statistics import Interval

TOP = 3
CRITERIA = ("weighted tau", "regret at 1", "recall at 3")
SIGNS = np.array([1, -1, 1])  # of what is better
_RESAMPLES = 10_000


def judge(scores: NDArray[np.float64], truth: NDArray[np.float64]) -> tuple[float, float, float]:
    """Return weighted tau, regret at 1 and recall at 3 of one target; of tied scores any may be chosen, evenly.

    Weighted tau (Vigna 2015) weighs an exchange by the places in both orders; without any order it is 0. Regret is
    what the truth loses by the choice, in its own unit. Recall is the share of the best three among the three chosen.

    Args:
        scores: ``[n]``, larger is better.
        truth: ``[n]``, larger is better.
    """
    tau = float(stats.weightedtau(scores, truth).statistic) if np.ptp(scores) else 0.0
    regret = float(truth.max() - (chances(scores, 1) * truth).sum())
    best = np.isin(np.arange(len(truth)), np.argsort(-truth, kind="stable")[:TOP])
    return tau, regret, float(chances(scores, TOP)[best].sum()) / TOP


def chances(scores: NDArray[np.float64], count: int) -> NDArray[np.float64]:
    """Return the probability with which each is among the ``count`` chosen, ``[n]``; those tied at the edge share."""
    edge = np.sort(scores)[-count]
    above, tied = scores > edge, scores == edge
    return above + tied * (count - above.sum()) / tied.sum()


def over_targets(values: NDArray[np.float64]) -> Interval:
    """Return the mean over targets, with the 95 % interval of a bootstrap that draws targets.

    Args:
        values: ``[targets]``.
    """
    if len(values) < 2:
        return Interval(float(values.mean()), np.nan, np.nan, len(values))
    rows = np.random.default_rng(0).integers(len(values), size=(_RESAMPLES, len(values)))
    low, high = np.quantile(values[rows].mean(1), [0.025, 0.975])
    return Interval(float(values.mean()), float(low), float(high), len(values))
