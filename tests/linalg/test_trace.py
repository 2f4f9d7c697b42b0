"""Traces of matrices with chosen eigenvalues: within three standard errors, which are themselves right."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from spectral_audit.linalg.trace import trace

from .spectra import even, matrix, values

LOW_RANK = torch.cat([torch.zeros(190, dtype=torch.float64), values(-50, -20, 30, 100, 300)])
FLAT = even(-1, 3, 200)


def signs(p: int, seed: int, dtype: torch.dtype = torch.float64) -> Callable[[], Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return lambda: torch.randint(0, 2, (p,), generator=generator).to(dtype) * 2 - 1


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("sketch", [0, 10])
@pytest.mark.parametrize("eigenvalues", [LOW_RANK + 0.01 * even(0, 1, 195), FLAT], ids=["low rank", "flat"])
def test_the_trace_lies_within_three_standard_errors(eigenvalues: Tensor, sketch: int, dtype: torch.dtype) -> None:
    a = matrix(eigenvalues).to(dtype)
    found = trace(lambda v: a @ v, signs(len(a), 1, dtype), products=60, sketch=sketch)
    assert abs(found.value - float(eigenvalues.sum())) <= 3 * found.stderr
    assert found.products == 60 == found.probes + 2 * found.sketch


@pytest.mark.parametrize("sketch", [0, 8])
def test_the_standard_error_is_the_spread_of_repeated_runs(sketch: int) -> None:
    a = matrix(torch.cat([even(-1, 3, 195), values(20, 30, 40)]))
    runs = [trace(lambda v: a @ v, signs(len(a), seed), products=60, sketch=sketch) for seed in range(200)]
    found = torch.tensor([run.value for run in runs], dtype=torch.float64)
    claimed = torch.tensor([run.stderr for run in runs], dtype=torch.float64)
    # The spread of 200 runs is known to 5 %; what the sketch misses differs from run to run.
    assert float(found.std()) == pytest.approx(float(claimed.square().mean().sqrt()), rel=0.15)
    assert abs(float(found.mean()) - float(a.trace())) <= 3 * float(found.std()) / 200**0.5


def test_a_sketch_that_holds_the_range_is_exact() -> None:
    a = matrix(LOW_RANK)
    found = trace(lambda v: a @ v, signs(len(a), 1), products=40, sketch=8)
    assert found.sketch == 5
    assert found.value == pytest.approx(float(LOW_RANK.sum()), rel=1e-12)
    assert found.stderr < 1e-10


def test_a_sketch_pays_off_where_few_eigenvalues_dominate() -> None:
    a = matrix(LOW_RANK + even(0, 1, 195))
    plain = trace(lambda v: a @ v, signs(len(a), 1), products=60)
    sketched = trace(lambda v: a @ v, signs(len(a), 1), products=60, sketch=20)
    assert sketched.stderr < plain.stderr / 10


def test_probes_stop_at_the_standard_error_asked_for() -> None:
    a = matrix(FLAT)
    found = trace(lambda v: a @ v, signs(len(a), 1), products=2000, stderr=2.0)
    assert found.stderr <= 2.0 and 8 <= found.probes < 500
    assert trace(lambda v: a @ v, signs(len(a), 1), products=2000, stderr=0.5).probes > found.probes


def test_signs_on_a_diagonal_matrix_are_exact() -> None:
    d = even(1, 9, 30)
    found = trace(lambda v: d * v, signs(30, 1), products=8)
    assert found.value == pytest.approx(float(d.sum()), rel=1e-12)


def test_a_budget_without_probes_is_refused() -> None:
    with pytest.raises(ValueError, match="too few"):
        trace(lambda v: v, signs(9, 1), products=20, sketch=8)
