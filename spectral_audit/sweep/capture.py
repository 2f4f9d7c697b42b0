"""One forward pass that remembers, at every layer with a rule, its input and where its gradient will arrive."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.graph import GradientEdge, get_gradient_edge
from torch.overrides import TorchFunctionMode

from spectral_audit.errors import RefusedError

from .rules import ROLES, RULES, Contribution, Pair
from .trace import bind, function_name


@dataclass(frozen=True)
class Call:
    """One call of a function with a rule: which parameter plays which role, its arguments, its output's gradient edge.

    The edge names the output as the function left it, also when a later in-place operation overwrites the tensor.
    """

    function: str
    roles: dict[str, str]
    arguments: dict[str, Any]
    version: int
    edge: GradientEdge
    shape: torch.Size


class Capture(TorchFunctionMode):
    """Collects a `Call` for every function that uses one of the `wanted` parameters in a role with a rule."""

    def __init__(self, parameters: Mapping[str, nn.Parameter], wanted: Collection[str]) -> None:
        super().__init__()
        self._names = {id(p): name for name, p in parameters.items() if name in wanted}
        self.calls: list[Call] = []

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Iterable[type],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        """Run `func` and remember it if a rule will need it."""
        kwargs = kwargs or {}
        out = func(*args, **kwargs)
        function = function_name(func)
        if function not in ROLES or not isinstance(out, Tensor):
            return out
        bound = bind(func, args, kwargs)
        roles = {r: self._names[id(bound[r])] for r in ROLES[function] if id(bound.get(r)) in self._names}
        if not roles:
            return out
        if not out.requires_grad:  # an embedding of integer columns: the gradient ends here
            out = out.detach().requires_grad_().clone()
        arguments = {k: v.detach() if isinstance(v, Tensor) else v for k, v in bound.items()}
        version = arguments["input"]._version
        self.calls.append(Call(function, roles, arguments, version, get_gradient_edge(out), out.shape))
        return out


def contributions(calls: list[Call], cotangents: list[Tensor]) -> dict[str, Contribution]:
    """The gradient rows of every captured parameter, summed over its calls, for `cotangents` (n, C, *out) per call.

    Raises `RefusedError` when an input was overwritten after its use, since no gradient can be right then.
    """
    parts: dict[str, list[Contribution]] = {}
    for call, g in zip(calls, cotangents, strict=True):
        if call.arguments["input"]._version != call.version:
            raise RefusedError(
                f"the model overwrites the input of {call.function} after using it",
                expected="operations that autograd could differentiate with respect to the weights",
                found=f"an in-place change behind {', '.join(call.roles.values())}",
                remedy="use the out-of-place form of that operation",
            )
        for role, parameter in call.roles.items():
            parts.setdefault(parameter, []).append(RULES[call.function, role](call.arguments, g))
    return {parameter: _merge(pieces) for parameter, pieces in parts.items()}


def _merge(pieces: list[Contribution]) -> Contribution:
    """Several calls of one parameter: positions of equal kind are concatenated, anything else is added up as rows."""
    if len(pieces) == 1:
        return pieces[0]
    pairs = [p for p in pieces if isinstance(p, Pair)]
    same = len({(p.g.shape[2], p.g.shape[4], p.a.shape[3]) for p in pairs}) == 1
    if len(pairs) == len(pieces) and same:
        return Pair(torch.cat([p.a for p in pairs], 2), torch.cat([p.g for p in pairs], 3))
    rows = [p.rows() if isinstance(p, Pair) else p.flatten(2) for p in pieces]
    return torch.stack(rows).sum(0)
