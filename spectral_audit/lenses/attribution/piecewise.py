"""What to say of models whose input Hessian is zero almost everywhere: gates, and a smooth surrogate.

A gate is a switch between two linear pieces: the sign at a rectifier, the position of the largest entry in a pool.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from spectral_audit.subject import Subject, outputs_2d

_aten = torch.ops.aten
_SIGNS = {
    _aten.relu, _aten.relu_, _aten.leaky_relu, _aten.leaky_relu_, _aten.rrelu_with_noise, _aten._prelu_kernel,
    _aten.threshold, _aten.threshold_, _aten.abs, _aten.clamp_min, _aten.clamp_min_,
}  # fmt: skip
_BOUNDS = {_aten.clamp, _aten.clamp_, _aten.hardtanh, _aten.hardtanh_}
_POOLS = {
    _aten.max_pool2d_with_indices, _aten.max_pool3d_with_indices, _aten.adaptive_max_pool2d,
    _aten.adaptive_max_pool3d, _aten.max,
}  # fmt: skip


class Gates(TorchDispatchMode):
    """Records the state of every gate a forward pass goes through."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # torch annotates it not
        self.states: list[Tensor] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        packet = func.overloadpacket
        # Before the call: some of these write into their input.
        if packet in _SIGNS:
            limit = args[1] if packet in (_aten.clamp_min, _aten.clamp_min_, _aten.threshold, _aten.threshold_) else 0
            self.states.append(args[0].detach() > limit)
        elif packet in _BOUNDS:
            low, high = (
                ((*args, None, None)[1:3]) if len(args) > 1 or packet in (_aten.clamp, _aten.clamp_) else (-1, 1)
            )
            low, high = kwargs.get("min", low), kwargs.get("max", high)
            state = torch.zeros_like(args[0], dtype=torch.int8)
            state += (args[0].detach() > low).to(torch.int8) if low is not None else 0
            self.states.append(state + ((args[0].detach() > high).to(torch.int8) if high is not None else 0))
        out = func(*args, **kwargs)
        if packet in _POOLS and isinstance(out, (tuple, list)) and len(out) == 2:
            self.states.append(out[1].detach())
        return out


def gate_states(subject: Subject, x: Tensor) -> list[Tensor]:
    """The states of all gates for inputs `x` (m, *shape), one tensor for each call."""
    with Gates() as gates, torch.enable_grad():  # pools of one axis tell their positions to autograd only
        subject.forward(x.clone().requires_grad_(True))
    return gates.states


def flipped(one: list[Tensor], other: list[Tensor]) -> float | None:
    """The share of gates whose state differs, `None` where there are no gates."""
    total = sum(t.numel() for t in one)
    return sum(int((a != b).sum()) for a, b in zip(one, other, strict=True)) / total if total else None


def same_region(one: list[Tensor], other: list[Tensor], samples: int) -> Tensor | None:
    """Which samples (m,) have all gates in the same state; `None` where a gate's first axis is not the sample."""
    if any(len(t) != samples for t in one):
        return None
    inside = torch.ones(samples, dtype=torch.bool, device=one[0].device if one else "cpu")
    for a, b in zip(one, other, strict=True):
        inside &= (a == b).flatten(1).all(1)
    return inside


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


class _Softplus(TorchFunctionMode):
    def __init__(self, beta: float) -> None:
        super().__init__()
        self.beta, self.replaced = beta, 0

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
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
