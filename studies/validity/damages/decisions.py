"""Decisions, and how many of them flip."""

from __future__ import annotations

import torch
from torch import Tensor, nn


@torch.no_grad()
def decisions(model: nn.Module, x: Tensor) -> Tensor:
    """The predicted classes (m,)."""
    return model(x).argmax(1)


def flips(model: nn.Module, x: Tensor, before: Tensor) -> float:
    """The share of decisions on `x` that differ from `before`."""
    return float((decisions(model, x) != before).double().mean())


def mean(values: list[float]) -> float:
    """The mean over draws."""
    return sum(values) / len(values)


def sized(v: Tensor, radius: float) -> Tensor:
    """Every sample of `v` (n, *shape) scaled to the L2 norm `radius`; zeros stay."""
    norm = v.flatten(1).norm(dim=1).clamp_min(torch.finfo(v.dtype).tiny)
    return v * (radius / norm).view(-1, *[1] * (v.ndim - 1))
