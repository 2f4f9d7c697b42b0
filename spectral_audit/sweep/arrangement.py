"""Where the samples stand in a tensor: on its first axis, on its second, or folded with others into the first.

Shapes alone cannot tell for certain; a wrong guess gives rows that are not autograd's, and is found out as such.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from .pairs import Contribution, Pair

Arrangement = Literal["first", "second", "folded"]


def arrangement(tensor: Tensor, samples: int, *, sequences: bool) -> Arrangement | None:
    """(n, ...), or (L, n, F) where there are `sequences`, or (n·L, ...) with the rows of one sample in a row."""
    if tensor.ndim == 0:
        return None
    if len(tensor) == samples:
        return "first"
    if sequences and tensor.ndim == 3 and tensor.shape[1] == samples:
        return "second"
    return "folded" if len(tensor) > samples and len(tensor) % samples == 0 else None


def samples_first(tensor: Tensor, kind: Arrangement, samples: int) -> Tensor:
    """(n, ...) or (n, L, ...)."""
    if kind == "second":
        return tensor.transpose(0, 1)
    return tensor.unflatten(0, (samples, -1)) if kind == "folded" else tensor


def as_it_was(tensor: Tensor, kind: Arrangement) -> Tensor:
    """The inverse of `samples_first`, in memory of its own, so that it can be overwritten."""
    return torch.clone(tensor.transpose(0, 1) if kind == "second" else tensor.flatten(0, 1))


def fold(g: Tensor) -> Tensor:
    """Cotangents (n, C, L, ...) as those of n·L samples, (n·L, C, ...)."""
    return g.transpose(1, 2).flatten(0, 1)


def unfold(found: Contribution, samples: int) -> Contribution:
    """The rows of n samples from those of n·L: their sum over L."""
    if not isinstance(found, Pair):
        return found.unflatten(0, (samples, -1)).sum(1)
    a = found.a.unflatten(0, (samples, -1)).transpose(1, 2).flatten(2, 3)
    g = found.g.unflatten(0, (samples, -1)).movedim(1, 3).flatten(3, 4)
    return Pair(a, g, found.order)
