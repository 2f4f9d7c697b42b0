"""Damage to weights: relative noise, rounding to few bits, magnitude pruning.

All act tensor by tensor on parameters with two or more axes; biases, gains and running statistics stay, as in practice.
"""

from __future__ import annotations

import copy
from collections.abc import Callable

import torch
from torch import Tensor, nn

from studies.validity.damages.decisions import decisions, flips, mean
from studies.validity.samples import Samples

SHAKEN = (0.05, 0.1, 0.2, 0.4)
"""‖δ_l‖ / ‖θ_l‖ of random noise on every tensor."""
BITS = (8, 4, 3)
PRUNED = (0.3, 0.6, 0.8)
_DRAWS = 6


def changed(model: nn.Module, change: Callable[[Tensor], Tensor]) -> nn.Module:
    """A copy of the model with `change` applied to every weight tensor."""
    model = copy.deepcopy(model)
    with torch.no_grad():
        for p in model.parameters():
            if p.ndim >= 2:
                p.copy_(change(p))
    return model


def shaken(model: nn.Module, s: Samples) -> dict[str, float | None]:
    """Flips under Gaussian noise of r times the norm of each tensor, for every level and the mean over levels."""
    before, rng = decisions(model, s.x), torch.Generator().manual_seed(20)
    found = {}
    for level in SHAKEN:

        def noisy(p: Tensor, level: float = level) -> Tensor:
            delta = torch.randn(p.shape, generator=rng)
            return p + delta * (level * p.norm() / delta.norm())

        draws = [flips(changed(model, noisy), s.x, before) for _ in range(_DRAWS)]
        found[f"shaken.{level:g}"] = mean(draws)
    return {**found, "shaken": mean(list(found.values()))}


def rounded(model: nn.Module, s: Samples) -> dict[str, float | None]:
    """Flips after symmetric uniform rounding with one step for each tensor."""
    before = decisions(model, s.x)

    def to(bits: int) -> Callable[[Tensor], Tensor]:
        levels = 2 ** (bits - 1) - 1

        def rounding(p: Tensor) -> Tensor:
            step = p.abs().max() / levels
            return (p / step).round() * step if step > 0 else p

        return rounding

    return {f"rounded.{bits}": flips(changed(model, to(bits)), s.x, before) for bits in BITS}


def pruned(model: nn.Module, s: Samples) -> dict[str, float | None]:
    """Flips after the smallest weights of each tensor are set to zero."""
    before = decisions(model, s.x)

    def without(share: float) -> Callable[[Tensor], Tensor]:
        return lambda p: torch.where(p.abs() > torch.quantile(p.abs().flatten(), share), p, 0.0)

    return {f"pruned.{share:g}": flips(changed(model, without(share)), s.x, before) for share in PRUNED}
