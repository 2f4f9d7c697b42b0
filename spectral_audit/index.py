"""The axes and the index as statistics of per-sample figures, on any resample of them; NumPy alone, no torch.

Whoever has the per-sample figures of a report can ask for other intervals: at another level, or of the difference
between two models on the same samples. All of them use the resamples that the seed fixes.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from typing import Literal

import numpy as np
import numpy.typing as npt

from spectral_audit.linalg.intervals import bca_interval
from spectral_audit.results import AXES, AxisName, Samples

Array = npt.NDArray[np.float64]
Rows = npt.NDArray[np.int64]
Column = Literal["worst", "typical"]
Aggregation = Literal["rss", "max", "sum"]
COLUMNS: tuple[Column, ...] = ("worst", "typical")

REPLICATES = 2000
# Replicates evaluated at a time, which bounds the memory of the gathered (replicates, n) figures.
_BATCH = 250


@dataclass(frozen=True)
class Columns:
    """The statistics on a batch of resamples, each (b,): the two scales and the eight figures of the axes."""

    input_scale: Array
    output_scale: Array
    axes: dict[tuple[AxisName, Column], Array]


@dataclass(frozen=True)
class Figures:
    """Per-sample figures ready to be resampled; `regression` says that M is an rms and not a median."""

    arrays: Mapping[str, Array]
    n: int
    regression: bool
    trace_stderr: float

    @staticmethod
    def of(samples: Samples, *, regression: bool) -> Figures:
        """The figures of a report's `samples`."""
        names = [entry.name for entry in fields(Samples) if entry.name not in ("layers", *_ERRORS)]
        arrays = {name: np.asarray(getattr(samples, name), dtype=np.float64) for name in names}
        return Figures(arrays, len(samples.output), regression, samples.curvature_typical_stderr)

    def everything(self) -> Columns:
        """The statistics of the probe set itself, (1,)."""
        return self.evaluate(np.arange(self.n)[None], np.zeros(1))

    def resampled(self, seed: int, stream: int = 0) -> Columns:
        """The statistics of the bootstrap samples that a seed fixes, (REPLICATES,).

        Two models on the same samples get the same resamples, and errors beyond sampling of their own by `stream`.
        """
        noise = np.random.default_rng([seed, 1, stream])
        parts = (
            self.evaluate(rows, noise.standard_normal(len(rows)) * self.trace_stderr)
            for rows in resamples(self.n, seed)
        )
        return _joined(list(parts))

    def leave_one_out(self) -> Columns:
        """The statistics without each sample in turn, (n,)."""
        parts = [self.evaluate(rows, np.zeros(len(rows))) for rows in _without_one(self.n)]
        return _joined(parts)

    def evaluate(self, rows: Rows, noise: Array) -> Columns:
        """All statistics on the resampled indices `rows` (b, n); `noise` (b,) adds the trace's own error."""

        def mean(name: str) -> Array:
            return np.asarray(self.arrays[name][rows].mean(1))

        def quantile(name: str, share: float) -> Array:
            return np.asarray(np.quantile(self.arrays[name][rows], share, axis=1))

        x = np.sqrt(mean("deviation"))
        m = np.sqrt(mean("output")) if self.regression else quantile("output", 0.5)
        with np.errstate(divide="ignore", invalid="ignore"):
            axes: dict[tuple[AxisName, Column], Array] = {
                ("input", "worst"): quantile("input_worst", 0.95) * x / m,
                ("input", "typical"): np.sqrt(mean("input_typical")) * x / m,
                ("weights", "worst"): quantile("weights_worst", 0.95) / m,
                ("weights", "typical"): np.sqrt(mean("weights_typical")) / m,
                ("kernel", "worst"): np.sqrt(mean("kernel_worst")) / m,
                ("kernel", "typical"): np.sqrt(mean("kernel_typical")) / m,
                ("curvature", "worst"): np.sqrt(np.abs(mean("curvature_worst"))),
                ("curvature", "typical"): np.sqrt(np.maximum(0, mean("curvature_typical") + noise)),
            }
        return Columns(x, m, axes)


_ERRORS = ("curvature_typical_stderr", "curvature_worst_residual")


def resamples(n: int, seed: int) -> Iterator[Rows]:
    """Indices of the bootstrap samples that a seed fixes, in batches (b, n)."""
    generator = np.random.default_rng([seed, 0])
    for first in range(0, REPLICATES, _BATCH):
        yield generator.integers(0, n, (min(_BATCH, REPLICATES - first), n))


def _without_one(n: int) -> Iterator[Rows]:
    for first in range(0, n, _BATCH):
        left_out = np.arange(first, min(n, first + _BATCH))
        rows = np.broadcast_to(np.arange(n - 1), (len(left_out), n - 1))
        yield rows + (rows >= left_out[:, None])


def _joined(parts: list[Columns]) -> Columns:
    axes = {key: np.concatenate([part.axes[key] for part in parts]) for key in parts[0].axes}
    return Columns(
        np.concatenate([part.input_scale for part in parts]),
        np.concatenate([part.output_scale for part in parts]),
        axes,
    )


def combine(columns: Columns, column: Column, weights: Mapping[str, float], how: Aggregation) -> Array:
    """The index of one column: √Σ w s², max √w s, or Σ w s over the axes."""
    axes = {name: columns.axes[name, column] for name in AXES}
    with np.errstate(invalid="ignore"):
        if how == "sum":
            return np.sum([weights[name] * s for name, s in axes.items()], axis=0)
        squares = np.stack([weights[name] * s**2 for name, s in axes.items()])
        return np.asarray(np.sqrt(squares.sum(0) if how == "rss" else squares.max(0)))


def widened(low: float, high: float, residual: float) -> tuple[float, float]:
    """The interval of an eigenvalue's square root, with the eigenvalue's residual added at both ends."""
    return math.sqrt(max(0.0, low**2 - residual)), math.sqrt(high**2 + residual)


def spread(value: Array, replicates: Array, leave_one_out: Array, level: float = 0.95) -> tuple[float, float] | None:
    """The interval of a point (1,); `None` where it is not finite or no resample gives a figure."""
    finite = replicates[np.isfinite(replicates)]
    if not np.isfinite(value).all() or not len(finite):
        return None
    return bca_interval(float(value[0]), finite, leave_one_out[np.isfinite(leave_one_out)], level)
