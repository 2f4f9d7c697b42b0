"""From readings to the index: four dimensionless axes, their intervals, and the Global Matrix Stability Index.

Every axis is a statistic of per-sample figures, so one bootstrap over samples serves them all, resampling the scales X
and M and the four axes together: the interval of the index keeps their correlation. λmax of the kernel and the Hessian
enter through their per-sample Rayleigh quotients at the top eigenvector, whose mean is the eigenvalue.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from .linalg.intervals import bca_interval
from .losses import Loss
from .results import AXES, DEFINITION, UNDEFINED, Axes, Axis, AxisName, Estimate, Index, Scales, Status

Aggregation = Literal["rss", "max", "sum"]

_REPLICATES = 2000
# Replicates evaluated at a time, which bounds the memory of the gathered (replicates, n) figures.
_BATCH = 250


@dataclass(frozen=True)
class PerSample:
    """Figures of every sample, each (n,) float64.

    `deviation` ‖x_i − mean x‖²; `output` the margin or |logit|, or ‖f_i − mean f‖² for regression; `input_worst`
    ‖J_i‖₂; `input_typical` ‖J_i‖_F²/d; `weights_worst` ‖G_iT‖₂; `weights_typical` ‖G_iτ‖_F²; `kernel_*` ‖G_iv‖² at the
    top direction of the scaled kernel; `curvature_worst` vᵀ(T∇²ℓ_iT)v; `curvature_typical` tr(τ∇²ℓ_iτ).
    `curvature_typical_stderr` and `curvature_worst_residual` are the errors of their means beyond sampling.
    """

    deviation: Tensor
    output: Tensor
    input_worst: Tensor
    input_typical: Tensor
    weights_worst: Tensor
    weights_typical: Tensor
    kernel_worst: Tensor
    kernel_typical: Tensor
    curvature_worst: Tensor
    curvature_typical: Tensor
    curvature_typical_stderr: float
    curvature_worst_residual: float


def output_figures(
    outputs: Tensor, loss: Loss
) -> tuple[Tensor, Literal["median margin", "median |logit|", "rms output"]]:
    """Per-sample output figures (n,) behind M, and how M is taken from them, for `outputs` (n, C) float64."""
    if loss == "cross_entropy":
        top = outputs.topk(2, dim=1).values
        return (top[:, 0] - top[:, 1]) / math.sqrt(2), "median margin"
    if loss == "bce":
        return outputs[:, 0].abs(), "median |logit|"
    return (outputs - outputs.mean(0)).square().sum(1), "rms output"


@dataclass(frozen=True)
class _Columns:
    """The index for a batch of replicates: axes (8 figures, replicates) and the two scales."""

    input_scale: Tensor
    output_scale: Tensor
    axes: dict[tuple[AxisName, str], Tensor]


def _evaluate(s: PerSample, rows: Tensor, regression: bool, noise: Tensor) -> _Columns:
    """All statistics for the resampled indices `rows` (b, n); `noise` (b,) adds the trace's own error."""

    def mean(figures: Tensor) -> Tensor:
        return figures[rows].mean(1)

    def q95(figures: Tensor) -> Tensor:
        return torch.quantile(figures[rows], 0.95, dim=1)

    x = mean(s.deviation).sqrt()
    m = mean(s.output).sqrt() if regression else torch.quantile(s.output[rows], 0.5, dim=1)
    return _Columns(
        x,
        m,
        {
            ("input", "worst"): q95(s.input_worst) * x / m,
            ("input", "typical"): mean(s.input_typical).sqrt() * x / m,
            ("weights", "worst"): q95(s.weights_worst) / m,
            ("weights", "typical"): mean(s.weights_typical).sqrt() / m,
            ("kernel", "worst"): mean(s.kernel_worst).sqrt() / m,
            ("kernel", "typical"): mean(s.kernel_typical).sqrt() / m,
            ("curvature", "worst"): mean(s.curvature_worst).abs().sqrt(),
            ("curvature", "typical"): (mean(s.curvature_typical) + noise).clamp_min(0).sqrt(),
        },
    )


def _combine(axes: dict[AxisName, Tensor], weights: Mapping[str, float], how: Aggregation) -> Tensor:
    """√Σ w s², max √w s, or Σ w s over the axes."""
    if how == "sum":
        return torch.stack([weights[a] * s for a, s in axes.items()]).sum(0)
    squares = torch.stack([weights[a] * s.square() for a, s in axes.items()])
    return (squares.sum(0) if how == "rss" else squares.amax(0)).sqrt()


def stability(
    s: PerSample,
    output_kind: Literal["median margin", "median |logit|", "rms output"],
    effective_ranks: Mapping[AxisName, float | None],
    generator: torch.Generator,
    *,
    weights: Mapping[str, float],
    aggregation: Aggregation,
    curvature_status: Status,
    undefined: frozenset[AxisName],
) -> tuple[Axes, Index, Scales]:
    """Axes, index and scales with 95 % intervals.

    The `undefined` axes have no value, and then neither has the index, unless their weight is zero.
    """
    n = len(s.deviation)
    regression = output_kind == "rms output"
    point = _evaluate(s, torch.arange(n)[None], regression, torch.zeros(1, dtype=torch.float64))
    scales = Scales(float(point.input_scale), float(point.output_scale), output_kind)
    draws, jackknife = _replicates(s, regression, generator), _leave_one_out(s, regression)
    estimates: dict[tuple[AxisName, str], Estimate] = {}
    for key, value in point.axes.items():
        status: Status = curvature_status if key == ("curvature", "worst") else "ok"
        known = key[0] not in undefined
        estimates[key] = _estimate(value, draws.axes[key], jackknife.axes[key], status) if known else UNDEFINED
    estimates["curvature", "worst"] = _widened(estimates["curvature", "worst"], s.curvature_worst_residual)
    axes = Axes(**{a: Axis(estimates[a, "worst"], estimates[a, "typical"], effective_ranks[a]) for a in AXES})
    columns: dict[str, Estimate] = {}
    for column in ("worst", "typical"):
        status = "unconverged" if any(estimates[a, column].status == "unconverged" for a in AXES) else "ok"
        value, replicates, without = (
            _combine({a: c.axes[a, column] for a in AXES}, weights, aggregation) for c in (point, draws, jackknife)
        )
        known = not any(weights[a] > 0 for a in undefined)
        columns[column] = _estimate(value, replicates, without, status) if known else UNDEFINED
    sizes = {a: math.sqrt(weights[a]) * float(point.axes[a, "worst"]) for a in AXES}
    largest: AxisName = max(AXES, key=lambda a: sizes[a])
    binding = largest if columns["worst"].value is not None else None
    return axes, Index(DEFINITION, aggregation, dict(weights), binding, columns["worst"], columns["typical"]), scales


def _replicates(s: PerSample, regression: bool, generator: torch.Generator) -> _Columns:
    """The statistics of `_REPLICATES` bootstrap samples."""
    n = len(s.deviation)
    parts = []
    for first in range(0, _REPLICATES, _BATCH):
        count = min(_BATCH, _REPLICATES - first)
        rows = torch.randint(0, n, (count, n), generator=generator)
        noise = torch.randn(count, generator=generator, dtype=torch.float64) * s.curvature_typical_stderr
        parts.append(_evaluate(s, rows, regression, noise))
    return _joined(parts)


def _leave_one_out(s: PerSample, regression: bool) -> _Columns:
    """The statistics without each sample in turn."""
    n = len(s.deviation)
    parts = []
    for left_out in torch.arange(n).split(_BATCH):
        rows = torch.arange(n - 1).expand(len(left_out), n - 1)
        rows = rows + (rows >= left_out[:, None])
        parts.append(_evaluate(s, rows, regression, torch.zeros(len(left_out), dtype=torch.float64)))
    return _joined(parts)


def _joined(parts: list[_Columns]) -> _Columns:
    axes = {key: torch.cat([p.axes[key] for p in parts]) for key in parts[0].axes}
    return _Columns(torch.cat([p.input_scale for p in parts]), torch.cat([p.output_scale for p in parts]), axes)


def _estimate(value: Tensor, replicates: Tensor, leave_one_out: Tensor, status: Status) -> Estimate:
    """A point (1,) with its interval; undefined where it is not finite or no resample gives a figure."""
    finite = replicates[replicates.isfinite()]
    if not value.isfinite().all() or not len(finite):
        return UNDEFINED
    low, high = bca_interval(float(value), finite, leave_one_out[leave_one_out.isfinite()])
    return Estimate(float(value), low, high, status)


def _widened(estimate: Estimate, residual: float) -> Estimate:
    """Add an eigenvalue's residual to the interval of its square root."""
    if estimate.value is None or estimate.low is None or estimate.high is None:
        return estimate
    low = math.sqrt(max(0.0, estimate.low**2 - residual))
    return Estimate(estimate.value, low, math.sqrt(estimate.high**2 + residual), estimate.status)
