"""Lanczos on matrices built from chosen eigenvalues: right values, true residuals, and no early stop."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from spectral_audit.linalg.lanczos import (
    dominant_converged,
    ends_converged,
    lanczos,
    largest_eigenpair,
)

from .spectra import matrix, normal


def start(p: int, seed: int = 1) -> Tensor:
    return normal(p, seed=seed)


@settings(deadline=None, max_examples=40)
@given(st.lists(st.floats(-10, 10), min_size=2, max_size=12), st.integers(0, 10))
def test_a_full_run_finds_every_distinct_eigenvalue(eigenvalues: list[float], seed: int) -> None:
    a = matrix(torch.tensor(eigenvalues, dtype=torch.float64), seed)
    ritz = lanczos(lambda v: a @ v, start(len(eigenvalues)), steps=100)
    truth = torch.linalg.eigvalsh(a)
    size = max(1.0, float(truth.abs().max()))
    # Every Ritz value is an eigenvalue; every eigenvalue is hit unless a copy of it (to 1e-4) is.
    distance = (ritz.values[:, None] - truth[None, :]).abs()
    assert float(distance.min(dim=1).values.max()) <= 1e-6 * size
    assert float(distance.min(dim=0).values.max()) <= 1e-4 * size
    assert ritz.exhausted


def test_residuals_are_true_at_every_step() -> None:
    a = matrix(torch.linspace(-3, 50, 200, dtype=torch.float64))
    for steps in (1, 2, 5, 20, 60):
        ritz = lanczos(lambda v: a @ v, start(200), steps=steps)
        for k in range(len(ritz.values)):
            v = ritz.vector(k)
            found = float((a @ v - ritz.values[k] * v).norm())
            assert found <= float(ritz.residuals[k]) * (1 + 1e-6) + 1e-9


def test_no_ghost_copies_of_an_isolated_eigenvalue() -> None:
    eigenvalues = torch.cat([torch.linspace(0, 1, 299, dtype=torch.float64), torch.tensor([1e4], dtype=torch.float64)])
    a = matrix(eigenvalues).float()
    ritz = lanczos(lambda v: a @ v, start(300).float(), steps=120)
    assert int((ritz.values > 100).sum()) == 1


def test_the_basis_stays_orthogonal_in_float32() -> None:
    a = matrix(torch.logspace(-6, 4, 300, dtype=torch.float64)).float()
    ritz = lanczos(lambda v: a @ v, start(300).float(), steps=100)
    gram = ritz.basis @ ritz.basis.T
    assert float((gram - torch.eye(len(gram))).abs().max()) < 1e-5


def test_a_start_that_mixes_eigenvectors_evenly_is_not_taken_for_converged() -> None:
    """From a vector of ones, diag(1..5) has Rayleigh quotient 3 after one product: far from the dominant 5."""
    a = torch.diag(torch.arange(1.0, 6.0, dtype=torch.float64))
    ritz = lanczos(lambda v: a @ v, torch.ones(5, dtype=torch.float64), steps=100, converged=dominant_converged(1e-3))
    assert float(ritz.values[-1]) == pytest.approx(5.0, rel=1e-3)


@pytest.mark.parametrize("tolerance", [1e-2, 1e-4, 1e-8])
def test_both_ends_are_as_good_as_asked(tolerance: float) -> None:
    truth = torch.cat([torch.tensor([-7.0], dtype=torch.float64), torch.linspace(0, 9, 98, dtype=torch.float64)])
    a = matrix(torch.cat([truth, torch.tensor([10.0], dtype=torch.float64)]))
    ritz = lanczos(lambda v: a @ v, start(100), steps=100, converged=ends_converged(tolerance))
    assert abs(float(ritz.values[0]) + 7) <= tolerance * 10
    assert abs(float(ritz.values[-1]) - 10) <= tolerance * 10


def test_dominant_means_the_largest_modulus() -> None:
    a = matrix(torch.tensor([-9.0, 1.0, 2.0, 8.0] + [0.5] * 30, dtype=torch.float64))
    ritz = lanczos(lambda v: a @ v, start(34), steps=34, converged=dominant_converged(1e-6))
    assert float(ritz.values[0]) == pytest.approx(-9.0, rel=1e-5)


def test_asymmetry_of_a_wrong_operator_is_seen() -> None:
    a = matrix(torch.linspace(1, 5, 50, dtype=torch.float64))
    skew = torch.triu(torch.ones(50, 50, dtype=torch.float64), 1) * 0.01
    assert lanczos(lambda v: a @ v, start(50), steps=20).asymmetry < 1e-12
    assert lanczos(lambda v: (a + skew) @ v, start(50), steps=20).asymmetry > 1e-3


def test_the_largest_eigenpair_of_a_dense_matrix() -> None:
    a = matrix(torch.cat([torch.linspace(0, 1, 400, dtype=torch.float64), torch.tensor([1.001], dtype=torch.float64)]))
    value, vector = largest_eigenpair(a, torch.Generator().manual_seed(0))
    assert value == pytest.approx(1.001, rel=1e-9)
    assert float((a @ vector - value * vector).norm()) < 1e-8
