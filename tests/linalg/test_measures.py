"""Measures of spectra with known answers."""

from __future__ import annotations

import math

import pytest
import torch

from spectral_audit.linalg.density import Quadrature, density, spectral_sums
from spectral_audit.linalg.lanczos import lanczos
from spectral_audit.linalg.measures import measures


def test_a_flat_spectrum_has_full_rank_in_every_sense() -> None:
    found = measures(torch.full((8,), 3.0))
    assert found.entropy == pytest.approx(math.log(8))
    assert (found.normalized_entropy, found.effective_rank, found.stable_rank) == pytest.approx((1.0, 8.0, 8.0))
    assert (found.trace, found.frobenius, found.condition) == pytest.approx((24.0, 3 * 8**0.5, 1.0))


def test_a_single_direction_has_rank_one() -> None:
    found = measures(torch.tensor([5.0, 0.0, 0.0]))
    assert (found.entropy, found.effective_rank, found.stable_rank, found.condition) == pytest.approx((0, 1, 1, 1))


def test_a_zero_spectrum_has_no_rank() -> None:
    found = measures(torch.zeros(4))
    assert (found.entropy, found.effective_rank, found.stable_rank, found.condition) == (None, None, None, None)


def test_quadrature_estimates_lie_within_three_standard_errors() -> None:
    """A diagonal operator with 2,000 known eigenvalues of both signs; 20 independent probes."""
    p = 2000
    truth = torch.cat([torch.linspace(-0.5, 1, p - 5, dtype=torch.float64), torch.tensor([3.0, 5, 8, 13, 21]).double()])
    weights = truth.abs() / truth.abs().sum()
    entropy = float(torch.special.entr(weights).sum())
    inside = 0
    for seed in range(20):
        start = torch.randn(p, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
        ritz = lanczos(lambda v: truth * v, start, steps=60)
        sums = spectral_sums([Quadrature(ritz.values, ritz.weights)], p)
        assert abs(sums.entropy - entropy) < 5 * sums.entropy_stderr
        inside += abs(sums.entropy - entropy) < 3 * sums.entropy_stderr
    assert inside >= 18


def test_the_density_integrates_to_one_and_sits_where_the_mass_is() -> None:
    run = Quadrature(torch.tensor([-1.0, 4.0]).double(), torch.tensor([0.25, 0.75]).double())
    found = density([run])
    step = found.grid[1] - found.grid[0]
    assert sum(found.values) * step == pytest.approx(1.0, rel=1e-3)
    left = sum(v for x, v in zip(found.grid, found.values, strict=True) if x < 1.5) * step
    assert left == pytest.approx(0.25, rel=1e-2)


def test_what_is_not_above_its_error_has_no_part_in_the_condition_number():
    values = torch.tensor([4.0, 2.0, 0.5, -0.1])
    assert [measures(values, error).condition for error in (0.0, 0.1, 0.2, 1.0)] == [8.0, 8.0, 2.0, None]
