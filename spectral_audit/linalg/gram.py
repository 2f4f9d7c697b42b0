"""Sums of scaled Gram matrices, each symmetric product computed once.

Rows are (sample, output) pairs, sample-major: row i·C + k. A term arrives as dense rows D (K = D Dᵀ) or as a pair of
factors whose rows are sums of outer products Σ_s g_s a_sᵀ (K = Σ_{s,t} (a_s·a_t)(g_s·g_t), never forming D). Every term
is added, with its own coefficients, to several float64 accumulators.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

# Blocks of the upper triangle of a pairwise contraction: 8 leave 1/16 of it computed twice.
_BLOCKS = 8
# Halving stops at this many rows, where a general product is as fast.
_LEAF = 80
# Multiply-adds from which BLAS's rank-k update pays for waking numpy's threads next to torch's.
_RANK_K = 2e10


def symmetric_product(d: Tensor, out: Tensor | None = None) -> Tensor:
    """D Dᵀ (R, R) for `d` (R, q), at about half the multiplications of a general product; `out` is written over.

    Torch has no call for this. On a CPU numpy hands large ones to BLAS as the rank-k updates they are; everything else
    is halved: the block beside the diagonal by one general product, the two on it in the same way.
    """
    out = d.new_empty(len(d), len(d)) if out is None else out
    if d.device.type == "cpu" and len(d) ** 2 * d.shape[1] >= _RANK_K:
        rows = d.contiguous().numpy()
        np.dot(rows, rows.T, out=out.numpy())
        return out
    return by_halves(d, out)


def by_halves(d: Tensor, out: Tensor) -> Tensor:
    """D Dᵀ by one product for the off-diagonal block and its mirror image, and the same for both halves."""
    if len(d) <= _LEAF:
        out.copy_(d @ d.T)
        return out
    half = len(d) // 2
    block = d[:half] @ d[half:].T
    out[:half, half:] = block
    out[half:, :half] = block.T
    by_halves(d[:half], out[:half, :half])
    by_halves(d[half:], out[half:, half:])
    return out


class GramSum:
    """Accumulates Σ_t c_t K_t for several coefficient sets at once.

    `samples` n and `outputs` C fix the size R = nC; `count` is the number of accumulators, `matrices` (R, R) float64.
    """

    def __init__(self, samples: int, outputs: int, count: int, *, device: torch.device) -> None:
        self.samples, self.outputs = samples, outputs
        rows = samples * outputs
        self.matrices = [torch.zeros(rows, rows, dtype=torch.float64, device=device) for _ in range(count)]
        # Written over by every term: fresh memory of this size costs more than the sums.
        self._wide = torch.empty(rows, rows, dtype=torch.float64, device=device)
        self._narrow: Tensor | None = None

    def add_dense(self, rows: Tensor, coefficients: Sequence[float]) -> Tensor:
        """Add c·D Dᵀ for `rows` D (n, C, q); returns the diagonal of D Dᵀ as (n, C) float64."""
        k = symmetric_product(rows.reshape(self.samples * self.outputs, -1), self._scratch(rows))
        self._add(slice(None), slice(None), k, coefficients)
        return k.diagonal().double().view(self.samples, self.outputs)

    def add_pairs(self, a: Tensor, g: Tensor, coefficients: Sequence[float], *, memory: int) -> Tensor:
        """Add c·K for factors `a` (n, S, in) and `g` (n, C, S, out); returns the diagonal of K as (n, C) float64.

        K[(i,k),(j,l)] = Σ_{s,t} (a_is·a_jt)(g_iks·g_jlt). Intermediates stay below `memory` bytes where S > 1.
        """
        if a.shape[1] > 1:
            return self._add_positions(a, g, coefficients, memory)
        n, c = self.samples, self.outputs
        k = symmetric_product(g.reshape(n * c, -1), self._scratch(g)).view(n, c, n, c)
        k *= symmetric_product(a[:, 0])[:, None, :, None]
        k = k.view(n * c, n * c)
        self._add(slice(None), slice(None), k, coefficients)
        return k.diagonal().double().view(n, c)

    def _add_positions(self, a: Tensor, g: Tensor, coefficients: Sequence[float], memory: int) -> Tensor:
        n, c, s = self.samples, self.outputs, a.shape[1]
        per_sample = (c * s) * (n * c * s) * g.element_size() * 2
        block = max(1, min(-(-n // _BLOCKS), memory // max(1, per_sample)))
        diagonal = torch.empty(n, c, dtype=torch.float64, device=a.device)
        flat_a, flat_g = a.flatten(0, 1), g.flatten(0, 2)
        for first in range(0, n, block):
            count, rest = min(block, n - first), n - first
            inner_a = a[first : first + count].flatten(0, 1) @ flat_a[first * s :].T
            inner_g = g[first : first + count].flatten(0, 2) @ flat_g[first * c * s :].T
            product = inner_g.view(count, c, s, rest, c, s) * inner_a.view(count, 1, s, rest, 1, s)
            k = product.sum((2, 5))
            own = k[:, :, :count].diagonal(dim1=0, dim2=2).diagonal(dim1=0, dim2=1)
            diagonal[first : first + count] = own.double()
            self._add_panel(first * c, k.reshape(count * c, rest * c), coefficients)
        return diagonal

    def _add_panel(self, first: int, panel: Tensor, coefficients: Sequence[float]) -> None:
        """Add rows `first` onward of the upper triangle, and their mirror image below it."""
        height = len(panel)
        here, after = slice(first, first + height), slice(first + height, None)
        self._add(here, here, panel[:, :height], coefficients)
        self._add(here, after, panel[:, height:], coefficients)
        self._add(after, here, panel[:, height:].T, coefficients)

    def _add(self, rows: slice, columns: slice, block: Tensor, coefficients: Sequence[float]) -> None:
        wide = self._wide[: block.shape[0], : block.shape[1]].copy_(block)
        for total, c in zip(self.matrices, coefficients, strict=True):
            if c:
                total[rows, columns].add_(wide, alpha=c)

    def _scratch(self, like: Tensor) -> Tensor:
        if self._narrow is None or self._narrow.dtype != like.dtype:
            self._narrow = torch.empty_like(self._wide, dtype=like.dtype)
        return self._narrow


def widths(total: int, bytes_each: int, memory: int) -> Iterator[slice]:
    """Slices that cover `total` columns of `bytes_each`, as many at a time as `memory` bytes hold."""
    step = max(1, min(total, memory // max(1, bytes_each)))
    for first in range(0, total, step):
        yield slice(first, min(first + step, total))


def pair_cost(samples: int, outputs: int, positions: int, groups: int, fan_in: int, fan_out: int) -> int:
    """Multiply-adds of `add_pairs`, symmetric half only."""
    rows = samples * outputs
    return groups * positions**2 * (samples**2 * fan_in + rows**2 * (fan_out + 1)) // 2


def dense_cost(samples: int, outputs: int, positions: int, groups: int, fan_in: int, fan_out: int) -> int:
    """Multiply-adds of forming the rows Σ_s g_s a_sᵀ and of `add_dense`, symmetric half only."""
    rows = samples * outputs
    return groups * fan_in * fan_out * (rows * positions + rows**2 // 2)
