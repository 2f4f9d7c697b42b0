"""Norms over a sample's own statistics, written out in sums, products and powers.

Torch's layer_norm and instance_norm are silently wrong from the third derivative on, and in forward mode over forward
mode (up to torch 2.13); what they are made of is right.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor

from .functions import bind, function_name
from .mode import FunctionMode

_EPS = 1e-5


class NormsWrittenOut(FunctionMode):
    """While it is entered, these norms are computed step by step."""

    def handle(self, func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Replace the function if it is such a norm."""
        written = _WRITTEN.get(function_name(func))
        bound = bind(func, args, kwargs) if written else {}
        out = written(bound) if written and "input" in bound else NotImplemented
        return func(*args, **kwargs) if out is NotImplemented else out


def _standardised(x: Tensor, axes: tuple[int, ...], eps: float) -> Tensor:
    away = x - x.mean(axes, keepdim=True)
    return away * (away.square().mean(axes, keepdim=True) + eps).rsqrt()


def _affine(x: Tensor, gain: Tensor | None, shift: Tensor | None, shape: tuple[int, ...]) -> Tensor:
    x = x if gain is None else x * gain.view(shape)
    return x if shift is None else x + shift.view(shape)


def _layer_norm(bound: dict[str, Any]) -> Any:
    shape = tuple(bound["normalized_shape"])
    axes = tuple(range(-len(shape), 0))
    normal = _standardised(bound["input"], axes, bound.get("eps", _EPS))
    return _affine(normal, bound.get("weight"), bound.get("bias"), shape)


def _instance_norm(bound: dict[str, Any]) -> Any:
    x: Tensor = bound["input"]
    if not bound.get("use_input_stats", True) or x.ndim < 3:
        return NotImplemented
    normal = _standardised(x, tuple(range(2, x.ndim)), bound.get("eps", _EPS))
    return _affine(normal, bound.get("weight"), bound.get("bias"), (-1, *(1,) * (x.ndim - 2)))


_WRITTEN = {"layer_norm": _layer_norm, "instance_norm": _instance_norm}
