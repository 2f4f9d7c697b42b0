"""Fine-tuning at rising step sizes until it diverges."""

from __future__ import annotations

import copy

import torch
from torch import nn
from torch.nn import functional

from studies.validity.samples import Samples

_STEPS, _BATCH = 8, 128
_SMALLEST, _LARGEST = 2.0**-10, 2.0**12


def largest_stable_step(model: nn.Module, s: Samples) -> dict[str, float | None]:
    """1 / the largest step size at which gradient descent does not diverge: the larger, the worse.

    Eight full-batch steps on 128 of the other samples with their labels; running statistics stay as they are.
    A run diverges when its last loss is above its first. Steps double until one diverges; two bisections follow, so
    that the figure is within 19 %. The largest step tried stands for models that never diverge.
    """
    step = _SMALLEST
    while step < _LARGEST and not _diverges(model, s, step):
        step *= 2
    low, high = step / 2, step
    for _ in range(2):
        middle = (low * high) ** 0.5
        low, high = (low, middle) if _diverges(model, s, middle) else (middle, high)
    return {"fine-tuning": 1 / low}


def _diverges(model: nn.Module, s: Samples, step: float) -> bool:
    model = copy.deepcopy(model).eval()
    x, y = s.x[:_BATCH], s.y[:_BATCH]
    first = None
    for _ in range(_STEPS):
        loss = functional.cross_entropy(model(x), y)
        if not torch.isfinite(loss):
            return True
        first = float(loss.detach()) if first is None else first
        gradients = torch.autograd.grad(loss, list(model.parameters()))
        with torch.no_grad():
            for p, g in zip(model.parameters(), gradients, strict=True):
                p.sub_(step * g)
    with torch.no_grad():
        last = float(functional.cross_entropy(model(x), y))
    return not last <= first
