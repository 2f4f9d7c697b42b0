"""Cotangents of one chunk: C backward passes to activations over one graph, into memory that the next chunk reuses."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.autograd.graph import get_gradient_edge

from .capture import Call


class Buffers:
    """Memory for the cotangents of a chunk, kept for the next one: fresh memory costs as much as filling it."""

    def __init__(self) -> None:
        self._kept: list[Tensor] = []

    def clear(self) -> None:
        """Let go of all memory."""
        self._kept.clear()

    def take(self, index: int, like: Tensor, shape: tuple[int, ...]) -> Tensor:
        """Uninitialised memory number `index`, of `shape`."""
        size = math.prod(shape)
        if index == len(self._kept):
            self._kept.append(like.new_empty(size))
        if len(self._kept[index]) < size:
            self._kept[index] = like.new_empty(size)
        return self._kept[index][:size].view(shape)


def cotangents(turned: Tensor, x: Tensor | None, calls: list[Call], buffers: Buffers) -> list[Tensor]:
    """∂t_k/∂z stacked as (m, C, *z) for `turned` outputs t (m, C); z: the input `x` if given, every call's output."""
    columns, c = turned.sum(0), turned.shape[1]
    shapes = [call.shape for call in calls]
    targets = [call.edge for call in calls]
    if x is not None:
        shapes, targets = [x.shape, *shapes], [get_gradient_edge(x), *targets]
    stacked = [buffers.take(i, turned, (s[0], c, *s[1:])) for i, s in enumerate(shapes)]
    for k in range(c):
        gradients: tuple[Tensor | None, ...] = (None,) * len(targets)
        if targets and columns.requires_grad:  # unless every parameter is generic and the input enters as integers
            gradients = torch.autograd.grad(columns[k], targets, retain_graph=k + 1 < c, allow_unused=True)
        for into, g in zip(stacked, gradients, strict=True):
            if g is None:
                into[:, k].zero_()
            else:
                into[:, k] = g
    return stacked
