"""A smooth surrogate of models whose input Hessian is zero almost everywhere."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from spectral_audit.passes.mode import FunctionMode
from spectral_audit.subject import Subject, outputs_2d


class _Softened(nn.Module):
    """A model with softplus_β in place of every rectifier."""

    def __init__(self, model: nn.Module, beta: float) -> None:
        super().__init__()
        self.model, self.beta, self.replaced = model, beta, 0

    def forward(self, x: Tensor) -> Tensor:
        with _Softplus(self.beta) as mode:
            out = outputs_2d(self.model(x))
        self.replaced = mode.replaced
        return out


class _Softplus(FunctionMode):
    def __init__(self, beta: float) -> None:
        super().__init__()
        self.beta, self.replaced = beta, 0

    def handle(self, func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if func in _RELUS:
            self.replaced += 1
            return functional.softplus(args[0] if args else kwargs["input"], beta=self.beta)
        if func is functional.leaky_relu:
            self.replaced += 1
            slope = kwargs.get("negative_slope", args[1] if len(args) > 1 else 0.01)
            return slope * args[0] + (1 - slope) * functional.softplus(args[0], beta=self.beta)
        return func(*args, **kwargs)


_RELUS: set[Callable[..., Any]] = {
    functional.relu,
    functional.relu_,
    torch.relu,
    torch.relu_,
    Tensor.relu,
    Tensor.relu_,
}


def softened(subject: Subject, beta: float) -> Subject | None:
    """The subject with every ReLU replaced by softplus_β (Dombrowski et al. 2019, arXiv 1906.07983); `None` where the
    model has none. β is per unit of pre-activation; max pooling stays as it is."""
    model = _Softened(subject.model, beta)
    with torch.no_grad():
        model(subject.x[:1])
    return replace(subject, model=model.eval()) if model.replaced else None
