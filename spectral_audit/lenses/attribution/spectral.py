"""The input Hessian A of the explained output, the Jacobian of the gradient attribution: its norms and its spectrum.

To first order a perturbation δ drifts the gradient by ‖Aδ‖: for a random δ of length r its root mean square is
‖A‖_F r/√d, for the worst one ‖A‖₂r. Piecewise-linear models have A = 0 almost everywhere, which is not stability.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from spectral_audit.estimates import Estimate
from spectral_audit.explanations import Curvature
from spectral_audit.lenses.attribution.intervals import mean, median
from spectral_audit.linalg.batched import BatchedRitz, batched_lanczos
from spectral_audit.passes.pairing import paired
from spectral_audit.subject import Subject

_STEPS = 12
_PROBES = 4
_RESIDUAL = 0.05
_ENTROPY_SAMPLES = 32
# Per sample, for the norms and for the entropy: a product is a double backward pass.
GRADIENTS = 2 * (_STEPS + _PROBES)
ENTROPY_GRADIENTS = 2 * _STEPS


@dataclass(frozen=True)
class HessianReading:
    """A_i of every sample: ‖A‖₂ with its residual, ‖A‖_F with its standard error, each (n,) float64; `vectors` (n, d)
    are unit Ritz vectors of ‖A‖₂."""

    spectral: Tensor
    residual: Tensor
    frobenius: Tensor
    frobenius_stderr: Tensor
    vectors: Tensor


class HessianProduct:
    """v ↦ A_i v_i for the samples of one chunk, (m, d) to (m, d), over a retained graph."""

    def __init__(self, subject: Subject, target: Tensor, where: slice) -> None:
        self._x = subject.leaf(subject.x[where])
        f = subject.forward_fused(self._x).gather(1, target[where][:, None]).sum()
        (self._a,) = torch.autograd.grad(f, self._x, create_graph=True, materialize_grads=True)

    def __call__(self, v: Tensor) -> Tensor:
        """A_i v_i (m, d)."""
        if not self._a.requires_grad:
            return torch.zeros_like(v)
        slope = paired([self._a], [v.view_as(self._a)])
        (product,) = torch.autograd.grad(slope, self._x, retain_graph=True, materialize_grads=True)
        return product.flatten(1)


def read_hessian(subject: Subject, target: Tensor, start: Tensor, generator: torch.Generator) -> HessianReading:
    """‖A‖₂ by Lanczos from `start` (n, *shape) for all samples at once, ‖A‖_F by deflated Hutchinson."""
    start = _start(start, generator)
    signs = _signs(start, generator)

    def norms(where: slice) -> tuple[Tensor, ...]:
        product = HessianProduct(subject, target, where)
        krylov = batched_lanczos(product, start[where], _STEPS)
        return krylov.top, krylov.residual, *_frobenius(product, krylov, signs[:, where]), krylov.vector

    return HessianReading(*subject.over_samples(norms))


def _start(direction: Tensor, generator: torch.Generator) -> Tensor:
    """The searched direction with a little noise, so that no eigenvector is missed by symmetry."""
    flat = direction.flatten(1)
    noise = torch.randn(flat.shape, generator=generator, dtype=torch.float64).to(flat)
    size = flat.norm(dim=1, keepdim=True)
    flat = flat / torch.where(size > 0, size, torch.ones_like(size))
    flat = flat + 0.1 * noise / noise.norm(dim=1, keepdim=True)
    return flat / flat.norm(dim=1, keepdim=True)


def _signs(like: Tensor, generator: torch.Generator) -> Tensor:
    """Signs (probes, n, d) as 0 and 1, drawn for all samples at once: no figure depends on how these are split."""
    return torch.randint(0, 2, (_PROBES, *like.shape), generator=generator, dtype=torch.int8).to(like.device)


def _frobenius(product: HessianProduct, krylov: BatchedRitz, signs: Tensor) -> tuple[Tensor, Tensor]:
    """‖A‖_F (m,): ‖AV‖_F² of the Krylov basis V exactly, and Hutchinson's E‖A(I − VVᵀ)z‖² for what it leaves; and its
    standard error by the delta method, from the spread of the probes. In few dimensions all columns are taken."""
    samples, steps, d = krylov.basis.shape
    if steps == d:  # the basis may have closed before it spans everything
        columns = torch.eye(d, dtype=krylov.basis.dtype, device=krylov.basis.device)
        squares = [product(e.expand(samples, d)).double().square().sum(1) for e in columns]
        return torch.stack(squares).sum(0).sqrt(), torch.zeros_like(krylov.captured)
    rest = []
    for sign in signs:
        z = sign.to(krylov.basis) * 2 - 1
        z = z - ((krylov.basis @ z[:, :, None]).mT @ krylov.basis)[:, 0]
        rest.append(product(z).double().square().sum(1))
    probes = torch.stack(rest)
    norm = (krylov.captured + probes.mean(0)).sqrt()
    spread = probes.std(0) / math.sqrt(_PROBES)
    return norm, spread / (2 * norm).clamp_min(torch.finfo(torch.float64).tiny)


def entropies(subject: Subject, target: Tensor, generator: torch.Generator) -> Tensor:
    """−Σ p log p (m,) in nats, p_k = |λ_k|/Σ|λ|, for the first samples, by stochastic Lanczos quadrature with one probe
    each: with S = Σ|λ| ≈ d Σ_j τ_j|θ_j| it is log S − (d/S) Σ_j τ_j |θ_j| log|θ_j| (Ubaru, Chen & Saad 2017)."""
    where = slice(0, min(_ENTROPY_SAMPLES, subject.chunk, subject.n))
    product = HessianProduct(subject, target, where)
    d = subject.x[0].numel()
    z = torch.randint(0, 2, (where.stop, d), generator=generator).to(subject.x) * 2 - 1
    krylov = batched_lanczos(product, z / math.sqrt(d), _STEPS)
    moduli = krylov.values.abs()
    total = d * (krylov.weights * moduli).sum(1)
    weighted = d * (krylov.weights * torch.xlogy(moduli, moduli)).sum(1)
    return (total.log() - weighted / total)[total > 0]


def curvature(found: HessianReading, norms: Tensor, alive: Tensor, input_scale: float, entropy: Tensor) -> Curvature:
    """Medians over the samples that are `alive` (n,), for attributions of length `norms` (n,)."""
    a2, error, af, stderr = (
        t[alive] for t in (found.spectral, found.residual, found.frobenius, found.frobenius_stderr)
    )
    worst, typical = conditions(found, norms, alive, input_scale)
    positive = a2 > 0
    tiny = torch.finfo(torch.float64).tiny
    return Curvature(
        spectral=median(a2),
        frobenius=median(af),
        condition_worst=worst,
        condition_typical=typical,
        stable_rank=median((af[positive] / a2[positive]).square()),
        entropy=mean(entropy),
        entropy_samples=len(entropy),
        residual=float((error / a2.clamp_min(tiny))[positive].max()),
        frobenius_stderr=float((stderr / af.clamp_min(tiny))[positive].median()),
        status="ok" if float((error > _RESIDUAL * a2).double().mean()) <= 0.5 else "unconverged",
    )


def conditions(found: HessianReading, norms: Tensor, alive: Tensor, scale: float) -> tuple[Estimate, Estimate]:
    """‖A‖₂X/‖a‖ and ‖A‖_F X/(√d‖a‖), medians over samples."""
    size, d = norms[alive].double(), found.vectors.shape[1]
    return median(found.spectral[alive] * scale / size), median(found.frobenius[alive] * scale / (math.sqrt(d) * size))
