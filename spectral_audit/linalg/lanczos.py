"""Lanczos with full reorthogonalisation: extreme eigenvalues of a symmetric operator, each with its residual.

The Krylov basis is orthogonalised twice against all earlier vectors in every step, so that no ghost copies of
converged eigenvalues appear; the run stops on the residuals it was asked for and not after a number of steps.

Source: Paige 1980, "Accuracy and effectiveness of the Lanczos algorithm for the symmetric eigenproblem"; Parlett 1998,
"The Symmetric Eigenvalue Problem", chapters 11 and 13.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

Matvec = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Ritz:
    """Ritz values of one Lanczos run, ascending.

    `values` (m,) and `residuals` (m,) are float64: a true eigenvalue lies within each residual. `bounds` (m,) is the
    sharper min(r, r²/gap) for values separated from their neighbours by `gap`. `weights` (m,) are the squared first
    components, the quadrature weights of the start vector. `basis` (m, p) and `rotation` (m, m) give the Ritz vectors.
    `exhausted` says that the Krylov space became invariant: the values are then exact for this start vector.
    """

    values: Tensor
    residuals: Tensor
    bounds: Tensor
    weights: Tensor
    basis: Tensor
    rotation: Tensor
    products: int
    exhausted: bool

    def vector(self, index: int) -> Tensor:
        """The normalised Ritz vector (p,) of `values[index]`."""
        v = self.basis.T @ self.rotation[:, index].to(self.basis)
        return v / v.norm()


def lanczos(
    matvec: Matvec,
    start: Tensor,
    *,
    steps: int,
    converged: Callable[[Ritz], bool] = lambda ritz: False,
    check_every: int = 1,
) -> Ritz:
    """Run Lanczos on the symmetric operator `matvec` from `start` (p,) for at most `steps` products.

    A V_m = V_m T_m + β_m v_{m+1} e_mᵀ; the Ritz pairs (θ, V s) of T_m have residual ‖A V s − θ V s‖ = β_m |s_m|, to
    which the rounding level eps·√p·max|θ| of the working dtype is added in quadrature. Stops early when `converged`
    says so (asked every `check_every` steps) or when the Krylov space is invariant.
    """
    p = start.numel()
    steps = min(steps, p)
    basis = start.new_empty((steps, p))
    basis[0] = start / start.norm()
    alphas: list[float] = []
    betas: list[float] = []
    eps = torch.finfo(start.dtype).eps
    scale = 0.0
    for m in range(steps):
        w = matvec(basis[m])
        alphas.append(float(basis[m].double() @ w.double()))
        for _ in range(2):
            w = w - basis[: m + 1].T @ (basis[: m + 1] @ w)
        beta = float(w.double().norm())
        scale = max(scale, abs(alphas[-1]), beta)
        exhausted = beta <= 10 * eps * scale * p**0.5 or m + 1 == p
        betas.append(0.0 if exhausted else beta)
        last = exhausted or m + 1 == steps
        if last or (m + 1) % check_every == 0:
            ritz = _ritz(alphas, betas, basis[: m + 1], exhausted)
            if last or converged(ritz):
                return ritz
        basis[m + 1] = w / beta
    raise AssertionError("unreachable: the last step returns")


def _ritz(alphas: list[float], betas: list[float], basis: Tensor, exhausted: bool) -> Ritz:
    m, p = basis.shape
    tridiagonal = torch.diag(torch.tensor(alphas, dtype=torch.float64))
    off = torch.tensor(betas[:-1], dtype=torch.float64)
    tridiagonal += torch.diag(off, 1) + torch.diag(off, -1)
    values, rotation = torch.linalg.eigh(tridiagonal)
    rounding = torch.finfo(basis.dtype).eps * p**0.5 * float(values.abs().max())
    residuals = ((betas[-1] * rotation[-1]) ** 2 + rounding**2).sqrt()
    bounds = torch.minimum(residuals, residuals**2 / _gaps(values, residuals))
    return Ritz(values, residuals, bounds, rotation[0] ** 2, basis, rotation, m, exhausted)


def _gaps(values: Tensor, residuals: Tensor) -> Tensor:
    """Distance of each Ritz value to its nearest neighbour's uncertainty interval (at least a tiny positive number)."""
    infinite = torch.full((1,), torch.inf, dtype=values.dtype)
    upper = torch.cat([values[1:] - residuals[1:] - values[:-1], infinite])
    lower = torch.cat([infinite, values[1:] - (values[:-1] + residuals[:-1])])
    return torch.minimum(upper, lower).clamp_min(torch.finfo(values.dtype).tiny)


def ends_converged(tolerance: float, *, floor: float = 0.0) -> Callable[[Ritz], bool]:
    """A stopping rule: both ends known to `tolerance` relative to themselves, or to `floor` relative to the largest."""

    def rule(ritz: Ritz) -> bool:
        if len(ritz.values) < 2:
            return False
        largest = float(ritz.values.abs().max())
        ends = ((float(ritz.values[k]), float(ritz.bounds[k])) for k in (0, -1))
        return all(bound <= max(tolerance * abs(value), floor * largest) for value, bound in ends)

    return rule


def dominant_converged(tolerance: float) -> Callable[[Ritz], bool]:
    """A stopping rule: the eigenvalue of largest modulus is known to `tolerance` and the other end cannot overtake it."""

    def rule(ritz: Ritz) -> bool:
        top, k = ritz.values.abs().max(dim=0)
        other = 0 if int(k) else -1
        rest = abs(float(ritz.values[other])) + float(ritz.residuals[other]) if len(ritz.values) > 1 else 0.0
        return float(ritz.bounds[k]) <= tolerance * float(top) and (other == int(k) or rest <= float(top) * (1 + tolerance))

    return rule


def largest_eigenpair(matrix: Tensor, generator: torch.Generator, *, tolerance: float = 1e-11) -> tuple[float, Tensor]:
    """λmax and its eigenvector (R,) of a dense symmetric positive semidefinite `matrix` (R, R)."""
    start = torch.randn(matrix.shape[0], generator=generator, dtype=torch.float64).to(matrix)
    ritz = lanczos(
        lambda v: matrix @ v,
        start,
        steps=min(matrix.shape[0], 300),
        converged=lambda r: bool(r.bounds[-1] <= tolerance * r.values[-1]),
        check_every=4,
    )
    return float(ritz.values[-1]), ritz.vector(-1)
