"""Sums of scaled Gram matrices against forming every row."""

from __future__ import annotations

import pytest
import torch

from spectral_audit.linalg.gram import GramSum

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
    first, second = sums.matrices()
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
    torch.testing.assert_close(sums.matrices()[0], 2.0 * rows @ rows.T)
    torch.testing.assert_close(diagonal, rows.square().sum(1).view(n, c))
