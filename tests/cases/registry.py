"""The register of cases, and what their builders are made with."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn

from tests.reference import mean_loss


class Problem(NamedTuple):
    """A model in eval mode with its probe set: x (n, ...) float32, y as the loss wants it."""

    model: nn.Module
    x: Tensor
    y: Tensor
    loss: str


Builder = Callable[[], Problem]
CASES: dict[str, Builder] = {}
# Piecewise-linear in the input and linear in every single weight: the trace of the Hessian is exact.
PIECEWISE_LINEAR: set[str] = set()

n = 13
C = 3


def case(*, piecewise_linear: bool = False) -> Callable[[Builder], Builder]:
    """Register a builder under its own name, and seed it."""

    def register(builder: Builder) -> Builder:
        name = builder.__name__

        def seeded() -> Problem:
            with torch.random.fork_rng():
                torch.manual_seed(sum(name.encode()))
                return builder()

        CASES[name] = seeded
        if piecewise_linear:
            PIECEWISE_LINEAR.add(name)
        return seeded

    return register


def train(model: nn.Module, x: Tensor, y: Tensor, loss: str, steps: int = 60) -> Problem:
    """A few steps of Adam on the probe set itself."""
    optimiser = torch.optim.Adam(model.parameters(), lr=0.02)
    model.train()
    for _ in range(steps):
        optimiser.zero_grad()
        f = model(x).reshape(len(x), -1)
        mean_loss(f, y if loss == "cross_entropy" else y.float(), loss).backward()
        optimiser.step()
    model.zero_grad()
    return Problem(model.eval(), x, y, loss)


def classes(shape: tuple[int, ...], count: int = C) -> tuple[Tensor, Tensor]:
    """n noisy samples (n, *shape) around one centre per class, and their labels, one of them wrong."""
    y = torch.arange(n) % count
    x = torch.randn(count, *shape)[y] + 0.7 * torch.randn(n, *shape)
    y[4] = (y[4] + 1) % count
    return x, y


def classifier(model: nn.Module, *shape: int) -> Problem:
    """Train `model` on samples of this shape."""
    return train(model, *classes(shape), "cross_entropy")
