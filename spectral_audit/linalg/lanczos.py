"""Lanczos with full reorthogonalisation: extreme eigenvalues of a symmetric operator, each with its residual.

Every new vector is orthogonalised against all held ones, to rounding, so that no ghost copies of converged eigenvalues
appear; a run stops on the residuals it was asked for and not after a number of steps. One piece of code makes plain
runs, runs in bounded memory (thick restarts) and runs from several vectors: it keeps an orthonormal basis V, whose
products are known, and orthonormal `pending` vectors U, whose products are not, such that

    A V = V T + U B,    T = VᵀAV symmetric, B (pending, m).

A step moves a vector of U to V and multiplies it; what its product has outside of both becomes a new pending vector.
With one start vector U has one column and T is tridiagonal, which is Lanczos. A restart replaces V by some of its Ritz
vectors V S and B by B S, and the equation still holds. For Ritz pairs (θ, V s) of T always ‖A V s − θ V s‖ = ‖B s‖.

Source: Paige 1980, "Accuracy and effectiveness of the Lanczos algorithm for the symmetric eigenproblem"; Wu & Simon
2000, "Thick-restart Lanczos method for large symmetric eigenvalue problems"; Parlett 1998, "The Symmetric Eigenvalue
Problem", chapters 11 and 13.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor

from .vectors import norm, orthogonalise, rotate, rounding_level

Matvec = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Ritz:
    """Ritz values of one Lanczos run, ascending.

    `values` (m,) and `residuals` (m,) are float64: a true eigenvalue lies within each residual. `weights` (m,) are the
    squared first components, the quadrature weights of the start vector; `None` after a restart or from several start
    vectors, where there is no such quadrature. `basis` (m, p) and `rotation` (m, m) give the Ritz vectors.
    `rounding` is the part of every residual that is due to the working dtype. `exhausted` says that the space became
    invariant: the values are then exact for this start. `asymmetry` is the largest |vᵢᵀA vⱼ − vⱼᵀA vᵢ| relative to
    max|θ|: rounding, or a wrong operator.

    Nothing here can tell of an eigenvector that is orthogonal to the start: start from random vectors.
    """

    values: Tensor
    residuals: Tensor
    weights: Tensor | None
    basis: Tensor
    rotation: Tensor
    rounding: float
    products: int
    exhausted: bool
    asymmetry: float

    def vector(self, *indices: int) -> Tensor:
        """The Ritz vector (p,) of `values[index]`, or the sum of several, normalised."""
        v = self.basis.T @ self.rotation[:, list(indices)].sum(1).to(self.basis)
        return v.div_(v.norm())


def without_vectors(ritz: Ritz) -> Ritz:
    """The same values without the basis, which takes m vectors of memory."""
    return replace(ritz, basis=ritz.basis.new_empty((0, ritz.basis.shape[1])))


def lanczos(
    matvec: Matvec,
    start: Tensor,
    *,
    steps: int,
    converged: Callable[[Ritz], bool] = lambda ritz: False,
    check_every: int = 1,
    max_basis: int | None = None,
    wanted: tuple[int, int] = (1, 1),
) -> Ritz:
    """Run Lanczos on the symmetric operator `matvec` from `start` (p,) or (b, p) for at most `steps` products.

    Stops early when `converged` says so (asked every `check_every` products) or when the space is invariant. Residuals
    are ‖A V s − θ V s‖ plus the rounding level of the working dtype, eps·√min(p, 2¹⁶)·max|θ|·√(1 + restarts).

    At most `max_basis` vectors of p entries are held (besides one product), else `steps` + b; when they are full, the
    run restarts from the Ritz vectors of the `wanted` (lowest, highest) values and of half of the others. Of b start
    vectors the products come first; then every step follows the largest residual among the wanted Ritz vectors. Raises
    `ValueError` for a zero start, or when `max_basis` leaves no room to proceed.
    """
    count, size = start.shape if start.ndim == 2 else (1, len(start))
    room = min(steps + count, size + 1)
    if max_basis is not None and max_basis < room:
        room = max_basis
        if room < sum(wanted) + count + 2:
            raise ValueError(f"max_basis {max_basis} is too small for {sum(wanted)} pairs from {count} vectors")
    state = _Projection(start.view(count, size), room)
    del start  # its memory may be needed
    while True:
        if state.is_full():
            state.restart(wanted)
        if state.products >= count:
            state.aim(wanted)
        state.expand(matvec)
        last = state.pending == 0 or state.products == steps
        if last or state.products % check_every == 0:
            ritz = state.ritz()
            if last or converged(ritz):
                return ritz


class _Projection:
    """The state A V = V T + U B of a run; V and U are consecutive rows of one buffer, T and B are float64 on the CPU.

    `lost` are the rows of B whose vectors were dropped because they are rounding: residuals still count them.
    """

    def __init__(self, block: Tensor, room: int) -> None:
        self.rows = block.new_empty((room, block.shape[1]))
        self.size = self.pending = self.products = 0
        self._single = len(block) == 1
        self._matrix = torch.zeros((0, 0), dtype=torch.float64)
        self._scale = self._stray = 0.0
        self._restarts = 0
        self._rounding = rounding_level(block.shape[1], block.dtype)
        for vector in block:
            self._append(vector, norm(vector))
        if not self.pending:
            raise ValueError("the start is zero")
        self._coupling = torch.zeros((self.pending, 0), dtype=torch.float64)
        self._lost = torch.zeros((0, 0), dtype=torch.float64)

    def is_full(self) -> bool:
        """True where the next product would have no row."""
        return self.size + self.pending == len(self.rows)

    def expand(self, matvec: Matvec) -> None:
        """Move the first pending vector u to the basis and multiply it."""
        m, held = self.size, self.size + self.pending
        known = self._coupling[0]
        product = matvec(self.rows[m])
        self.size, self.pending, self.products = m + 1, self.pending - 1, self.products + 1
        found, beta, kept = self._append(product, self._scale)
        if m:
            self._stray = max(self._stray, float((found[:m] - known).abs().max()))
        self._matrix = _bordered(self._matrix, known, found[m])
        self._scale = max(self._scale, abs(float(found[m])), beta)
        rest = torch.cat([self._coupling[1:], found[m + 1 : held, None]], 1)
        new = torch.zeros((1, m + 1), dtype=torch.float64)
        new[0, m] = beta
        self._coupling = torch.cat([rest, new]) if kept else rest
        self._lost = torch.cat([self._lost, torch.zeros((len(self._lost), 1), dtype=torch.float64)], 1)
        if not kept:
            self._lost = torch.cat([self._lost, new])

    def aim(self, wanted: tuple[int, int]) -> None:
        """Reflect U so that its first vector is the direction of the largest residual of the wanted Ritz vectors."""
        if self.pending < 2:
            return
        _, rotation = torch.linalg.eigh(self._matrix)
        pull = self._coupling @ rotation[:, _ends(self.size, *wanted)]
        direction = pull[:, int(pull.norm(dim=0).argmax())]
        if not direction.any():
            return
        mirror = direction / direction.norm()
        mirror[0] += 1.0 if mirror[0] >= 0 else -1.0
        mirror /= mirror.norm()
        vectors = self.rows[self.size : self.size + self.pending]
        h = mirror.to(vectors)
        vectors.addr_(h, h @ vectors, alpha=-2)
        self._coupling -= 2 * torch.outer(mirror, mirror @ self._coupling)

    def restart(self, wanted: tuple[int, int]) -> None:
        """Keep the Ritz vectors of the wanted values and of half of the others, next to them, in V's place."""
        values, rotation = torch.linalg.eigh(self._matrix)
        low, high = wanted
        more = (self.size - low - high) // 2
        more_low = more * low // (low + high)
        kept = _ends(self.size, low + more_low, high + more - more_low)
        rotation = rotation[:, kept]
        rotate(self.rows[: self.size], rotation)
        for k in range(self.pending):
            self.rows[len(kept) + k] = self.rows[self.size + k]
        self.size = len(kept)
        self._matrix = torch.diag(values[kept])
        self._coupling, self._lost = self._coupling @ rotation, self._lost @ rotation
        self._restarts += 1

    def ritz(self) -> Ritz:
        """The Ritz pairs now."""
        values, rotation = torch.linalg.eigh(self._matrix)
        largest = float(values.abs().max())
        # Every restart rounds the kept vectors once more.
        rounding = self._rounding * (1 + self._restarts) ** 0.5 * largest
        outside = (torch.cat([self._coupling, self._lost]) @ rotation).norm(dim=0)
        return Ritz(
            values=values,
            residuals=outside + rounding,
            weights=rotation[0] ** 2 if self._single and not self._restarts else None,
            basis=self.rows[: self.size],
            rotation=rotation,
            rounding=rounding,
            products=self.products,
            exhausted=not self.pending,
            asymmetry=self._stray / largest if largest else 0.0,
        )

    def _append(self, vector: Tensor, scale: float) -> tuple[Tensor, float, bool]:
        """Add what `vector` has outside of V and U to U, unless that is rounding beside `scale` or the vector's length.

        Returns the coefficients inside (size + pending,), the length outside, and whether it was added.
        """
        held = self.size + self.pending
        new = self.rows[held]
        new.copy_(vector)
        found = orthogonalise(self.rows[:held], new)
        length = norm(new)
        limit = 10 * self._rounding * max(scale, float(found.norm()), length)
        kept = held < len(new) and not length <= limit
        if kept:
            new /= length
            self.pending += 1
        return found, length, kept


def _bordered(matrix: Tensor, border: Tensor, corner: Tensor) -> Tensor:
    """[[M, b], [bᵀ, c]]."""
    return torch.cat([torch.cat([matrix, border[:, None]], 1), torch.cat([border, corner[None]])[None]])


def _ends(count: int, low: int, high: int) -> list[int]:
    """The indices of the `low` first and the `high` last of `count`, each once."""
    return sorted({*range(min(low, count)), *range(max(0, count - high), count)})


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


def errors(ritz: Ritz) -> Tensor:
    """Bounds (m,) on the distance of each Ritz value to an eigenvalue: min(r, r²/gap), never below the rounding level.

    The gap is the distance to the nearest other Ritz value less that one's residual, and counts where it is positive
    (a single Ritz value has none).
    Like the residual this knows only of eigenvectors that the start has a part of; the second form also presupposes
    that each eigenvalue near the value has its own Ritz value, true once residuals are small beside gaps.

    Source: Kato & Temple; Parlett 1998, section 11.7.
    """
    away = (ritz.values[:, None] - ritz.values).abs() - ritz.residuals
    gap = away.fill_diagonal_(torch.inf).amin(1)
    known = (gap > 0) & gap.isfinite()
    squared = torch.where(known, ritz.residuals**2 / gap, torch.inf)
    return torch.minimum(ritz.residuals, squared).clamp_min(ritz.rounding)


def top_converged(
    count: int, tolerance: float, end: Literal["largest", "modulus"] = "largest"
) -> Callable[[Ritz], bool]:
    """A stopping rule: each of the `count` largest Ritz values (by value, or by modulus) has an error bound of at most
    `tolerance` times its modulus; by modulus, no end of the spectrum among the others can overtake them."""

    def rule(ritz: Ritz) -> bool:
        size = ritz.values.abs() if end == "modulus" else ritz.values
        if len(size) < count:
            return False
        order = size.argsort(descending=True)
        chosen, others = order[:count], order[count:].tolist()
        settled = bool((errors(ritz)[chosen] <= tolerance * ritz.values[chosen].abs()).all())
        if end == "largest" or not settled:
            return settled
        reach = [float(size[k] + ritz.residuals[k]) for k in others if k in (0, len(size) - 1)]
        return max(reach, default=0.0) <= float(size[chosen[-1]]) * (1 + tolerance)

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
