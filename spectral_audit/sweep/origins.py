"""Which tensors of a forward pass are parameters in disguise: transposed, sliced, reshaped, repeated or gathered.

Such a tensor holds entries of one parameter, and `index` says which: the gradient of the parameter's entry e is the sum
of the tensor's gradient over all places where the index is e. For a view the index follows from its strides; for a copy
it is the same rearrangement applied to the entries' numbers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn


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
