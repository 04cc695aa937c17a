"""Correlations with intervals, of networks that were trained in several configurations with several seeds each."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

_LEVEL = 0.95


@dataclass(frozen=True)
class Interval:
    """A figure and the 95 % interval around it; NaN where it cannot be told.

    Attributes:
        value: The figure.
        low: Lower end.
        high: Upper end.
        n: How many values it is made of.
    """

    value: float
    low: float
    high: float
    n: int

    def __str__(self) -> str:
        return f"{self.value:+.2f} [{self.low:+.2f}, {self.high:+.2f}]"


@dataclass(frozen=True)
class Nested:
    """Pearson's correlation over configurations, in which seeds are nested.

    Attributes:
        of_means: Between the means over seeds, one point per configuration; interval by Fisher's z.
        within: Of each seed alone, between its configurations.
        over_seeds: Mean of ``within`` on Fisher's scale; interval by Student's t over the seeds.
        pooled: Between all single values; interval by bootstrap of the configurations, which keep their seeds.
    """

    of_means: Interval
    within: tuple[float, ...]
    over_seeds: Interval
    pooled: Interval


def pearson(x: ArrayLike, y: ArrayLike) -> Interval:
    """Return Pearson's correlation, with Fisher's interval; NaN where a side is constant."""
    a, b = np.asarray(x, dtype=float), np.asarray(y, dtype=float)
    if not _varies(a) or not _varies(b) or len(a) < 3:
        return Interval(np.nan, np.nan, np.nan, len(a))
    found = stats.pearsonr(a, b)
    low, high = found.confidence_interval(_LEVEL) if len(a) > 3 else (np.nan, np.nan)
    return Interval(float(found.statistic), float(low), float(high), len(a))


def spearman(x: ArrayLike, y: ArrayLike) -> Interval:
    """Return Spearman's rank correlation, with the interval of Bonett & Wright (2000).

    Fisher's z of it has about the variance (1 + r²/2) / (n − 3). NaN where a side is constant.
    """
    a, b = np.asarray(x, dtype=float), np.asarray(y, dtype=float)
    if not _varies(a) or not _varies(b) or len(a) < 4:
        return Interval(np.nan, np.nan, np.nan, len(a))
    r = float(stats.spearmanr(a, b).statistic)
    z = np.arctanh(np.clip(r, -1 + 1e-12, 1 - 1e-12))
    margin = stats.norm.ppf((1 + _LEVEL) / 2) * np.sqrt((1 + r**2 / 2) / (len(a) - 3))
    return Interval(r, float(np.tanh(z - margin)), float(np.tanh(z + margin)), len(a))


def mean(values: ArrayLike) -> Interval:
    """Return the mean of some values, with Student's interval."""
    array = np.asarray(values, dtype=float)
    average, n = float(array.mean()), len(array)
    if n < 2:
        return Interval(average, np.nan, np.nan, n)
    margin = float(stats.t.ppf((1 + _LEVEL) / 2, n - 1) * stats.sem(array))
    return Interval(average, average - margin, average + margin, n)


def nested(x: ArrayLike, y: ArrayLike) -> Nested:
    """Correlate two figures of the same networks.

    Args:
        x: ``[seeds, configurations]``.
        y: Likewise.
    """
    a, b = np.asarray(x, dtype=float), np.asarray(y, dtype=float)
    within = tuple(pearson(*rows).value for rows in zip(a, b, strict=True))
    scaled = mean(np.arctanh(np.clip(within, -1 + 1e-12, 1 - 1e-12)))
    value, low, high = np.tanh([scaled.value, scaled.low, scaled.high]).tolist()
    return Nested(pearson(a.mean(0), b.mean(0)), within, Interval(value, low, high, len(within)), _pooled(a, b))


def _pooled(a: NDArray[np.float64], b: NDArray[np.float64]) -> Interval:
    """Correlate all single values, with a bootstrap of the configurations, which keep their seeds."""
    count = a.shape[1]

    def correlate(chosen: NDArray) -> float:
        x, y = a[:, chosen].ravel(), b[:, chosen].ravel()
        return float(np.corrcoef(x, y)[0, 1]) if _varies(x) and _varies(y) else np.nan

    value = correlate(np.arange(count))
    if not np.isfinite(value) or count < 3:
        return Interval(value, np.nan, np.nan, a.size)
    drawn = stats.bootstrap(
        (np.arange(count),), correlate, n_resamples=1000, vectorized=False, method="percentile", rng=0
    ).bootstrap_distribution
    low, high = np.nanquantile(drawn, [(1 - _LEVEL) / 2, (1 + _LEVEL) / 2])
    return Interval(value, float(low), float(high), a.size)


def _varies(values: NDArray[np.float64]) -> bool:
    return bool(values.size and np.isfinite(values).all() and np.ptp(values) > 1e-12 * max(abs(values).max(), 1e-300))
