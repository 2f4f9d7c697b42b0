"""Proven inequalities about attributions, evaluated on both sides."""

from __future__ import annotations

import math
from dataclasses import replace

import torch
from torch import Tensor

from spectral_audit.explanations import Link
from spectral_audit.lenses.attribution.gates import gate_states, same_region
from spectral_audit.lenses.attribution.methods import Net
from spectral_audit.subject import Subject

# The largest eigenvalue of a loss's output Hessian: ½ for softmax cross-entropy, ¼ for the logistic loss.
_SMOOTHNESS = {"cross_entropy": 0.5, "bce": 0.25}
_SAMPLES = 8
_PASSES = 512  # backward passes of single samples that exact Jacobians may take
_STEPS = (1e-2, 1e-3, 1e-4)
_FRESH, _BATCH = 256, 64


def loss_link(subject: Subject, points: Tensor, radius: float, generator: torch.Generator) -> tuple[Link | None, int]:
    """Inside a linear region ‖∇ℓ(x+δ) − ∇ℓ(x)‖ ≤ β‖J‖₂²‖δ‖; the link and the gradients it took.

    f is affine there with Jacobian J, ∇ℓ = Jᵀ∇_f ℓ, and ∇_f ℓ has Lipschitz constant β: ½ for cross-entropy, ¼ for the
    logistic loss, 2/C for mse (1 for ½ squared error). It is evaluated at the first of the `points` (n, *shape), which
    should be near the samples and not on them: real data lie on kinks, where a region is a single point. Steps of
    small parts of `radius` go at random and along ∇ℓ; a point counts where all gates keep their state. `None` where no
    point does, or where C passes per point are too many.
    """
    n = min(_SAMPLES, subject.n, _PASSES // subject.outputs)
    if n < 1 or not radius > 0:
        return None, 0
    few = replace(subject.alone(), x=points[:n], y=subject.y[:n], chunk=min(subject.chunk, n))
    norms, base, before = _jacobian_norms(few), _loss_gradient(few, few.x), gate_states(few, few.x)
    spent = n * (few.rank + 1)
    noise = torch.randn(base.shape, generator=generator, dtype=torch.float64).to(base)
    measured, counted = norms.new_zeros(n), torch.zeros(n, dtype=torch.bool, device=base.device)
    for direction in (noise, base):
        unit = direction / direction.norm(dim=1, keepdim=True).clamp_min(torch.finfo(base.dtype).tiny)
        for step in _STEPS:
            moved = few.x + (unit * (radius * step)).view_as(few.x)
            inside = same_region(before, gate_states(few, moved), n)
            if inside is None:
                return None, spent
            length = (moved - few.x).flatten(1).norm(dim=1).double()
            slope = (_loss_gradient(few, moved) - base).norm(dim=1).double() / length.clamp_min(_TINY)
            spent += n
            fresh = inside & (length > 0)
            measured, counted = torch.where(fresh, torch.maximum(measured, slope), measured), counted | fresh
    bound = _SMOOTHNESS.get(few.loss, 2 / few.outputs) * norms.square()
    # What two gradients that differ by rounding alone show at the smallest step.
    rounding = 100 * torch.finfo(base.dtype).eps * base.norm(dim=1).double() / (radius * min(_STEPS))
    return _closest("loss gradient inside a linear region", bound, measured, counted, rounding, ""), spent


_TINY = torch.finfo(torch.float64).tiny


def _loss_gradient(subject: Subject, x: Tensor) -> Tensor:
    """∇_x ℓ (n, d) at `x` (n, *shape)."""
    part = subject.leaf(x)
    loss = subject.losses(subject.forward_fused(part), slice(0, len(x))).sum()
    (g,) = torch.autograd.grad(loss, part, materialize_grads=True)
    return g.flatten(1)


def _jacobian_norms(subject: Subject) -> Tensor:
    """‖Qᵀ∂f/∂x‖₂ (n,) float64, exactly: one backward pass for every column of the output basis Q."""
    x = subject.leaf(subject.x)
    f = subject.forward_fused(x)
    rows = [
        torch.autograd.grad((f @ q).sum(), x, retain_graph=True, materialize_grads=True)[0].flatten(1)
        for q in subject.basis[:, : subject.rank].unbind(1)
    ]
    jacobian = torch.stack(rows, 1).double()
    return torch.linalg.eigvalsh(jacobian @ jacobian.mT)[:, -1].clamp_min(0).sqrt()


def smoothgrad_link(
    net: Net, x: Tensor, delta: Tensor, target: Tensor, sigma: float, generator: torch.Generator
) -> Link | None:
    """SmoothGrad has Lipschitz constant ≤ √(2/π) sup‖∇f_c‖/σ: it is the gradient of f_c smoothed by a Gaussian.

    Evaluated at one sample `x` (*shape) and the `delta` that moves it most, with fresh draws: a search over few draws
    would find their noise. The squared slope is corrected for the variance of its mean. The supremum is over all
    inputs; the largest gradient seen stands for it, so that the bound is no certificate.
    """
    length = float(delta.norm())
    if not (sigma > 0 and length > 0):
        return None
    noise = torch.randn((_FRESH, *x.shape), generator=generator, dtype=torch.float64).to(x) * sigma
    both = [torch.cat([net.gradient(p, target.expand(len(p)))[0].flatten(1) for p in (start + noise).split(_BATCH)])
            for start in (x, x + delta)]  # fmt: skip
    change = (both[1] - both[0]).double()
    variance = float(change.var(0).sum()) / _FRESH
    measured = math.sqrt(max(0.0, float(change.mean(0).square().sum()) - variance)) / length
    stderr = math.sqrt(variance) / length
    seen = net.subject.ranks.everyone(net.largest)
    largest = max(*seen, *(float(g.norm(dim=1).max()) for g in both))
    bound = math.sqrt(2 / math.pi) * largest / sigma
    holds = measured <= bound * (1 + 1e-6) + 3 * stderr
    return Link("SmoothGrad", bound, measured, stderr, holds, 1, "the largest gradient seen is the supremum")


def _closest(
    name: str, bound: Tensor, measured: Tensor, counted: Tensor, rounding: Tensor, assumes: str
) -> Link | None:
    """The link at the point where `measured` comes closest to its `bound`."""
    if not counted.any():
        return None
    bound, measured, rounding = bound[counted], measured[counted], rounding[counted]
    at = int((measured / bound.clamp_min(_TINY)).argmax())
    return Link(
        name=name,
        bound=float(bound[at]),
        measured=float(measured[at]),
        stderr=0.0,
        holds=bool((measured <= bound * (1 + 1e-6) + rounding).all()),
        samples=int(counted.sum()),
        assumes=assumes,
    )
