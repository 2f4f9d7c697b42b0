"""Proven inequalities about attributions, evaluated on both sides."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from spectral_audit.explanations import Link
from spectral_audit.lenses.attribution.piecewise import gate_states, same_region
from spectral_audit.subject import Subject, leaf

# The largest eigenvalue of a loss's output Hessian: ½ for softmax cross-entropy, ¼ for the logistic loss.
_SMOOTHNESS = {"cross_entropy": 0.5, "bce": 0.25}
_SHRINK = (1.0, 0.1, 0.01)


def loss_gradient(subject: Subject, x: Tensor) -> Tensor:
    """∇_x ℓ (n, d) at `x` (n, *shape)."""
    parts = []
    for where in subject.chunks():
        part = leaf(x[where])
        loss = subject.losses(subject.forward(part), where).sum()
        (g,) = torch.autograd.grad(loss, part, materialize_grads=True)
        parts.append(g.flatten(1))
    return torch.cat(parts)


def loss_link(subject: Subject, jacobian: Tensor, radius: float, generator: torch.Generator) -> tuple[Link | None, int]:
    """Inside a linear region ‖∇ℓ(x+δ) − ∇ℓ(x)‖ ≤ β‖J‖₂²‖δ‖, and the gradients spent on it.

    f is affine there with Jacobian J, ∇ℓ = Jᵀ∇_f ℓ, and ∇_f ℓ has Lipschitz constant β: ½ for cross-entropy, ¼ for the
    logistic loss, 2/C for mse (1 for ½ squared error). `jacobian` (n,) are norms ‖J_i‖₂ in the output basis. Steps of
    at most `radius` go at random and along ∇ℓ; a sample counts where all gates keep their state.
    """
    beta = _SMOOTHNESS.get(subject.loss, 2 / subject.outputs)
    base, before = loss_gradient(subject, subject.x), gate_states(subject, subject.x)
    noise = torch.randn(base.shape, generator=generator, dtype=torch.float64).to(base)
    measured = torch.zeros(subject.n, dtype=torch.float64, device=base.device)
    counted = torch.zeros(subject.n, dtype=torch.bool, device=base.device)
    spent = subject.n
    for direction in (noise, base):
        unit = direction / direction.norm(dim=1, keepdim=True).clamp_min(torch.finfo(base.dtype).tiny)
        open_ = unit.any(1)
        for shrink in _SHRINK:
            moved = subject.x + (unit * radius * shrink).view_as(subject.x)
            inside = same_region(before, gate_states(subject, moved), subject.n)
            if inside is None:
                return None, spent
            fresh = inside & open_
            if not fresh.any():
                continue
            length = (moved - subject.x).flatten(1).norm(dim=1).double()
            slope = (loss_gradient(subject, moved) - base).norm(dim=1).double() / length.clamp_min(1e-300)
            spent += subject.n
            measured = torch.where(fresh, torch.maximum(measured, slope), measured)
            counted, open_ = counted | fresh, open_ & ~inside
            if not open_.any():
                break
    bound = beta * jacobian.double().to(base.device).square()
    # What two gradients that differ by rounding alone would show at the smallest step.
    rounding = 100 * torch.finfo(base.dtype).eps * base.norm(dim=1).double() / (radius * min(_SHRINK))
    return _closest("loss gradient, inside a linear region", bound, measured, counted, rounding, ""), spent


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
    """The link at the sample where `measured` comes closest to its `bound`."""
    if not counted.any():
        return None
    bound, measured, rounding = bound[counted], measured[counted], rounding[counted]
    at = int((measured / bound.clamp_min(1e-300)).argmax())
    return Link(
        name=name,
        bound=float(bound[at]),
        measured=float(measured[at]),
        holds=bool((measured <= bound * (1 + 1e-6) + rounding).all()),
        samples=int(counted.sum()),
        assumes=assumes,
    )
