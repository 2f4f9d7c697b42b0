"""Damage to explanations: how far the gradient of the predicted class moves, at random and under attack.

The attack is not the audit's search. It climbs the drift itself by gradient steps, which takes second derivatives; for
ReLU networks, whose second derivatives are zero, those of a copy with softplus in their place (Ghorbani, Abid & Zou
2019; Dombrowski et al. 2019). What counts is the drift of the model itself, the largest over the steps.
"""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from studies.validity.damages.decisions import decisions, sized
from studies.validity.models import replaced
from studies.validity.samples import Samples

RADII = (0.03, 0.1)
"""‖δ‖ / X."""
_SAMPLES, _DRAWS, _STEPS = 64, 4, 12
_BETA = 10.0
_RATE = 0.5


def _explanation(model: nn.Module, x: Tensor, target: Tensor, *, graph: bool = False) -> Tensor:
    x = x if x.requires_grad else x.detach().requires_grad_()
    f = model(x).gather(1, target[:, None]).sum()
    return torch.autograd.grad(f, x, create_graph=graph)[0].flatten(1)


def _drift(moved: Tensor, base: Tensor) -> Tensor:
    """‖a(x+δ) − a(x)‖ / ‖a(x)‖ (n,)."""
    return (moved - base).norm(dim=1) / base.norm(dim=1)


def _summary(name: str, drift: Tensor) -> dict[str, float | None]:
    """Mean and median over the samples whose explanation is not zero."""
    kept = drift[drift.isfinite()].double()
    if not len(kept):
        return {name: None, f"{name}.median": None}
    return {name: float(kept.mean()), f"{name}.median": float(kept.median())}


def drifts(model: nn.Module, s: Samples) -> dict[str, float | None]:
    """Drift under random perturbations of length r·X."""
    x = s.x[:_SAMPLES]
    target, rng = decisions(model, x), torch.Generator().manual_seed(30)
    base, out = _explanation(model, x, target), {}
    for radius in RADII:
        draws = [sized(torch.randn(x.shape, generator=rng), radius * s.scale) for _ in range(_DRAWS)]
        found = torch.stack([_drift(_explanation(model, x + delta, target), base) for delta in draws]).mean(0)
        out |= _summary(f"drift.{radius:g}", found)
    return out


def attacked(model: nn.Module, s: Samples) -> dict[str, float | None]:
    """The largest drift found by the attack in the ball of radius r·X."""
    x = s.x[:_SAMPLES]
    target = decisions(model, x)
    base, out = _explanation(model, x, target), {}
    smooth = replaced(copy.deepcopy(model), nn.ReLU, nn.Softplus(beta=_BETA))
    for radius in RADII:
        out |= _summary(f"attacked.{radius:g}", _attack(model, smooth, x, target, base, radius * s.scale))
    return out


def _attack(model: nn.Module, smooth: nn.Module, x: Tensor, target: Tensor, base: Tensor, radius: float) -> Tensor:
    delta = sized(torch.randn(x.shape, generator=torch.Generator().manual_seed(31)), radius)
    worst = _drift(_explanation(model, x + delta, target), base)
    start = _explanation(smooth, x, target)
    for _ in range(_STEPS):
        delta = delta.detach().requires_grad_()
        moved = _explanation(smooth, x + delta, target, graph=True)
        (slope,) = torch.autograd.grad((moved - start).square().sum(), delta, materialize_grads=True)
        delta = sized(delta.detach() / radius + _RATE * sized(slope, 1.0), radius)
        worst = torch.maximum(worst, _drift(_explanation(model, x + delta, target), base))
    return worst
