"""Whether second derivatives can be believed: autograd's Hessian product against a finite difference of gradients.

Some of torch's own formulas are wrong (weight_norm's double backward, up to 2.13), and a custom autograd function may
cut the graph of its gradient without a word: its Hessian then comes out as zero. Two samples in float64 tell.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor

from spectral_audit.errors import RefusedError
from spectral_audit.passes.pairing import paired
from spectral_audit.subject import Subject, exact_arithmetic, in_float64

# Small steps cross next to no kinks of a ReLU net; large ones stand out from the rounding of a model that computes part
# of its output in float32.
_STEPS = (1e-8, 1e-6, 1e-4, 1e-3)
_TOLERANCE = 1e-2


def require_second_derivatives(subject: Subject, names: Sequence[str], generator: torch.Generator) -> None:
    """Compare vᵀHv on two samples with [v·∇L(θ + hv) − v·∇L(θ − hv)]/2h, at three random directions v and several h.

    Raises `RefusedError` when in every direction the differences agree with each other and not with autograd. A model
    that does not run in float64 is not checked here.
    """
    try:
        small = in_float64(subject, torch.arange(2))
        found = [_both(small, names, generator) for _ in range(3)]
    except (RuntimeError, TypeError, NotImplementedError):
        return
    if all(_contradicted(exact, finite) for exact, finite in found):
        exact, finite = found[0]
        raise RefusedError(
            "torch's second derivatives of this model are wrong, so its Hessian cannot be measured",
            expected=f"vᵀHv = {finite[1]:.4g} for a random direction v, by finite differences of the gradient",
            found=f"{exact:.4g} by double backward",
            remedy="fold weight_norm into plain weights; give custom autograd functions a differentiable backward, and "
            "audit quantised models without straight-through gradients",
        )


def _contradicted(exact: float, finite: list[float]) -> bool:
    """True where no difference agrees with `exact`, but two of neighbouring step sizes agree with each other."""

    def close(a: float, b: float) -> bool:
        return abs(a - b) <= _TOLERANCE * max(abs(a), abs(b))

    return not any(close(exact, f) for f in finite) and any(close(a, b) for a, b in pairwise(finite))


def _both(subject: Subject, names: Sequence[str], generator: torch.Generator) -> tuple[float, list[float]]:
    with exact_arithmetic(), subject.trainable() as parameters:
        chosen = [parameters[name] for name in names]
        v = [torch.randn(p.shape, generator=generator, dtype=torch.float64).to(p) * _size(p) for p in chosen]
        exact = _exact(subject, chosen, v)
        finite = []
        for step in _STEPS:
            ends = []
            for sign in (1, -1):
                _shift(chosen, v, sign * step)
                ends.append(sum(float((g * part).sum()) for g, part in zip(_gradient(subject, chosen), v, strict=True)))
                _shift(chosen, v, -sign * step)
            finite.append((ends[0] - ends[1]) / (2 * step))
    return exact, finite


def _exact(subject: Subject, chosen: list[torch.nn.Parameter], v: list[Tensor]) -> float:
    """vᵀHv by double backward."""
    slope = paired(_gradient(subject, chosen, create_graph=True), v)
    product = torch.autograd.grad(slope, chosen, materialize_grads=True) if slope.requires_grad else ()
    return sum(float((h * part).sum()) for h, part in zip(product, v, strict=False))


def _size(p: Tensor) -> float:
    """A typical entry, so that the step is relative to the weights."""
    return float(p.detach().norm()) / p.numel() ** 0.5 or 1.0


def _gradient(subject: Subject, chosen: list[torch.nn.Parameter], *, create_graph: bool = False) -> tuple[Tensor, ...]:
    loss = subject.losses(subject.forward(subject.x), slice(0, 2)).sum()
    return torch.autograd.grad(loss, chosen, create_graph=create_graph, materialize_grads=True)


def _shift(chosen: list[torch.nn.Parameter], v: list[Tensor], step: float) -> None:
    with torch.no_grad():
        for p, part in zip(chosen, v, strict=True):
            p.add_(part, alpha=step)
