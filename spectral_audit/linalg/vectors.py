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
# A pass of orthogonalisation that leaves less than this part of a vector has left rounding beside it: another follows.
_CANCELLED = 0.5**0.5
_MAX_PASSES = 3


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
    """Take from `w` (p,), in place, its part in the span of orthonormal `rows` (m, p), until no pass takes much.

    Returns the coefficients (m,) of that part. Long vectors cost what reading them costs, hence the last two rows come
    first: what a Lanczos step has along them is most of what there is, and one pass over all rows is then enough; else
    two are. Source: Parlett 1998, sections 6.9 and 13.7.
    """
    total = torch.zeros(len(rows), dtype=torch.float64)
    if not len(rows):
        return total
    total[-2:] += _taken(rows[-2:], w)
    length = norm(w)
    for _ in range(_MAX_PASSES):
        total += _taken(rows, w)
        before, length = length, norm(w)
        if length >= _CANCELLED * before:
            break
    return total


def _taken(rows: Tensor, w: Tensor) -> Tensor:
    """The coefficients (m,) of what one pass has taken from `w`."""
    found = overlaps(rows, w)
    w.addmv_(rows.T, found.to(w), alpha=-1)
    return found


def rotate(rows: Tensor, coefficients: Tensor) -> None:
    """Overwrite the first k of `rows` (m, p) by the combinations `coefficients`ᵀ·rows, for `coefficients` (m, k)."""
    m, k = coefficients.shape
    mixing = coefficients.T.to(rows)
    for where in _blocks(rows.shape[1]):
        rows[:k, where] = mixing @ rows[:m, where]


def _blocks(size: int) -> Iterator[slice]:
    for first in range(0, size, _BLOCK):
        yield slice(first, min(first + _BLOCK, size))
