"""The parameter Jacobian G_i and the kernels built from it: the NTK Θ = [G_i G_jᵀ]/n and the Gauss–Newton matrix.

Everything follows from the sweep's exact kernels: the diagonal blocks of Θ are G_i G_iᵀ (the weights axis), and the
Gauss–Newton matrix (1/n) Σ G_iᵀ S_i G_i has the nonzero spectrum of S^½ Θ S^½, S_i the loss's output Hessian.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from spectral_audit.linalg.lanczos import largest_eigenpair
from spectral_audit.linalg.measures import measures
from spectral_audit.losses import output_hessian
from spectral_audit.results import Spectrum
from spectral_audit.subject import Subject
from spectral_audit.sweep import Sweep


@dataclass(frozen=True)
class KernelReading:
    """Per-sample figures (n,) float64 and spectra.

    `weights_worst` ‖G_i T‖₂, `weights_typical` ‖G_i τ‖_F²; `worst` and `typical` are ‖G_i v‖² at the top parameter
    direction v of the scaled kernels, whose mean is λmax(Θ); `gauss_newton_trace` and `gauss_newton_trace_typical` are
    tr(G_iᵀ S_i G_i), raw and with τ. `top_worst` (n, C) is an output cotangent c for which T Gᵀc is proportional to the
    top eigenvector of the Gauss–Newton matrix scaled by T on both sides.
    """

    weights_worst: Tensor
    weights_typical: Tensor
    worst: Tensor
    typical: Tensor
    gauss_newton_trace: Tensor
    gauss_newton_trace_typical: Tensor
    top_worst: Tensor
    weights_effective_rank: float | None
    raw_parameter_jacobian: float
    raw_ntk: float
    raw_ntk_trace: float | None
    ntk: Spectrum
    gauss_newton: Spectrum


def read_kernel(
    subject: Subject, sweep: Sweep, generator: torch.Generator, rounding: tuple[float, float]
) -> KernelReading:
    """Extremes of the scaled kernels, the full spectrum of the raw one and of Gauss–Newton.

    `rounding` are the relative errors of these two spectra.
    """
    n, c, rank = subject.n, subject.outputs, subject.rank
    raw, gauss_newton = kernels(subject, sweep)
    worst, typical = (_in_basis(k, n, c, rank) for k in (sweep.kernel_worst, sweep.kernel_typical))
    root = _output_root(subject, sweep)
    blocks = _diagonal_blocks(raw, n)
    blocks_typical = _diagonal_blocks(typical, n)
    weights = torch.linalg.eigvalsh(_diagonal_blocks(worst, n)).clamp_min(0)
    curvature = root @ root
    _, top = largest_eigenpair(_congruence(worst, root), generator)
    cotangent = (root @ top.view(n, rank, 1))[:, :, 0] @ subject.basis.double()[:, :rank].T
    full_blocks = _diagonal_blocks(sweep.kernel, n)
    trace_style = sweep.kernel.view(n, c, n, c).diagonal(dim1=1, dim2=3).sum(2)
    return KernelReading(
        weights_worst=weights[:, -1].sqrt(),
        weights_typical=blocks_typical.diagonal(dim1=1, dim2=2).sum(1),
        worst=_top_contributions(worst, n, generator),
        typical=_top_contributions(typical, n, generator),
        gauss_newton_trace=(curvature * blocks).sum((1, 2)),
        gauss_newton_trace_typical=(curvature * blocks_typical).sum((1, 2)),
        top_worst=cotangent,
        weights_effective_rank=_mean_effective_rank(weights),
        raw_parameter_jacobian=float(torch.linalg.eigvalsh(full_blocks)[:, -1].clamp_min(0).sqrt().mean()),
        raw_ntk=largest_eigenpair(sweep.kernel, generator)[0] / n,
        raw_ntk_trace=float(torch.linalg.eigvalsh(trace_style)[-1]) / n,
        ntk=_spectrum("Θ = [G_i G_jᵀ]/n", raw / n, rounding[0]),
        gauss_newton=_spectrum("(1/n) Σ G_iᵀ S_i G_i, through S^½ Θ S^½", gauss_newton / n, rounding[1]),
    )


def kernels(subject: Subject, sweep: Sweep) -> tuple[Tensor, Tensor]:
    """n times the NTK Θ and the Gauss–Newton matrix S^½ΘS^½ in the output basis, (n·C', n·C') each."""
    raw = _in_basis(sweep.kernel, subject.n, subject.outputs, subject.rank)
    return raw, _congruence(raw, _output_root(subject, sweep))


def _in_basis(kernel: Tensor, n: int, c: int, rank: int) -> Tensor:
    """The rows and columns that belong to Q, (n·C', n·C')."""
    if rank == c:
        return kernel
    return kernel.view(n, c, n, c)[:, :rank, :, :rank].reshape(n * rank, n * rank)


def _diagonal_blocks(kernel: Tensor, n: int) -> Tensor:
    """The blocks of each sample with itself, (n, r, r)."""
    r = kernel.shape[0] // n
    return kernel.view(n, r, n, r).diagonal(dim1=0, dim2=2).permute(2, 0, 1)


def _output_root(subject: Subject, sweep: Sweep) -> Tensor:
    """S_i^½ in the output basis, (n, C', C')."""
    q = subject.basis.double()[:, : subject.rank]
    s = q.T @ output_hessian(subject.loss, sweep.outputs) @ q
    values, vectors = torch.linalg.eigh(s)
    return (vectors * values.clamp_min(0).sqrt()[:, None, :]) @ vectors.mT


def _congruence(kernel: Tensor, root: Tensor) -> Tensor:
    """S^½ K S^½ for block-diagonal S^½ given as (n, r, r)."""
    n, r, _ = root.shape
    left = torch.bmm(root, kernel.view(n, r, n * r)).view(n * r, n, r)
    return torch.bmm(left.transpose(0, 1), root).transpose(0, 1).reshape(n * r, n * r)


def _top_contributions(kernel: Tensor, n: int, generator: torch.Generator) -> Tensor:
    """‖G_i v‖² (n,) at the top right singular vector v of G: κ‖u_i‖² where K u = κu, whose mean is κ/n = λmax(Θ)."""
    if not kernel.any():
        return torch.zeros(n, dtype=torch.float64, device=kernel.device)
    value, vector = largest_eigenpair(kernel, generator)
    return value * vector.view(n, -1).square().sum(1)


def _mean_effective_rank(eigenvalues: Tensor) -> float | None:
    ranks = [m.effective_rank for m in map(measures, eigenvalues) if m.effective_rank is not None]
    return sum(ranks) / len(ranks) if ranks else None


def _spectrum(operator: str, matrix: Tensor, rounding: float) -> Spectrum:
    values = torch.linalg.eigvalsh(matrix).flip(0)
    found = measures(values, rounding)
    return Spectrum(
        operator=operator,
        kind="eigenvalues",
        dimension=len(values),
        values=tuple(values.tolist()),
        residuals=(rounding * abs(float(values[0])),) * len(values),
        exact=True,
        entropy=found.entropy,
        normalized_entropy=found.normalized_entropy,
        effective_rank=found.effective_rank,
        stable_rank=found.stable_rank,
        condition=found.condition,
        trace=found.trace,
        frobenius=found.frobenius,
        status="ok" if found.entropy is not None else "undefined",
    )
