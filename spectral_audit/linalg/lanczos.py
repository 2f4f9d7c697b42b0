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

    `values` (m,) and `residuals` (m,) are float64: a true eigenvalue lies within each residual. `weights` (m,) are the
    squared first components, the quadrature weights of the start vector. `basis` (m, p) and `rotation` (m, m) give the
    Ritz vectors.
    `exhausted` says that the Krylov space became invariant: the values are then exact for this start vector.
    `asymmetry` is the largest |vᵢᵀA vⱼ| that symmetry says is zero, relative to max|θ|: rounding, or a wrong operator.
    """

    values: Tensor
    residuals: Tensor
    weights: Tensor
    basis: Tensor
    rotation: Tensor
    products: int
    exhausted: bool
    asymmetry: float

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
    scale = stray = 0.0
    for m in range(steps):
        w = matvec(basis[m])
        alphas.append(float(basis[m].double() @ w.double()))
        overlaps = basis[: m + 1] @ w
        if m > 1:
            stray = max(stray, float(overlaps[: m - 1].abs().max()))
        w = w - basis[: m + 1].T @ overlaps
        w = w - basis[: m + 1].T @ (basis[: m + 1] @ w)
        beta = float(w.double().norm())
        scale = max(scale, abs(alphas[-1]), beta)
        exhausted = beta <= 10 * eps * scale * p**0.5 or m + 1 == p
        betas.append(0.0 if exhausted else beta)
        last = exhausted or m + 1 == steps
        if last or (m + 1) % check_every == 0:
            ritz = _ritz(alphas, betas, basis[: m + 1], exhausted, stray)
            if last or converged(ritz):
                return ritz
        basis[m + 1] = w / beta
    raise AssertionError("unreachable: the last step returns")


def _ritz(alphas: list[float], betas: list[float], basis: Tensor, exhausted: bool, stray: float) -> Ritz:
    m, p = basis.shape
    tridiagonal = torch.diag(torch.tensor(alphas, dtype=torch.float64))
    off = torch.tensor(betas[:-1], dtype=torch.float64)
    tridiagonal += torch.diag(off, 1) + torch.diag(off, -1)
    values, rotation = torch.linalg.eigh(tridiagonal)
    largest = float(values.abs().max())
    rounding = torch.finfo(basis.dtype).eps * p**0.5 * largest
    residuals = ((betas[-1] * rotation[-1]) ** 2 + rounding**2).sqrt()
    return Ritz(values, residuals, rotation[0] ** 2, basis, rotation, m, exhausted, stray / largest if largest else 0.0)


def ends_converged(tolerance: float) -> Callable[[Ritz], bool]:
    """A stopping rule: the residuals at both ends are at most `tolerance` times the largest modulus."""

    def rule(ritz: Ritz) -> bool:
        worst = max(float(ritz.residuals[0]), float(ritz.residuals[-1]))
        return len(ritz.values) > 1 and worst <= tolerance * float(ritz.values.abs().max())

    return rule


def dominant_converged(tolerance: float) -> Callable[[Ritz], bool]:
    """A stopping rule: the residual of the eigenvalue of largest modulus is at most `tolerance` times it, and the other
    end of the spectrum cannot overtake it."""

    def rule(ritz: Ritz) -> bool:
        top, k = ritz.values.abs().max(dim=0)
        other = 0 if int(k) else -1
        rest = abs(float(ritz.values[other])) + float(ritz.residuals[other]) if len(ritz.values) > 1 else 0.0
        return float(ritz.residuals[k]) <= tolerance * float(top) and rest <= float(top) * (1 + tolerance)

    return rule


def largest_eigenpair(matrix: Tensor, generator: torch.Generator, *, tolerance: float = 1e-10) -> tuple[float, Tensor]:
    """λmax and its eigenvector (R,) of a dense symmetric positive semidefinite `matrix` (R, R)."""
    start = torch.randn(matrix.shape[0], generator=generator, dtype=torch.float64).to(matrix)
    ritz = lanczos(
        lambda v: matrix @ v,
        start,
        steps=min(matrix.shape[0], 300),
        converged=lambda r: bool(r.residuals[-1] <= tolerance * r.values[-1]),
        check_every=4,
    )
    return float(ritz.values[-1]), ritz.vector(-1)
