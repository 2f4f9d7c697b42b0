"""Follows a forward pass: composite functions in explicit form, parameters in disguise, and where the samples stand."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from torch import Tensor, nn

from spectral_audit.passes.functions import BROADCASTING, REARRANGING, bind, function_name, in_place, tensors_in
from spectral_audit.passes.mode import FunctionMode

from .arrangement import arrangement
from .decompose import explicit_form
from .origins import Origins


class Spread(NamedTuple):
    """A tensor of a parameter's entries, the shape (n, ...) of its copies, and how often each copy is needed.

    `repeated` tensors have a first axis of samples already.
    """

    tensor: Tensor
    shape: tuple[int, ...]
    times: int = 1
    repeated: bool = False


def _spread_over(p: Tensor, data: Tensor, samples: int) -> Spread | None:
    """How `p` meets `data` in an elementwise function, if it does so on axes below that of the samples."""
    kind = arrangement(data, samples, sequences=True)
    axes = data.ndim - 1 - (kind == "second")
    while p.ndim > max(axes, 0) and len(p) == 1:
        p = p[0]
    if kind is None or p.ndim > axes:
        return None
    shape = (samples, *(1,) * (axes - p.ndim), *p.shape)
    return Spread(p, shape, len(data) // samples if kind == "folded" else 1)


class Follower(FunctionMode):
    """Runs a forward pass with composite functions in explicit form, and keeps track of parameters in disguise."""

    def __init__(self, parameters: Mapping[str, nn.Parameter], samples: int | None = None) -> None:
        super().__init__()
        self.origins = Origins(parameters)
        self._samples = samples
        # Indices, masks and what was looked up by them: computed from the input without a gradient, by id.
        self._without_gradient: dict[int, Tensor] = {}
        # Computed from parameters that need a gradient, and nothing else.
        self._without_input: dict[int, Tensor] = {}

    def handle(self, func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Replace `func` by its explicit form if there is one, else `see` it."""
        if self._samples is None:  # the first tensor that the input is in is the input
            inputs = tensors_in((args, kwargs))
            self._samples = next((len(t) for t in inputs if self.carries_input(t) and t.ndim), None)
        explicit = explicit_form(func, args, kwargs, self._owned)
        bound = bind(func, args, kwargs) if explicit else {}
        if explicit and bound:
            with self:  # a mode is off while it handles a call
                out = explicit(self._owned, bound)
            if out is not NotImplemented:
                return out
        return self.see(func, args, kwargs)

    def _owned(self, tensor: object) -> bool:
        return self.origins.name(tensor) is not None

    @abstractmethod
    def see(self, func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Return what `call` does, and note what is to be known about it."""

    @abstractmethod
    def carries_input(self, tensor: Tensor) -> bool:
        """Whether `tensor` is known to have a gradient with respect to the model's input."""

    def from_input(self, tensor: Tensor) -> bool:
        """Whether any tensor was computed from the model's input."""
        return id(tensor) in self._without_gradient or self.carries_input(tensor)

    def call(self, func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """func(*args, **kwargs), followed."""
        out = func(*args, **kwargs)
        outs = tensors_in(out)
        if any(self.from_input(t) for t in tensors_in((args, kwargs))):
            for tensor in (*outs, *(tensors_in(args[:1]) if in_place(func) else ())):
                self._without_input.pop(id(tensor), None)
            self._without_gradient |= {id(t): t for t in outs if not self.carries_input(t)}
            return out
        self._without_input |= {id(t): t for t in outs if t.requires_grad}
        if isinstance(out, Tensor):
            self._follow(out, func, args, kwargs)
        return out

    def spread(self, func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[int, Spread]:
        """Parameters in a call, by the ids of their tensors, that can be replaced by one copy for every sample.

        That leaves the result as it is, and the gradient of the copies is that of the parameter, sample by sample.
        Elementwise functions broadcast a parameter over the samples; whatever else gets a parameter that the model has
        repeated along the first axis (a class token, a learned query) gets it once for every sample already.
        """
        name, tensors = function_name(func), tensors_in((args, kwargs))
        broadcasting, found = name in BROADCASTING, {}
        owned = [t for t in tensors if self._owned(t)]
        if not owned or (in_place(func) and (not broadcasting or tensors[0] is owned[0])):
            return {}
        data = [t for t in tensors if not self._owned(t) and self.from_input(t)]
        most = max(data, key=lambda t: t.ndim, default=None)
        for t in owned:
            over = _spread_over(t, most, self._samples) if broadcasting and most is not None and self._samples else None
            if over is not None:
                found[id(t)] = over
            elif self.origins.repeated(t):
                found[id(t)] = Spread(t, tuple(t.shape), repeated=True)
        return found

    def _follow(self, out: Tensor, func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        name = function_name(func)
        if name in REARRANGING and args and self.origins.name(args[0]) is not None:
            self.origins.note_copy(out, args[0], lambda entries: func(entries, *args[1:], **kwargs))
        if name == "embedding":  # at an index that is the same for every sample: positions
            bound = bind(func, args, kwargs)
            weight, index = bound["weight"], bound["input"]
            if self.origins.name(weight) is not None and bound.get("padding_idx") in (None, -1):
                self.origins.note_copy(out, weight, lambda entries: entries[index])
