"""Proven inequalities about attributions, evaluated on both sides."""

from __future__ import annotations

import math
from dataclasses import replace

import torch
from torch import Tensor

from spectral_audit.explanations import Link
from spectral_audit.lenses.attribution.piecewise import gate_states, same_region
from spectral_audit.subject import Subject, leaf

# The largest eigenvalue of a loss's output Hessian: ½ for softmax cross-entropy, ¼ for the logistic loss.
_SMOOTHNESS = {"cross_entropy": 0.5, "bce": 0.25}
_SAMPLES = 16
_PASSES = 512  # backward passes of single samples that exact Jacobians may take
_STEPS = (1e-2, 1e-3, 1e-4)


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
    few = replace(subject, x=points[:n], y=subject.y[:n], chunk=min(subject.chunk, n))
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
    part = leaf(x)
    loss = subject.losses(subject.forward(part), slice(0, len(x))).sum()
    (g,) = torch.autograd.grad(loss, part, materialize_grads=True)
    return g.flatten(1)


def _jacobian_norms(subject: Subject) -> Tensor:
    """‖Qᵀ∂f/∂x‖₂ (n,) float64, exactly: one backward pass for every column of the output basis Q."""
    x = leaf(subject.x)
    f = subject.forward(x)
    rows = [
        torch.autograd.grad((f @ q).sum(), x, retain_graph=True, materialize_grads=True)[0].flatten(1)
        for q in subject.basis[:, : subject.rank].unbind(1)
    ]
    jacobian = torch.stack(rows, 1).double()
    return torch.linalg.eigvalsh(jacobian @ jacobian.mT)[:, -1].clamp_min(0).sqrt()


def smoothgrad_link(measured: Tensor, alive: Tensor, largest: float, sigma: float) -> Link | None:
    """SmoothGrad has Lipschitz constant ≤ √(2/π) sup‖∇f_c‖/σ: it is the gradient of f_c smoothed by a Gaussian.

    `measured` (n,) are the largest secants ‖a(x+δ) − a(x)‖/‖δ‖ found. The supremum is over all inputs; `largest` is
    that of the gradients seen, and the bound is that of the mean over infinitely many draws.
    """
    if not sigma > 0:
        return None
    bound = torch.full_like(measured.double(), math.sqrt(2 / math.pi) * largest / sigma)
    assumes = "the largest gradient seen is the supremum"
    return _closest("SmoothGrad", bound, measured.double(), alive, torch.zeros_like(bound), assumes)


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
        holds=bool((measured <= bound * (1 + 1e-6) + rounding).all()),
        samples=int(counted.sum()),
        assumes=assumes,
    )
