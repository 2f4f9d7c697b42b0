"""The trace of a symmetric operator from random probes, with its standard error.

For a random sign vector z, zᵀAz has mean tr A and variance 2(‖A‖_F² − Σ A_kk²) (Hutchinson). Hutch++ first takes the
part of A in the span of Q = orth(A S), S a few sign vectors, exactly:

    tr A = tr QᵀAQ + tr PAP,    P = I − QQᵀ,

so that only what a low-rank approximation leaves is estimated.

Source: Hutchinson 1990; Meyer, Musco, Musco & Woodruff 2021, "Hutch++: optimal stochastic trace estimation".
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from .lanczos import Matvec
from .vectors import norm, orthogonalise, overlaps, rounding_level

# Fewer probes do not tell their own spread.
_MIN_PROBES = 8


@dataclass(frozen=True)
class Trace:
    """An estimate of tr A and its standard error; `sketch` columns of Q were taken exactly, and `probes` drawn."""

    value: float
    stderr: float
    sketch: int
    probes: int
    products: int


def trace(matvec: Matvec, draw: Callable[[], Tensor], *, products: int, sketch: int = 0, stderr: float = 0.0) -> Trace:
    """Estimate tr A of the symmetric operator `matvec` with at most `products` products.

    `draw()` gives a new vector (p,) of independent random signs. The `sketch` takes two products for each of its
    vectors (none of them is Hutchinson's estimator; a third of the budget in all is Hutch++) and holds so many vectors;
    then probes are drawn until the standard error is at most `stderr` or the budget is spent. Raises `ValueError` for a
    budget that leaves fewer than 8 probes.
    """
    if products < 2 * sketch + _MIN_PROBES:
        raise ValueError(f"{products} products are too few for a sketch of {sketch} and {_MIN_PROBES} probes")
    q = _range(matvec, draw, sketch)
    known = sum(float(overlaps(row[None], matvec(row))) for row in q)
    spent = sketch + len(q)
    found: list[float] = []
    while spent + len(found) < products:
        z = draw().clone()
        orthogonalise(q, z)
        found.append(float(overlaps(z[None], matvec(z))))
        if len(found) >= _MIN_PROBES and _stderr(found) <= stderr:
            break
    return Trace(known + statistics.fmean(found), _stderr(found), len(q), len(found), spent + len(found))


def _range(matvec: Matvec, draw: Callable[[], Tensor], sketch: int) -> Tensor:
    """Orthonormal rows Q (k, p) that span A S, with k ≤ `sketch` where A has a lower rank."""
    like = draw()
    rows = like.new_empty((sketch, len(like)))
    held = 0
    for _ in range(sketch):
        row = rows[held].copy_(matvec(draw()))
        size = norm(row)
        orthogonalise(rows[:held], row)
        left = norm(row)
        if left > 10 * rounding_level(len(row), row.dtype) * size:
            row /= left
            held += 1
    return rows[:held]


def _stderr(samples: list[float]) -> float:
    return statistics.stdev(samples) / math.sqrt(len(samples))
