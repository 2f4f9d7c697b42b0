"""Stochastic Lanczos quadrature: spectral sums and a smoothed density from Lanczos runs with random starts.

For a random unit vector v, tr f(A) ≈ p·vᵀf(A)v ≈ p Σ_k w_k f(θ_k), with Ritz values θ and quadrature weights w.

Source: Ubaru, Chen & Saad 2017, "Fast estimation of tr(f(A)) via stochastic Lanczos quadrature".
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from spectral_audit.results import Density

from .lanczos import Ritz

_GRID = 160
# Steps over which the entropy's swing is watched.
_SWING = 6


@dataclass(frozen=True)
class Quadrature:
    """Nodes (m,) and weights (m,), summing to one, of one run."""

    nodes: Tensor
    weights: Tensor


@dataclass(frozen=True)
class Sums:
    """Estimates for the whole spectrum: Σλ², and the entropy of |λ|/Σ|λ| in nats with its standard error."""

    squares: float
    entropy: float
    entropy_stderr: float


def spectral_sums(runs: Sequence[Quadrature], size: int) -> Sums:
    """Sums over all `size` eigenvalues.

    The standard error follows from the quadrature itself: for v uniform on the sphere
    Var(p vᵀFv) = 2p²/(p+2)·(tr F²/p − (tr F/p)²), with F the influence function of the entropy.
    """
    nodes = torch.cat([r.nodes for r in runs])
    weights = torch.cat([r.weights for r in runs]) / len(runs)
    modulus = nodes.abs()
    logarithm = torch.special.xlogy(modulus, modulus)
    total = size * float(weights @ modulus)
    squares = size * float(weights @ nodes.square())
    if total == 0:
        return Sums(squares, 0.0, 0.0)
    weighted = size * float(weights @ logarithm)
    entropy = math.log(total) - weighted / total
    influence = modulus * (1 / total + weighted / total**2) - logarithm / total
    variance = float(weights @ influence.square()) - float(weights @ influence) ** 2
    stderr = size * math.sqrt(max(0.0, variance) * 2 / (size + 2) / len(runs))
    return Sums(squares, entropy, stderr)


def settled_sums(runs: Sequence[Ritz], size: int) -> Sums:
    """Sums over the whole spectrum of an indefinite operator, with the error of the quadrature in the standard error.

    |λ| log |λ| has a kink at zero, where most eigenvalues of a large Hessian are, so that the entropy of m nodes swings
    with m. Every run holds the quadratures of its first m − 1, m − 2, … steps too: the middle of their entropies is the
    estimate, and half their range is added to the standard error.
    """
    shortest = min(len(r.values) for r in runs)
    depth = 1 if all(r.exhausted for r in runs) else min(_SWING, shortest)
    found = [spectral_sums([_leading(r, len(r.values) - k) for r in runs], size) for k in range(depth)]
    entropies = [sums.entropy for sums in found]
    middle, half = (max(entropies) + min(entropies)) / 2, (max(entropies) - min(entropies)) / 2
    return Sums(found[0].squares, middle, math.hypot(found[0].entropy_stderr, half))


def quadratures(runs: Sequence[Ritz]) -> list[Quadrature]:
    """The quadratures of plain runs."""
    return [_leading(r, len(r.values)) for r in runs]


def _leading(ritz: Ritz, steps: int) -> Quadrature:
    """The quadrature after the first `steps` steps of a plain run."""
    matrix = (ritz.rotation * ritz.values) @ ritz.rotation.T
    values, rotation = torch.linalg.eigh(matrix[:steps, :steps])
    return Quadrature(values, rotation[0].square())


def density(runs: Sequence[Quadrature]) -> Density:
    """The quadrature's point masses smoothed by Gaussians of 1 % of the spectrum's width, on an even grid."""
    low = min(float(r.nodes.min()) for r in runs)
    high = max(float(r.nodes.max()) for r in runs)
    span = (high - low) or abs(high) or 1.0
    width = span / 100
    grid = torch.linspace(low - 3 * width, high + 3 * width, _GRID, dtype=torch.float64)
    total = torch.zeros(_GRID, dtype=torch.float64)
    for run in runs:
        bells = torch.exp(-0.5 * ((grid[:, None] - run.nodes[None, :]) / width) ** 2)
        total += bells @ run.weights / (width * math.sqrt(2 * math.pi))
    steps = max(len(r.nodes) for r in runs)
    return Density(tuple(grid.tolist()), tuple((total / len(runs)).tolist()), len(runs), steps, width)
