"""Thick restarts, several start vectors, and the rules and bounds for several eigenvalues."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from spectral_audit.linalg.lanczos import Ritz, dominant_converged, ends_converged, errors, lanczos, top_converged

from .spectra import even, matrix, normal, values

SPECTRA = {
    "both ends": torch.cat([values(-7), even(0, 9, 118), values(10)]),
    "clustered": torch.cat([values(-2, -1.99), even(0, 1, 113), values(5, 5 + 1e-3, 5 + 2e-3, 9, 9.001)]),
    "indefinite": torch.cat([-(even(0.5, 3, 60) ** 3), even(0.5, 3, 60) ** 3 + 1]),
    "decaying": torch.logspace(-1, 1, 40, dtype=torch.float64),
}
DTYPES = [torch.float32, torch.float64]


def tolerance_of(dtype: torch.dtype) -> float:
    return 1e-4 if dtype == torch.float32 else 1e-8


def true_residuals(a: Tensor, ritz: Ritz) -> Tensor:
    """‖A v − θ v‖ in float64 for the Ritz vectors as they are."""
    vectors = ritz.basis.double().T @ ritz.rotation
    return (a.double() @ vectors - vectors * ritz.values).norm(dim=0)


def counted(a: Tensor) -> tuple[Callable[[Tensor], Tensor], list[int]]:
    count = [0]

    def product(v: Tensor) -> Tensor:
        count[0] += 1
        return a @ v

    return product, count


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("max_basis", [6, 7, 12, 40])
@pytest.mark.parametrize("name", SPECTRA)
def test_a_restarted_run_finds_the_ends_that_an_unrestricted_one_finds(
    name: str, max_basis: int, dtype: torch.dtype
) -> None:
    a, tolerance = matrix(SPECTRA[name]).to(dtype), tolerance_of(dtype)
    product, count = counted(a)
    start = normal(len(a), seed=1).to(dtype)
    free = lanczos(lambda v: a @ v, start, steps=200, converged=ends_converged(tolerance))
    ritz = lanczos(product, start, steps=4000, converged=ends_converged(tolerance), max_basis=max_basis)
    assert len(ritz.basis) <= max_basis
    assert ritz.products == count[0] < 4000
    largest = float(free.values.abs().max())
    for k in (0, -1):
        assert abs(float(ritz.values[k] - free.values[k])) <= 2 * tolerance * largest


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("steps", [8, 9, 20, 63, 300])
def test_residuals_are_true_through_restarts(steps: int, dtype: torch.dtype) -> None:
    a = matrix(SPECTRA["indefinite"]).to(dtype)
    ritz = lanczos(lambda v: a @ v, normal(len(a), seed=1).to(dtype), steps=steps, max_basis=8)
    assert ritz.products == steps
    assert bool((true_residuals(a, ritz) <= ritz.residuals).all())
    # ... and no larger than they have to be.
    assert bool((ritz.residuals <= true_residuals(a, ritz) + 2 * ritz.rounding).all())


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_basis_stays_orthonormal_through_restarts(dtype: torch.dtype) -> None:
    a = matrix(SPECTRA["indefinite"]).to(dtype)
    ritz = lanczos(lambda v: a @ v, normal(len(a), seed=1).to(dtype), steps=200, max_basis=10)
    gram = (ritz.basis @ ritz.basis.T).double()
    assert float((gram - torch.eye(len(gram))).abs().max()) < 100 * torch.finfo(dtype).eps
    assert ritz.asymmetry < 1000 * torch.finfo(dtype).eps


def test_asymmetry_is_seen_in_a_restarted_run() -> None:
    a = matrix(even(1, 5, 50))
    skew = torch.triu(torch.ones(50, 50, dtype=torch.float64), 1) * 0.01
    assert lanczos(lambda v: (a + skew) @ v, normal(50, seed=1), steps=40, max_basis=8).asymmetry > 1e-3


def test_weights_are_a_quadrature_until_the_first_restart() -> None:
    a = matrix(SPECTRA["both ends"])
    start = normal(len(a), seed=1)
    before = lanczos(lambda v: a @ v, start, steps=7, max_basis=8)
    unit = start / start.norm()
    assert before.weights is not None
    assert float(before.weights @ before.values**3) == pytest.approx(float(unit @ a @ a @ a @ unit))
    assert lanczos(lambda v: a @ v, start, steps=8, max_basis=8).weights is None
    assert lanczos(lambda v: a @ v, normal(2, len(a), seed=1), steps=8).weights is None


@pytest.mark.parametrize("p", [1, 2, 3, 5])
@pytest.mark.parametrize("max_basis", [None, 6])
@pytest.mark.parametrize("block", [1, 2])
def test_tiny_spaces_are_exhausted(p: int, max_basis: int | None, block: int) -> None:
    truth = even(-1, 2, p)
    a = matrix(truth)
    if block == 2 and max_basis:
        max_basis = 7
    ritz = lanczos(lambda v: a @ v, normal(block, p, seed=1), steps=50, max_basis=max_basis)
    assert ritz.exhausted and ritz.products == p
    torch.testing.assert_close(ritz.values, truth, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("dtype", DTYPES)
def test_an_invariant_space_ends_a_restarted_run(dtype: torch.dtype) -> None:
    """Eight distinct eigenvalues, each 20 times: a Krylov space holds eight vectors."""
    d = even(1, 8, 8).repeat(20).to(dtype)
    ritz = lanczos(lambda v: d * v, normal(160, seed=1).to(dtype), steps=500, max_basis=20)
    assert ritz.exhausted and ritz.products == 8
    torch.testing.assert_close(ritz.values, even(1, 8, 8), rtol=100 * torch.finfo(dtype).eps, atol=0)
    assert bool((true_residuals(torch.diag(d), ritz) <= ritz.residuals).all())


def test_zero_operators_zero_starts_and_too_little_room() -> None:
    zero = lanczos(torch.zeros_like, normal(9, seed=1), steps=5, max_basis=6)
    assert zero.exhausted and zero.values.tolist() == [0.0]
    with pytest.raises(ValueError, match="zero"):
        lanczos(lambda v: v, torch.zeros(9), steps=5)
    with pytest.raises(ValueError, match="too small"):
        lanczos(lambda v: v, normal(99, seed=1), steps=50, max_basis=8, wanted=(3, 3))


def test_an_operator_may_return_its_argument() -> None:
    ritz = lanczos(lambda v: v, normal(9, seed=1), steps=5)
    assert ritz.exhausted and float(ritz.values[0]) == pytest.approx(1.0, rel=1e-12)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("max_basis", [None, 14, 30])
def test_several_of_the_largest_are_as_good_as_asked(max_basis: int | None, dtype: torch.dtype) -> None:
    truth = torch.cat([even(0, 1, 290), even(2, 10, 5)])
    a, tolerance = matrix(truth).to(dtype), tolerance_of(dtype)
    rule = top_converged(5, tolerance)
    ritz = lanczos(
        lambda v: a @ v, normal(295, seed=1).to(dtype), steps=2000, converged=rule, max_basis=max_basis, wanted=(0, 5)
    )  # fmt: skip
    assert ritz.products < 2000
    bounds = errors(ritz)[-5:]
    assert bool((bounds <= tolerance * ritz.values[-5:]).all())
    assert bool(((ritz.values[-5:] - truth[-5:]).abs() <= bounds + 1e-14).all())


def test_largest_by_modulus_takes_both_ends() -> None:
    a = matrix(torch.cat([values(-9, -4), even(-1, 1, 150), values(3, 8)]))
    rule = top_converged(3, 1e-8, "modulus")
    ritz = lanczos(lambda v: a @ v, normal(154, seed=1), steps=154, converged=rule)
    order = ritz.values.abs().argsort(descending=True)
    torch.testing.assert_close(ritz.values[order][:3], values(-9, 8, -4), rtol=1e-8, atol=0)


def test_the_largest_modulus_is_not_taken_while_the_other_end_may_overtake_it() -> None:
    """A Ritz value 5 known exactly, beside −4.9 ± 0.5."""
    ritz = Ritz(values(-4.9, 5), values(0.5, 0), None, torch.eye(2), torch.eye(2), 0.0, 2, False, 0.0)
    assert top_converged(1, 1e-3)(ritz)
    assert not top_converged(1, 1e-3, "modulus")(ritz)
    assert not dominant_converged(1e-3)(ritz)


def test_bounds_are_smaller_than_residuals_only_where_a_gap_is_known() -> None:
    ritz = Ritz(
        values(0, 1, 1.05, 3), values(0.1, 0.1, 0.1, 0.2), None, torch.eye(4), torch.eye(4), 1e-3, 4, False, 0.0
    )
    assert errors(ritz).tolist() == pytest.approx([0.01 / 0.9, 0.1, 0.1, 0.04 / (3 - 1.05 - 0.1)])
    alone = Ritz(values(2), values(0.1), None, torch.eye(1), torch.eye(1), 1e-3, 1, False, 0.0)
    assert errors(alone).tolist() == pytest.approx([0.1])
    sharp = Ritz(values(0, 9), values(1e-4, 1e-4), None, torch.eye(2), torch.eye(2), 5e-5, 2, False, 0.0)
    assert errors(sharp).tolist() == pytest.approx([5e-5, 5e-5])


@pytest.mark.parametrize("steps", [20, 40, 60])
def test_bounds_hold_where_the_run_has_an_own_value_for_each_eigenvalue(steps: int) -> None:
    truth = torch.cat([even(0, 1, 145), even(2, 10, 5)])
    a = matrix(truth)
    ritz = lanczos(lambda v: a @ v, normal(150, seed=2), steps=steps)
    assert bool(((ritz.values[-5:] - truth[-5:]).abs() <= errors(ritz)[-5:] + 1e-12).all())
    assert bool((errors(ritz) <= ritz.residuals).all())


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("steps", [3, 4, 5, 9, 30])
@pytest.mark.parametrize("max_basis", [None, 10])
def test_residuals_are_true_from_several_start_vectors(steps: int, max_basis: int | None, dtype: torch.dtype) -> None:
    a = matrix(SPECTRA["indefinite"]).to(dtype)
    ritz = lanczos(lambda v: a @ v, normal(4, len(a), seed=1).to(dtype), steps=steps, max_basis=max_basis)
    found = true_residuals(a, ritz)
    assert bool((found <= ritz.residuals).all())
    assert bool((ritz.residuals <= found + 2 * ritz.rounding).all())


def test_dependent_start_vectors_count_once() -> None:
    a, start = matrix(even(-1, 2, 30)), normal(2, 30, seed=1)
    ritz = lanczos(lambda v: a @ v, torch.stack([start[0], 2 * start[0], start[1]]), steps=2)
    projected = torch.linalg.qr(start.T).Q
    torch.testing.assert_close(ritz.values, torch.linalg.eigvalsh(projected.T @ a @ projected))


@pytest.mark.parametrize("max_basis", [None, 10])
def test_good_start_vectors_save_products(max_basis: int | None) -> None:
    """Three eigenvectors with 1 % of noise: their own products show the ends, few more make them good."""
    truth = torch.cat([values(-1), even(0, 9, 197), values(9.8, 10)])
    a = matrix(truth)
    vectors = torch.linalg.eigh(a).eigenvectors[:, [0, -2, -1]].T
    noise = normal(3, 200, seed=1) / 14

    def run(start: Tensor) -> Ritz:
        return lanczos(lambda v: a @ v, start, steps=900, converged=ends_converged(1e-4), max_basis=max_basis)

    warm, cold = run(vectors + 0.01 * noise), run(noise[0])
    assert float(warm.values[0]) == pytest.approx(-1, abs=1e-3)
    assert float(warm.values[-1]) == pytest.approx(10, rel=1e-4)
    assert warm.products < 0.75 * cold.products


def test_long_float32_vectors_are_summed_in_blocks() -> None:
    """A million entries: residuals stay true, and their rounding level stays far below the usual tolerance of 1e-3."""
    eigenvalues = torch.linspace(-1, 1, 1_000_003, dtype=torch.float64)
    eigenvalues[:3] = values(4, -3, 3.5)
    d = eigenvalues.float()
    start = torch.randn(len(d), generator=torch.Generator().manual_seed(0))
    ritz = lanczos(lambda v: d * v, start, steps=60, converged=ends_converged(1e-4), max_basis=12)
    assert ritz.products < 60 and ritz.rounding < 4 * 2e-4
    for k in (0, -1):
        v = ritz.basis.double().T @ ritz.rotation[:, k]
        assert float((d.double() * v - ritz.values[k] * v).norm()) <= float(ritz.residuals[k])


def test_what_is_dropped_as_rounding_is_still_part_of_the_residual() -> None:
    rounding = torch.finfo(torch.float64).eps * 2
    a = torch.eye(4, dtype=torch.float64)
    a[0, 1] = a[1, 0] = 5 * rounding
    ritz = lanczos(lambda v: a @ v, torch.eye(4, dtype=torch.float64)[0], steps=4)
    assert ritz.exhausted and ritz.products == 1
    assert float(ritz.residuals[0]) == pytest.approx(6 * rounding, rel=0.1, abs=0)
