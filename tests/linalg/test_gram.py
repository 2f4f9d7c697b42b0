"""Sums of scaled Gram matrices against forming every row."""

from __future__ import annotations

import pytest
import torch

from spectral_audit.linalg.gram import GramSum, by_halves, symmetric_product, widths

CPU = torch.device("cpu")


def draw(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("n", [1, 2, 7, 8, 9, 23])
@pytest.mark.parametrize("c", [1, 3])
def test_dense_rows(n: int, c: int) -> None:
    d, e = draw(n, c, 11), draw(n, c, 4, seed=1)
    sums = GramSum(n, c, 2, device=CPU)
    sums.add_dense(d, (1.0, 0.5))
    sums.add_dense(e, (1.0, 0.0))
    first, second = sums.matrices
    kd, ke = (t.reshape(n * c, -1) @ t.reshape(n * c, -1).T for t in (d, e))
    torch.testing.assert_close(first, kd + ke)
    torch.testing.assert_close(second, 0.5 * kd)


@pytest.mark.parametrize("n", [1, 2, 9, 23])
@pytest.mark.parametrize("c", [1, 3])
@pytest.mark.parametrize("s", [1, 4])
@pytest.mark.parametrize("memory", [1, 2**30])
def test_pairs_equal_the_rows_they_stand_for(n: int, c: int, s: int, memory: int) -> None:
    a, g = draw(n, s, 5), draw(n, c, s, 6, seed=1)
    rows = torch.einsum("ncso,nsi->ncoi", g, a).reshape(n * c, -1)
    sums = GramSum(n, c, 1, device=CPU)
    diagonal = sums.add_pairs(a, g, (2.0,), memory=memory)
    torch.testing.assert_close(sums.matrices[0], 2.0 * rows @ rows.T)
    torch.testing.assert_close(diagonal, rows.square().sum(1).view(n, c))


@pytest.mark.parametrize("r", [1, 2, 7, 80, 81, 200])
@pytest.mark.parametrize("q", [3, 600])
@pytest.mark.parametrize("product", [symmetric_product, by_halves])
def test_symmetric_products(product, r: int, q: int) -> None:
    d = draw(r, q)
    out = torch.full((r, r), torch.nan, dtype=torch.float64)
    torch.testing.assert_close(product(d, out), d @ d.T)


def test_large_products_go_to_the_rank_k_update(monkeypatch) -> None:
    monkeypatch.setattr("spectral_audit.linalg.gram._RANK_K", 0)
    d = draw(9, 5)[:, ::2]  # not contiguous
    torch.testing.assert_close(symmetric_product(d), d @ d.T)


def test_widths_cover_all_columns_within_the_memory() -> None:
    assert [(s.start, s.stop) for s in widths(10, 8, 32)] == [(0, 4), (4, 8), (8, 10)]
    assert [(s.start, s.stop) for s in widths(3, 8, 1)] == [(0, 1), (1, 2), (2, 3)]
