"""How exact the values of an exact spectrum are: the rounding of the passes behind them, measured and not assumed.

A few samples are swept again in float64. If A and B are an operator on those samples as found in both precisions, then
|λ_k(A) − λ_k(B)| ≤ ‖A − B‖₂ for every k (Weyl 1912), so ‖A − B‖₂/‖B‖₂ is a relative error for all values at once. It
holds what eps alone does not: long sums, probabilities of large logits, and ReLU gates that the last digit flips.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from spectral_audit.lenses.kernel import kernels
from spectral_audit.subject import Subject, in_float64
from spectral_audit.sweep import Study, Sweep, sweep

# Samples swept again, and what their error is multiplied by: it is that of a few samples, and stands for all.
_SAMPLES = 8
_SAFETY = 2.0


@dataclass(frozen=True)
class Rounding:
    """Errors of every value of the input-Jacobian, NTK and Gauss–Newton spectra, relative to the largest one."""

    jacobian: float
    kernel: float
    gauss_newton: float


def measured_rounding(subject: Subject, plan: Study, swept: Sweep) -> Rounding:
    """Rounding of the figures in `swept`; eps for float64 passes and for models that do not run in float64."""
    eps = torch.finfo(subject.x.dtype).eps
    if subject.x.dtype == torch.float64:
        return Rounding(eps, eps, eps)
    rows = torch.linspace(0, subject.n - 1, min(_SAMPLES, subject.n)).round().long()
    try:
        exact = in_float64(subject, rows)
        again = sweep(exact, plan)
    except (RuntimeError, TypeError, NotImplementedError):
        return Rounding(eps, eps, eps)
    found = [
        _of_jacobians(swept.jacobian[rows], again.jacobian),
        *(_relative(a, b) for a, b in zip(kernels(exact, _part(swept, rows)), kernels(exact, again), strict=True)),
    ]
    return Rounding(*(max(eps, _SAFETY * error) for error in found))


def _part(swept: Sweep, rows: Tensor) -> Sweep:
    """The same sweep, of some samples only."""
    c = swept.outputs.shape[1]
    index = (rows[:, None] * c + torch.arange(c)).flatten().to(swept.kernel.device)
    raw, worst, typical = (k[index][:, index] for k in (swept.kernel, swept.kernel_worst, swept.kernel_typical))
    return Sweep(swept.outputs[rows], swept.jacobian[rows], raw, worst, typical, swept.tensors, swept.backward_passes)


def _relative(a: Tensor, b: Tensor) -> float:
    size = torch.linalg.matrix_norm(b, 2)
    return float(torch.linalg.matrix_norm(a - b, 2) / size) if size > 0 else 0.0


def _of_jacobians(a: Tensor, b: Tensor) -> float:
    """Largest difference of singular values over the samples, relative to the largest root mean square."""
    a, b = torch.linalg.svdvals(a), torch.linalg.svdvals(b)
    count = min(a.shape[1], b.shape[1])  # a factor may have rows that are zero
    a, b = a[:, :count], b[:, :count]
    size = b.square().mean(0).sqrt().max()
    return float((a - b).abs().max() / size) if size > 0 else 0.0
