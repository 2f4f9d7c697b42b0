"""Intervals of means and medians over samples."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from spectral_audit.estimates import UNDEFINED, Estimate


def mean(values: Tensor) -> Estimate:
    """The mean of `values` (n,), ± 1.96 standard errors; undefined where there are none."""
    values = values.double()
    if not len(values):
        return UNDEFINED
    centre = float(values.mean())
    half = 1.96 * float(values.std()) / math.sqrt(len(values)) if len(values) > 1 else 0.0
    low = max(0.0, centre - half) if float(values.min()) >= 0 else centre - half
    return Estimate(centre, low, centre + half)


def median(values: Tensor) -> Estimate:
    """The median with the distribution-free interval of order statistics n/2 ± 0.98√n; undefined without values."""
    if not len(values):
        return UNDEFINED
    ordered = values.double().sort().values
    n = len(ordered)
    half = 0.98 * math.sqrt(n)
    low, high = max(0, math.floor(n / 2 - half)), min(n - 1, math.ceil(n / 2 + half))
    return Estimate(float(torch.quantile(ordered, 0.5)), float(ordered[low]), float(ordered[high]))
