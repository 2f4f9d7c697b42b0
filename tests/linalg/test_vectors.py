"""Orthogonalisation: what is left is orthogonal to rounding, and what was taken is known."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from spectral_audit.linalg import vectors


def rows(m: int, p: int, dtype: torch.dtype) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.linalg.qr(torch.randn(p, m, generator=generator, dtype=torch.float64))[0].T.to(dtype).contiguous()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("outside", [1.0, 1e-3])
@pytest.mark.parametrize("m", [0, 1, 2, 40])
def test_what_is_left_is_orthogonal_and_what_was_taken_is_known(m, outside, dtype):
    basis, generator = rows(m, 500, dtype), torch.Generator().manual_seed(1)
    inside = torch.randn(m, generator=generator, dtype=torch.float64).to(dtype)
    w = basis.T @ inside + outside * torch.randn(500, generator=generator, dtype=torch.float64).to(dtype) / 500**0.5
    left = w.clone()
    found = vectors.orthogonalise(basis, left)
    eps = vectors.rounding_level(500, dtype)
    assert float((basis @ left).abs().sum()) <= 20 * eps * float(left.norm())
    assert float((basis.T @ found.to(dtype) + left - w).norm()) <= 20 * eps * float(w.norm())


def test_one_pass_is_enough_where_the_last_two_rows_hold_all_there_is(monkeypatch):
    passes = []
    taken = vectors._taken
    monkeypatch.setattr(vectors, "_taken", lambda held, w: passes.append(len(held)) or taken(held, w))
    basis, generator = rows(41, 500, torch.float64), torch.Generator().manual_seed(1)
    held, next_one = basis[:-1], basis[-1]
    vectors.orthogonalise(held, 3 * held[-1] + 2 * held[-2] + next_one)
    assert passes == [2, 40]
    passes.clear()
    vectors.orthogonalise(held, held.T @ torch.randn(40, generator=generator, dtype=torch.float64) + next_one)
    assert passes == [2, 40, 40]
