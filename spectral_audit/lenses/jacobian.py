"""The input Jacobian J_i = Qᵀ ∂f/∂x: its singular values at every sample."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from spectral_audit.linalg.measures import entropy
from spectral_audit.results import Spectrum
from spectral_audit.subject import Subject
from spectral_audit.sweep import Sweep


@dataclass(frozen=True)
class JacobianReading:
    """Per-sample norms (n,) float64 of J_i in the output basis, their spectrum, and the raw mean norm.

    `spectral` ‖J_i‖₂, `frobenius_squared` ‖J_i‖_F², `raw_norm` the mean over samples of ‖∂f/∂x‖₂ without a basis.
    """

    spectral: Tensor
    frobenius_squared: Tensor
    raw_norm: float
    spectrum: Spectrum


def read_jacobian(subject: Subject, sweep: Sweep, rounding: float) -> JacobianReading:
    """Singular values from the sweep's factors, known to `rounding` times the largest.

    The spectrum lists the root mean square over samples of the k-th largest singular value; entropy and ranks are
    means over samples of each sample's own, and the trace is the mean of ‖J_i‖_F².
    """
    d = subject.x[0].numel()
    count = min(subject.rank, d)
    factors = sweep.jacobian[:, :, : subject.rank]
    singular = torch.linalg.svdvals(factors)[:, :count]
    return JacobianReading(
        spectral=singular[:, 0],
        frobenius_squared=factors.square().sum((1, 2)),
        raw_norm=float(torch.linalg.svdvals(sweep.jacobian)[:, 0].mean()),
        spectrum=_spectrum(singular.square(), d, rounding),
    )


def _spectrum(eigenvalues: Tensor, d: int, rounding: float) -> Spectrum:
    values = eigenvalues.mean(0).sqrt()
    alive = eigenvalues[:, 0] > 0
    total, top = eigenvalues.sum(1)[alive], eigenvalues[alive, 0]
    s = entropy(eigenvalues[alive])
    defined = bool(alive.any())
    count = eigenvalues.shape[1]
    mean_entropy = float(s.mean()) if defined else None
    resolved = values[values > count * rounding * values[0]]
    return Spectrum(
        operator="J_i = Qᵀ ∂f/∂x, root mean square over samples",
        kind="singular values",
        dimension=d,
        values=tuple(values.tolist()),
        residuals=(rounding * float(values[0]),) * count,
        exact=True,
        entropy=mean_entropy,
        normalized_entropy=None if mean_entropy is None or count < 2 else mean_entropy / math.log(count),
        effective_rank=float(s.exp().mean()) if defined else None,
        stable_rank=float((total / top).mean()) if defined else None,
        condition=float(values[0] / resolved[-1]) if len(resolved) else None,
        trace=float(eigenvalues.sum(1).mean()),
        frobenius=float(eigenvalues.sum(1).mean().sqrt()),
        status="ok" if defined else "undefined",
    )
