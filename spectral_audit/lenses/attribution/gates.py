"""The gates of a model: switches between linear pieces, such as the sign at a rectifier or the place of a maximum."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from spectral_audit.subject import Subject

_aten = torch.ops.aten
_Arguments = tuple[Any, ...]


def _sign(args: _Arguments) -> Tensor:
    return args[0] > 0


def _above(args: _Arguments) -> Tensor:
    return args[0] > args[1]


def _between(default_low: float | None, default_high: float | None) -> Callable[[_Arguments], Tensor]:
    """Which of three pieces an entry is on."""

    def state(args: _Arguments) -> Tensor:
        given = list(args[1:3])
        low, high = given + [default_low, default_high][len(given) :]
        parts = [(args[0] > limit).to(torch.int8) for limit in (low, high) if limit is not None]
        return torch.stack(parts).sum(0)

    return state


def _shrunk(args: _Arguments) -> Tensor:
    limit = args[1] if len(args) > 1 else 0.5
    return _between(-limit, limit)(args[:1])


def _attained(reduce: Callable[..., Tensor]) -> Callable[[_Arguments], Tensor]:
    """Where the extreme value over some axes is attained."""
    return lambda args: args[0] == reduce(args[0], dim=args[1] if len(args) > 1 else (), keepdim=True)


# Looked at before the call: some of these write into their input.
_BEFORE: dict[Any, Callable[[_Arguments], Tensor]] = {
    **dict.fromkeys((_aten.relu, _aten.relu_, _aten.leaky_relu, _aten.leaky_relu_, _aten.rrelu_with_noise), _sign),
    **dict.fromkeys((_aten._prelu_kernel, _aten.abs, _aten.abs_, _aten.sign), _sign),
    **dict.fromkeys((_aten.threshold, _aten.threshold_, _aten.clamp_min, _aten.clamp_min_), _above),
    **dict.fromkeys((_aten.clamp_max, _aten.clamp_max_, _aten.maximum, _aten.minimum, _aten.fmax, _aten.fmin), _above),
    **dict.fromkeys((_aten.clamp, _aten.clamp_), _between(None, None)),
    **dict.fromkeys((_aten.hardtanh, _aten.hardtanh_), _between(-1, 1)),
    **dict.fromkeys((_aten.hardsigmoid, _aten.hardsigmoid_), lambda args: _between(-3, 3)(args[:1])),
    **dict.fromkeys((_aten.softshrink, _aten.hardshrink), _shrunk),
    _aten.where: lambda args: args[0],
    _aten.masked_fill: lambda args: args[1],
    _aten.amax: _attained(torch.amax),
    _aten.amin: _attained(torch.amin),
}
# These tell where they found their values.
_AFTER = {
    _aten.max_pool2d_with_indices, _aten.max_pool3d_with_indices, _aten.adaptive_max_pool2d,
    _aten.adaptive_max_pool3d, _aten.max, _aten.min, _aten.sort, _aten.topk, _aten.median,
}  # fmt: skip
_NAMED = ("min", "max")  # bounds that `clamp` may get by keyword


class _Gates(TorchDispatchMode):
    """Records the state of every gate a forward pass goes through."""

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False  # to skip the compiler torch loads it, which takes a second; nothing is compiled here

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # torch does not annotate it
        self.states: list[Tensor] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        state = _BEFORE.get(func.overloadpacket)
        if state is not None:
            bounds = [kwargs.get(name) for name in _NAMED] if set(_NAMED) & set(kwargs) else []
            self.states.append(state((*args, *bounds[len(args) - 1 :])).detach())
        out = func(*args, **kwargs)
        if func.overloadpacket in _AFTER:
            found = out[1] if isinstance(out, (tuple, list)) else args[0] == out
            self.states.append(found.detach())
        return out


def gate_states(subject: Subject, x: Tensor) -> list[Tensor]:
    """The states of all gates for inputs `x` (m, *shape), one tensor for each call."""
    with _Gates() as gates, torch.enable_grad():  # pools of one axis tell their positions to autograd only
        subject.forward(x.clone().requires_grad_(True))
    return gates.states


def flipped(one: list[Tensor], other: list[Tensor]) -> float | None:
    """The share of gates whose state differs, `None` where there are no gates."""
    total = sum(t.numel() for t in one)
    return sum(int((a != b).sum()) for a, b in zip(one, other, strict=True)) / total if total else None


def same_region(one: list[Tensor], other: list[Tensor], samples: int) -> Tensor | None:
    """Which samples (m,) have all gates in the same state; `None` where a gate's first axis is not the sample."""
    if any(t.ndim == 0 or len(t) != samples for t in one):
        return None
    inside = torch.ones(samples, dtype=torch.bool, device=one[0].device if one else "cpu")
    for a, b in zip(one, other, strict=True):
        inside &= (a == b).reshape(samples, -1).all(1)
    return inside
