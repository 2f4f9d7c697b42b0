"""Bootstrap intervals cover what they claim to."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from spectral_audit.linalg.intervals import bca_interval


def interval_of_the_mean(sample: Tensor, generator: torch.Generator) -> tuple[float, float]:
    n = len(sample)
    rows = torch.randint(0, n, (1000, n), generator=generator)
    without = (sample.sum() - sample) / (n - 1)
    return bca_interval(float(sample.mean()), sample[rows].mean(1), without)


@pytest.mark.parametrize("skewed", [False, True])
def test_coverage_of_a_mean(skewed: bool) -> None:
    """400 samples of 60: normal, and exponential, where plain percentiles hold the mean too rarely."""
    generator = torch.Generator().manual_seed(0)
    held = 0
    for _ in range(400):
        sample = torch.randn(60, generator=generator, dtype=torch.float64)
        sample = torch.empty_like(sample).exponential_(generator=generator) if skewed else sample
        low, high = interval_of_the_mean(sample, generator)
        held += low <= (1.0 if skewed else 0.0) <= high
    # 95 % less two standard errors of 400 trials, and less the small-sample error of the method.
    assert 0.915 <= held / 400 <= 0.98


def test_a_symmetric_sample_has_a_nearly_symmetric_interval() -> None:
    half = torch.linspace(0.1, 3, 100, dtype=torch.float64)
    low, high = interval_of_the_mean(torch.cat([half, -half]), torch.Generator().manual_seed(0))
    assert low == pytest.approx(-high, rel=0.15)


def test_skewness_moves_the_interval_towards_the_long_tail() -> None:
    sample = torch.linspace(0, 3, 60, dtype=torch.float64).exp()
    low, high = interval_of_the_mean(sample, torch.Generator().manual_seed(0))
    mean = float(sample.mean())
    assert high - mean > 1.1 * (mean - low)


def test_constant_data_has_a_point_for_an_interval() -> None:
    ones = torch.ones(100, dtype=torch.float64)
    assert bca_interval(1.0, ones, ones) == (1.0, 1.0)
