"""Sets of long orthonormal vectors, held as the rows of one matrix and changed in place.

Sums over entries run in the working dtype within a block and in float64 between blocks: their rounding does not grow
with the length of the vectors, and no operation needs a second copy of the set.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor

_BLOCK = 2**16


def rounding_level(size: int, dtype: torch.dtype) -> float:
    """Relative rounding eps·√(entries summed in `dtype`) of an inner product of vectors of `size` entries."""
    return torch.finfo(dtype).eps * math.sqrt(min(size, _BLOCK))


def overlaps(rows: Tensor, w: Tensor) -> Tensor:
    """The inner products (m,) of `w` (p,) with `rows` (m, p), float64 on the CPU."""
    if not len(rows):
        return torch.zeros(0, dtype=torch.float64)
    parts = [rows[:, where] @ w[where] for where in _blocks(len(w))]
    return torch.stack(parts).cpu().double().sum(0)


def norm(w: Tensor) -> float:
    """‖w‖ of `w` (p,), summed in float64."""
    parts = [torch.linalg.vector_norm(w[where].double()) for where in _blocks(len(w))]
    return float(torch.linalg.vector_norm(torch.stack(parts)))


def orthogonalise(rows: Tensor, w: Tensor) -> Tensor:
    """Take from `w` (p,), in place and twice, its part in the span of orthonormal `rows` (m, p).

    Returns the coefficients (m,) of that part. Twice is enough: Parlett 1998, section 6.9.
    """
    total = torch.zeros(len(rows), dtype=torch.float64)
    for _ in range(2 if len(rows) else 0):
        found = overlaps(rows, w)
        w.addmv_(rows.T, found.to(w), alpha=-1)
        total += found
    return total


def rotate(rows: Tensor, coefficients: Tensor) -> None:
    """Overwrite the first k of `rows` (m, p) by the combinations `coefficients`ᵀ·rows, for `coefficients` (m, k)."""
    m, k = coefficients.shape
    mixing = coefficients.T.to(rows)
    for where in _blocks(rows.shape[1]):
        rows[:k, where] = mixing @ rows[:m, where]


def _blocks(size: int) -> Iterator[slice]:
    for first in range(0, size, _BLOCK):
        yield slice(first, min(first + _BLOCK, size))
