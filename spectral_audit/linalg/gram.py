"""Sums of scaled Gram matrices, each symmetric product computed once.

Rows are (sample, output) pairs, sample-major: row i·C + k. A term arrives as dense rows D (K = D Dᵀ) or as a pair of
factors whose rows are sums of outer products Σ_s g_s a_sᵀ (K = Σ_{s,t} (a_s·a_t)(g_s·g_t), never forming D). Every term
is added, with its own coefficients, to several float64 accumulators in one pass over the blocks of the upper triangle.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

# Blocks of the upper triangle: 8 leave 1/16 of the product computed twice, more make the products too thin to be fast.
_BLOCKS = 8


class GramSum:
    """Accumulates Σ_t c_t K_t for several coefficient sets at once.

    `samples` n and `outputs` C fix the size R = nC; `count` is the number of accumulators. `terms` counts
    multiply-adds, so that costs can be reported and predicted.
    """

    def __init__(self, samples: int, outputs: int, count: int, *, device: torch.device) -> None:
        self.samples, self.outputs = samples, outputs
        rows = samples * outputs
        self._sums = [torch.zeros(rows, rows, dtype=torch.float64, device=device) for _ in range(count)]

    def add_dense(self, rows: Tensor, coefficients: Sequence[float]) -> None:
        """Add c·D Dᵀ for `rows` D (n, C, q)."""
        d = rows.reshape(self.samples * self.outputs, -1)
        for here, onward in self._blocks(self._block_size()):
            self._add(here, onward, d[here] @ d[onward].T, coefficients)

    def add_pairs(self, a: Tensor, g: Tensor, coefficients: Sequence[float], *, memory: int) -> Tensor:
        """Add c·K for factors `a` (n, S, in) and `g` (n, C, S, out); returns the diagonal of K as (n, C) float64.

        K[(i,k),(j,l)] = Σ_{s,t} (a_is·a_jt)(g_iks·g_jlt). Intermediates stay below `memory` bytes.
        """
        n, s = self.samples, a.shape[1]
        per_sample = (self.outputs * s) * (n * self.outputs * s) * g.element_size() * 2
        block = max(1, min(self._block_size(), memory // max(1, per_sample)))
        diagonal = torch.empty(n, self.outputs, dtype=torch.float64, device=a.device)
        flat_a, flat_g = a.flatten(0, 1), g.flatten(0, 2)
        for here, onward in self._blocks(block):
            first, rest = here.start // self.outputs, n - onward.start // self.outputs
            count = (here.stop - here.start) // self.outputs
            inner_a = a[first : first + count].flatten(0, 1) @ flat_a[first * s :].T
            inner_g = g[first : first + count].flatten(0, 2) @ flat_g[onward.start * s :].T
            shape = (count, self.outputs, s, rest, self.outputs, s)
            product = inner_g.view(shape) * inner_a.view(count, 1, s, rest, 1, s)
            k = product.sum((2, 5)) if s > 1 else product[:, :, 0, :, :, 0]
            own = k[:, :, :count].diagonal(dim1=0, dim2=2).diagonal(dim1=0, dim2=1)
            diagonal[first : first + count] = own.double()
            self._add(here, onward, k.reshape(count * self.outputs, rest * self.outputs), coefficients)
        return diagonal

    def matrices(self) -> list[Tensor]:
        """The finished symmetric sums (R, R), in the order of the coefficients."""
        for total in self._sums:
            total.copy_(total.triu() + total.triu(1).T)
        return self._sums

    def _block_size(self) -> int:
        return max(1, -(-self.samples // _BLOCKS))

    def _blocks(self, samples: int) -> Iterator[tuple[slice, slice]]:
        rows = self.samples * self.outputs
        for first in range(0, rows, samples * self.outputs):
            yield slice(first, min(first + samples * self.outputs, rows)), slice(first, rows)

    def _add(self, here: slice, onward: slice, block: Tensor, coefficients: Sequence[float]) -> None:
        for total, c in zip(self._sums, coefficients, strict=True):
            if c:
                total[here, onward].add_(block, alpha=c)


def pair_cost(samples: int, outputs: int, positions: int, groups: int, fan_in: int, fan_out: int) -> int:
    """Multiply-adds of `add_pairs`, symmetric half only."""
    rows = samples * outputs
    return groups * positions**2 * (samples**2 * fan_in + rows**2 * (fan_out + 1)) // 2


def dense_cost(samples: int, outputs: int, positions: int, groups: int, fan_in: int, fan_out: int) -> int:
    """Multiply-adds of forming the rows Σ_s g_s a_sᵀ and of `add_dense`, symmetric half only."""
    rows = samples * outputs
    return groups * fan_in * fan_out * (rows * positions + rows**2 // 2)
