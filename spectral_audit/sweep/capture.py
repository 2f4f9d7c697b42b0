"""One forward pass that remembers, at every layer with a rule, its input and where its gradient will arrive."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.graph import GradientEdge, get_gradient_edge

from spectral_audit.errors import RefusedError
from spectral_audit.passes.functions import BROADCASTING, bind, function_name, replaced, tensors_in

from .arrangement import arrangement, as_it_was, fold, samples_first, unfold
from .follow import Follower, Spread
from .pairs import Contribution, Place, merged, placed
from .rules import LAST_AXIS, ROLES, RULES


@dataclass(frozen=True)
class Call:
    """One call of a function with a rule: which parameter plays which role, its arguments, its output's gradient edge.

    The edge names the output as the function left it, also when a later in-place operation overwrites the tensor.
    Its first axis and that of `input` count the samples. `places` says where the entries of a rearranged or partial
    parameter belong; `folded`, that the function itself had the first two axes as one.
    """

    function: str
    roles: dict[str, str]
    arguments: dict[str, Any]
    version: int
    edge: GradientEdge
    shape: torch.Size
    places: dict[str, Place] = field(default_factory=dict)
    folded: bool = False


class Capture(Follower):
    """Collects a `Call` for every function that uses one of the `wanted` parameters in a role with a rule."""

    def __init__(self, parameters: Mapping[str, nn.Parameter], wanted: Collection[str]) -> None:
        super().__init__({name: p for name, p in parameters.items() if name in wanted})
        self._parameters = dict(parameters)
        self._ids = {id(p) for p in parameters.values()}
        self.calls: list[Call] = []

    def see(self, func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Run `func` and remember it if a rule will need it."""
        function = function_name(func)
        bound = bind(func, args, kwargs) if function in ROLES else {}
        roles = {r: bound[r] for r in ROLES.get(function, ()) if self.origins.name(bound.get(r)) is not None}
        spread = {} if roles else self.spread(func, args, kwargs)
        if spread:
            return self._see_spread(func, args, kwargs, spread)
        out = self.call(func, args, kwargs)
        if not roles or not isinstance(out, Tensor) or self.origins.name(out) is not None:
            return out
        return self._see_roles(function, roles, bound, out)

    def _see_spread(
        self, func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], spread: dict[int, Spread]
    ) -> Any:
        if function_name(func) not in BROADCASTING:  # the parameter may only move on: be repeated, or be asked its size
            out = self.call(func, args, kwargs)
            if all(self.origins.name(t) is not None for t in tensors_in(out) if t.is_floating_point()):
                return out
        copies = {key: _copies(s) for key, s in spread.items()}
        for key, copy in copies.items():
            # One copy's worth of a tensor that stands for every sample already: their entries are the same.
            p = spread[key].tensor[0] if spread[key].repeated else spread[key].tensor
            self._note("spread", {"weight": p}, {"input": copy}, copy)
        fed = {key: copy.repeat_interleave(spread[key].times, 0) for key, copy in copies.items()}
        return self.call(func, replaced(args, fed), replaced(kwargs, fed))

    def _see_roles(self, function: str, roles: dict[str, Tensor], bound: dict[str, Any], out: Tensor) -> Tensor:
        if not out.requires_grad:  # an embedding of integer columns: the gradient ends here
            out = out.detach().requires_grad_().clone()
        n, x = self._samples or len(out), bound["input"]
        any_position = function in LAST_AXIS
        kind = arrangement(out, n, sequences=any_position)
        if kind in (None, "first") or len(x) != len(out):
            self._note(function, roles, bound, out)
            return out
        out, x = samples_first(out, kind, n), samples_first(x, kind, n)
        self._note(function, roles, bound | {"input": x}, out, folded=not any_position)
        return as_it_was(out, kind)

    def _note(
        self, function: str, roles: dict[str, Tensor], bound: dict[str, Any], out: Tensor, *, folded: bool = False
    ) -> None:
        names = {role: self.origins.name(tensor) or "" for role, tensor in roles.items()}
        places = {}
        for role, tensor in roles.items():
            index = self.origins.index(tensor)
            if index is not None:
                places[role] = Place(index, self._parameters[names[role]].numel())
        arguments = {k: v.detach() if isinstance(v, Tensor) else v for k, v in bound.items()}
        version = arguments["input"]._version
        self.calls.append(Call(function, names, arguments, version, get_gradient_edge(out), out.shape, places, folded))

    def carries_input(self, tensor: Tensor) -> bool:
        """Whether `tensor` has a gradient, and not from parameters alone."""
        return tensor.requires_grad and id(tensor) not in self._without_input and id(tensor) not in self._ids


def _copies(spread: Spread) -> Tensor:
    """(n, ...) with a gradient of its own, through which that of the parameter passes if it needs one."""
    copies = spread.tensor.expand(spread.shape)
    return copies if copies.requires_grad else copies.detach().requires_grad_()


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
            found = _rows(call, role, g)
            place = call.places.get(role)
            parts.setdefault(parameter, []).append(found if place is None else placed(found, place))
    return {parameter: merged(pieces) for parameter, pieces in parts.items()}


def _rows(call: Call, role: str, g: Tensor) -> Contribution:
    rule = RULES[call.function, role]
    if not call.folded:
        return rule(call.arguments, g)
    return unfold(rule({**call.arguments, "input": call.arguments["input"].flatten(0, 1)}, fold(g)), len(g))
