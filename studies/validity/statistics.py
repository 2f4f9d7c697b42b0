"""Rank correlations over models, with bootstrap intervals; NumPy alone.

A resample of n models is a row of counts (n,) that sum to n; ranks, means and variances under those counts are those of
the resampled list, ties averaged. Two figures about the same models use the same resamples, so that the interval of
their difference is paired.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache, lru_cache

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]

REPLICATES = 2000


@dataclass(frozen=True)
class Interval:
    """A statistic over `n` models with its 95 % percentile interval."""

    value: float
    low: float
    high: float
    n: int


@cache
def resamples(n: int, seed: int = 0) -> Array:
    """Counts (1 + REPLICATES, n): the models themselves first, then the bootstrap's lists."""
    drawn = np.random.default_rng([seed, n]).multinomial(n, np.full(n, 1 / n), REPLICATES)
    return np.concatenate([np.ones((1, n)), drawn])


def ranks(values: Array, counts: Array) -> Array:
    """Average ranks (b, n) of `values` (n,) in every resample."""
    if counts is resamples(len(values)):
        return _usual_ranks(values.tobytes())
    return _ranks(values, counts)


@lru_cache(200)
def _usual_ranks(values: bytes) -> Array:
    """Those under the study's own resamples, which one quantity needs again for every damage."""
    column = np.frombuffer(values)
    return _ranks(column, resamples(len(column)))


def _ranks(values: Array, counts: Array) -> Array:
    _, group = np.unique(values, return_inverse=True)
    totals = counts @ np.eye(group.max() + 1)[group]
    return (np.cumsum(totals, 1) - totals / 2)[:, group]


def pearson(a: Array, b: Array, counts: Array) -> Array:
    """Correlations (b,) of rows (b, n) under counts; 0 where one of them is constant."""
    weights = counts / counts.sum(1, keepdims=True)
    a, b = a - (weights * a).sum(1, keepdims=True), b - (weights * b).sum(1, keepdims=True)
    scale = np.sqrt((weights * a * a).sum(1) * (weights * b * b).sum(1))
    return np.divide((weights * a * b).sum(1), scale, out=np.zeros(len(scale)), where=scale > 0)


def spearman(x: Array, y: Array, counts: Array) -> Array:
    """Spearman's ρ (b,) of two quantities (n,) in every resample."""
    return pearson(ranks(x, counts), ranks(y, counts), counts)


def partial(x: Array, y: Array, given: Array, counts: Array) -> Array:
    """ρ of x and y given a third: (ρ_xy − ρ_xz ρ_yz) / √((1 − ρ_xz²)(1 − ρ_yz²)); 0 where z says everything."""
    xy, xz, yz = spearman(x, y, counts), spearman(x, given, counts), spearman(y, given, counts)
    scale = np.sqrt((1 - xz**2) * (1 - yz**2))
    return np.divide(xy - xz * yz, scale, out=np.zeros(len(scale)), where=scale > 1e-9)


def interval(replicates: Array, n: int) -> Interval:
    """The first entry as the value, the quantiles of the others as its interval."""
    low, high = np.quantile(replicates[1:], [0.025, 0.975])
    return Interval(float(replicates[0]), float(low), float(high), n)
