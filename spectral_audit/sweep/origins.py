"""Which tensors of a forward pass are parameters in disguise: transposed, sliced, reshaped, repeated or gathered.

Such a tensor holds entries of one parameter, and `index` says which: the gradient of the parameter's entry e is the sum
of the tensor's gradient over all places where the index is e. For a view the index follows from its strides; for a copy
it is the same rearrangement applied to the entries' numbers.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from .decompose import explicit_form
from .functions import BROADCASTING, REARRANGING, bind, function_name, in_place, tensors_in


class Origins:
    """Knows `parameters` and everything made of their entries alone."""

    def __init__(self, parameters: Mapping[str, nn.Parameter]) -> None:
        self._names = {id(p): name for name, p in parameters.items()}
        # Copies by id, held on to because an id is only unique while its tensor lives.
        self._copies: dict[int, tuple[Tensor, str, Tensor]] = {}

    def name(self, tensor: object) -> str | None:
        """The parameter whose entries `tensor` holds, if there is one."""
        if not isinstance(tensor, Tensor):
            return None
        base = tensor._base
        if id(tensor) in self._names or base is None or not base.is_contiguous():
            base = tensor
        return self._names.get(id(base)) or self._copies.get(id(base), (None, None))[1]

    def index(self, tensor: Tensor) -> Tensor | None:
        """The parameter's entry at each place of a `tensor` that has a name; `None` if it is all of them in order."""
        if id(tensor) in self._names:
            return None
        if id(tensor) in self._copies:
            return self._copies[id(tensor)][2]
        base = tensor._base
        if base is None or (_is_in_order(tensor, base) and id(base) in self._names):
            return None
        places = _places(tensor, base)
        return self._copies[id(base)][2].flatten()[places] if id(base) in self._copies else places

    def repeated(self, tensor: Tensor) -> bool:
        """Whether the first axis of a `tensor` that has a name repeats the same entries, as for every sample."""
        if id(tensor) in self._names or tensor.ndim == 0:
            return False
        if len(tensor) == 1 or tensor.stride(0) == 0:
            return True
        index = self._copies[id(tensor)][2] if id(tensor) in self._copies else None
        return index is not None and bool((index == index[:1]).all())

    def note_copy(self, out: Tensor, source: Tensor, rearrange: Callable[[Tensor], Tensor]) -> None:
        """Remember that `out` = rearrange(source) for a `source` that has a name."""
        name, index = self.name(source), self.index(source)
        if name is not None and self.name(out) is None:
            entries = torch.arange(source.numel(), device=source.device).view(source.shape) if index is None else index
            self._copies[id(out)] = out, name, rearrange(entries)


def _is_in_order(view: Tensor, base: Tensor) -> bool:
    same_place = view.storage_offset() == base.storage_offset()
    return view.numel() == base.numel() and same_place and view.is_contiguous()


def _places(view: Tensor, base: Tensor) -> Tensor:
    """Offsets of a `view`'s entries in its contiguous `base`, in the view's shape."""
    places = torch.tensor(view.storage_offset() - base.storage_offset(), device=view.device)
    for size, stride in zip(view.shape, view.stride(), strict=True):
        places = places[..., None] + stride * torch.arange(size, device=view.device)
    return places


class Spread(NamedTuple):
    """A tensor of a parameter's entries, and its shape with a leading axis of samples."""

    tensor: Tensor
    shape: tuple[int, ...]


def _fits_below(p: Tensor, data: Tensor) -> bool:
    """Whether `p` meets `data` on axes below the first alone."""
    return p.ndim < data.ndim or (p.ndim == data.ndim > 0 and len(p) == 1)


class Follower(TorchFunctionMode):
    """Runs a forward pass with composite functions in explicit form, and keeps track of parameters in disguise."""

    def __init__(self, parameters: Mapping[str, nn.Parameter]) -> None:
        super().__init__()
        self.origins = Origins(parameters)
        # Indices, masks and what was looked up by them: computed from the input without a gradient, by id.
        self._without_gradient: dict[int, Tensor] = {}

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Iterable[type],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        """Replace `func` by its explicit form if there is one, else `see` it."""
        kwargs = kwargs or {}
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
        moved = any(self.from_input(t) for t in tensors_in((args, kwargs)))
        if moved:
            self._without_gradient |= {id(t): t for t in tensors_in(out) if not self.carries_input(t)}
        elif isinstance(out, Tensor):
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
            if broadcasting and most is not None and _fits_below(t, most):
                between = (1,) * (most.ndim - 1 - t.ndim)
                found[id(t)] = Spread(t, (len(most), *between, *t.shape[t.ndim == most.ndim :]))
            elif self.origins.repeated(t):
                found[id(t)] = Spread(t, tuple(t.shape))
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
