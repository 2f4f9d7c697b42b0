"""Lanczos on many small symmetric operators at once, one per sample."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

# Maps (m, d) to (m, d): row i is multiplied by the i-th operator.
BatchedMatvec = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class BatchedRitz:
    """One Lanczos run of k steps for each of m operators A_i.

    `top` (m,) is the largest modulus of a Ritz value, `residual` (m,) its residual and `vector` (m, d) its unit vector;
    `values` and `weights` (m, k) are the quadrature of the start vector; `basis` V (m, k, d); `captured` (m,) is
    ‖A_i V_i‖_F². All but the vector and the basis are float64.
    """

    top: Tensor
    residual: Tensor
    vector: Tensor
    values: Tensor
    weights: Tensor
    basis: Tensor
    captured: Tensor


def batched_lanczos(product: BatchedMatvec, start: Tensor, steps: int) -> BatchedRitz:
    """At most `steps` Lanczos steps with full reorthogonalisation, from unit vectors `start` (m, d).

    A sample whose Krylov space closes early goes on with zero vectors, which add zero eigenvalues and no weight.
    """
    m, d = start.shape
    steps = min(steps, d)
    basis = [start]
    captured = torch.zeros(m, dtype=torch.float64, device=start.device)
    tridiagonal = torch.zeros((m, steps, steps), dtype=torch.float64, device=start.device)
    eps = torch.finfo(start.dtype).eps
    beta = start.new_zeros(m)
    for k in range(steps):
        w = product(basis[k])
        captured += w.double().square().sum(1)
        tridiagonal[:, k, k] = (basis[k].double() * w.double()).sum(1)
        stacked = torch.stack(basis, 1)
        for _ in range(2):
            w = w - ((stacked @ w[:, :, None]).mT @ stacked)[:, 0]
        beta = w.norm(dim=1)
        scale = tridiagonal.abs().amax((1, 2)).to(beta)
        beta = torch.where(beta > 100 * eps * scale, beta, torch.zeros_like(beta))
        if k + 1 < steps:
            tridiagonal[:, k, k + 1] = tridiagonal[:, k + 1, k] = beta.double()
            safe = beta.clamp_min(torch.finfo(beta.dtype).tiny)
            basis.append(torch.where(beta[:, None] > 0, w / safe[:, None], 0.0))
    values, vectors = torch.linalg.eigh(tridiagonal)
    top, index = values.abs().max(dim=1)
    last = vectors[:, -1].gather(1, index[:, None])[:, 0].abs() if steps < d else torch.zeros_like(top)
    rounding = eps * d**0.5 * top
    residual = ((last * beta.double()).square() + rounding.square()).sqrt()
    whole = torch.stack(basis, 1)
    chosen = vectors.gather(2, index[:, None, None].expand(-1, steps, 1)).to(whole)
    vector = (whole.mT @ chosen)[:, :, 0]
    return BatchedRitz(top, residual, vector, values, vectors[:, 0].square(), whole, captured)
