"""Traces of the loss Hessian: its Gauss–Newton part exactly, what is left by random probes, none where nothing is left.

In a model that is linear in each single weight H and the Gauss–Newton matrix share their diagonal. Otherwise the rest
R = H − (1/n) Σ G_iᵀS_iG_i is estimated: plain probes first, then, where these do not settle it, with the span of R on a
few random vectors taken exactly (Hutch++), so that only what a low-rank approximation leaves is left to chance.

Source: Meyer, Musco, Musco & Woodruff 2021, "Hutch++: optimal stochastic trace estimation".
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from spectral_audit.lenses.directional import QuadraticForms
from spectral_audit.lenses.outputspace import OutputFactor
from spectral_audit.lenses.space import HessianProducts, ParameterSpace
from spectral_audit.linalg.vectors import norm, orthogonalise

_TOLERANCE = 0.01
_MIN_PROBES, _MAX_PROBES = 8, 30
# What two traces take at least.
DIRECTIONS = 2 * _MIN_PROBES
_SKETCH = 6
# Parameters up to which the diagonal is taken entry by entry.
_FEW = 64


def residual_trace(
    products: HessianProducts, forms: QuadraticForms, scale: Tensor, generator: torch.Generator
) -> Tensor:
    """Estimates (probes, n) of tr(sR_is) for every sample, R_i = ∇²ℓ_i − G_iᵀS_iG_i and `scale` s (p,).

    Probes are drawn until the standard error of the mean is 1 % of tr(s∇²Ls) or their number runs out. For few
    parameters the diagonal is taken entry by entry: one exact row (1, n).
    """
    if forms.space.size <= _FEW:
        return torch.stack([forms(row)[1] for row in torch.diag(scale)]).sum(0, keepdim=True)
    plain = _probes(forms, scale, generator, scale.new_zeros((0, len(scale))), _MIN_PROBES)
    if plain.settled:
        return plain.rest
    q = _range(forms.space, products, scale, generator)
    known = torch.stack([forms(scale * row)[1] for row in q]).sum(0)
    return known + _probes(forms, scale, generator, q, _MAX_PROBES).rest


@dataclass(frozen=True)
class _Probes:
    rest: Tensor
    settled: bool


def _probes(forms: QuadraticForms, scale: Tensor, generator: torch.Generator, q: Tensor, most: int) -> _Probes:
    """zᵀsR_isz (probes, n) for random signs z outside of the span of `q` (k, p), at most `most` of them."""
    rest: list[Tensor] = []
    total: list[float] = []
    settled = False
    while len(rest) < most and not settled:
        z = _orthogonalised(q, forms.space.random_signs(generator))
        gauss_newton, remainder = forms(scale * z)
        rest.append(remainder)
        total.append(float((gauss_newton + remainder).mean()))
        mean = sum(total) / len(total)
        settled = len(rest) >= _MIN_PROBES and probe_error(torch.stack(rest)) <= _TOLERANCE * abs(mean)
    return _Probes(torch.stack(rest), settled)


def _orthogonalised(q: Tensor, v: Tensor) -> Tensor:
    """`v` without its part in the span of the orthonormal rows `q`."""
    orthogonalise(q, v)
    return v


def _range(space: ParameterSpace, products: HessianProducts, scale: Tensor, generator: torch.Generator) -> Tensor:
    """Orthonormal rows (k, p) that span sRs on random signs."""
    subject = space.subject
    factor = OutputFactor(subject.loss, subject.all_outputs())
    rows = scale.new_empty((_SKETCH, space.size))
    held = 0
    for _ in range(_SKETCH):
        z = space.random_signs(generator).mul_(scale)
        curved = factor.transposed(factor(space.push_forward(z)))
        row = rows[held].copy_(products(z))
        row.sub_(space.pull_back(curved), alpha=1 / subject.n).mul_(scale)
        size = norm(row)
        orthogonalise(rows[:held], row)
        if (left := norm(row)) > 1e-3 * size:
            row /= left
            held += 1
    return rows[:held]


def probe_error(estimates: Tensor | None) -> float:
    """Standard error over probes of the mean over samples; 0 where nothing was estimated."""
    if estimates is None or len(estimates) < 2:
        return 0.0
    means = estimates.mean(1)
    return float(means.std() / len(means) ** 0.5)
