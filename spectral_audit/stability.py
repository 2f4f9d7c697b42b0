"""From readings to the index: four dimensionless axes, their intervals, and the Global Matrix Stability Index.

Every axis is a statistic of per-sample figures, so one bootstrap over samples serves them all, resampling the scales X
and M and the four axes together: the interval of the index keeps their correlation. λmax of the kernel and the Hessian
enter through their per-sample Rayleigh quotients at the top eigenvector, whose mean is the eigenvalue.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Literal

from torch import Tensor

from .index import COLUMNS, Aggregation, Array, Column, Figures, combine, spread, widened
from .losses import Loss
from .results import AXES, DEFINITION, UNDEFINED, Axes, Axis, AxisName, Estimate, Index, Samples, Scales, Status

__all__ = ["Aggregation", "output_figures", "stability"]


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


def stability(
    samples: Samples,
    output_kind: Literal["median margin", "median |logit|", "rms output"],
    effective_ranks: Mapping[AxisName, float | None],
    seed: int,
    *,
    weights: Mapping[str, float],
    aggregation: Aggregation,
    curvature_status: Status,
    undefined: frozenset[AxisName],
) -> tuple[Axes, Index, Scales]:
    """Axes, index and scales with 95 % intervals from the resamples that `seed` fixes.

    The `undefined` axes have no value, and then neither has the index, unless their weight is zero.
    """
    figures = Figures.of(samples, regression=output_kind == "rms output")
    point, draws, jackknife = figures.everything(), figures.resampled(seed), figures.leave_one_out()
    scales = Scales(float(point.input_scale[0]), float(point.output_scale[0]), output_kind)
    estimates: dict[tuple[AxisName, Column], Estimate] = {}
    for key, value in point.axes.items():
        status: Status = curvature_status if key == ("curvature", "worst") else "ok"
        known = key[0] not in undefined
        estimates[key] = _estimate(value, draws.axes[key], jackknife.axes[key], status) if known else UNDEFINED
    estimates["curvature", "worst"] = _widened(estimates["curvature", "worst"], samples.curvature_worst_residual)
    axes = Axes(**{a: Axis(estimates[a, "worst"], estimates[a, "typical"], effective_ranks[a]) for a in AXES})
    columns: dict[str, Estimate] = {}
    for column in COLUMNS:
        status = "unconverged" if any(estimates[a, column].status == "unconverged" for a in AXES) else "ok"
        value, replicates, without = (combine(c, column, weights, aggregation) for c in (point, draws, jackknife))
        known = not any(weights[a] > 0 for a in undefined)
        columns[column] = _estimate(value, replicates, without, status) if known else UNDEFINED
    sizes = {a: math.sqrt(weights[a]) * float(point.axes[a, "worst"][0]) for a in AXES}
    largest: AxisName = max(AXES, key=lambda a: sizes[a])
    binding = largest if columns["worst"].value is not None else None
    return axes, Index(DEFINITION, aggregation, dict(weights), binding, columns["worst"], columns["typical"]), scales


def _estimate(value: Array, replicates: Array, leave_one_out: Array, status: Status) -> Estimate:
    """A point (1,) with its interval; undefined where it is not finite or no resample gives a figure."""
    ends = spread(value, replicates, leave_one_out)
    return Estimate(float(value[0]), *ends, status) if ends else UNDEFINED


def _widened(estimate: Estimate, residual: float) -> Estimate:
    """Add an eigenvalue's residual to the interval of its square root."""
    if estimate.value is None or estimate.low is None or estimate.high is None:
        return estimate
    return Estimate(estimate.value, *widened(estimate.low, estimate.high, residual), estimate.status)
