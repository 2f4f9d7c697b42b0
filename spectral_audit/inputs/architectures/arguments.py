"""The arguments of built-in architectures, which come from YAML, JSON and file headers, checked one by one."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from torch import nn

from spectral_audit.errors import UsageError, nearest

ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "relu": nn.ReLU,
    "leaky_relu": nn.LeakyReLU,
    "elu": nn.ELU,
    "gelu": nn.GELU,
    "silu": nn.SiLU,
    "softplus": nn.Softplus,
    "tanh": nn.Tanh,
    "sigmoid": nn.Sigmoid,
}
POOLINGS: dict[str, Callable[[int], nn.Module]] = {"max": nn.MaxPool2d, "average": nn.AvgPool2d}
PIECEWISE_LINEAR = ("relu", "leaky_relu")
_Made = TypeVar("_Made")


def require_positive(family: str, **counts: object) -> None:
    """Counts come from YAML and JSON, where `true` and `8.0` are easily written for a number."""
    for name, value in counts.items():
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise bad(family, name, value, "a positive integer")


def bad(family: str, name: str, value: object, expected: str, hint: str = "") -> UsageError:
    """The error for an argument that an architecture cannot have; `hint` is a clause after the remedy."""
    return UsageError(
        f"built-in architecture `{family}`: bad value for `{name}`",
        expected=expected,
        found=repr(value)[:200],
        remedy=f"correct `{name}` in --arch-kwargs, or in `model.kwargs` of the spec{hint}.",
    )


def activation_of(family: str, name: object) -> Callable[[], nn.Module]:
    """The constructor of an activation by its name; raises `UsageError` for an unknown one."""
    return _chosen(ACTIVATIONS, family, "activation", name)


def pooling_of(family: str, name: object) -> Callable[[int], nn.Module]:
    """The constructor of a pooling by its name; raises `UsageError` for an unknown one."""
    return _chosen(POOLINGS, family, "pooling", name)


def _chosen(known: dict[str, _Made], family: str, argument: str, name: object) -> _Made:
    if isinstance(name, str) and name in known:
        return known[name]
    raise bad(family, argument, name, f"one of: {', '.join(known)}", f"; {nearest(str(name), known)}")
