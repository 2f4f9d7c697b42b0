"""Faster passes through convolutional models: the norm behind a convolution folded into it.

In eval mode a batch norm is affine in each channel: behind a convolution it gives s(Wx + b − μ) + β, s = γ/√(σ² + ε),
which is a convolution with the weights sW and the bias s(b − μ) + β. Folded, its passes over the activations are saved,
and γ and β stay parameters like any. The convolutions are those of `convolution`, faster to differentiate twice.

Functions are watched, not modules: modules, TorchScript and exported programs then run the same operations.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from .convolution import convolution
from .functions import bind, function_name, tensors_in
from .mode import FunctionMode

_CONVOLUTIONS = {"conv1d": 1, "conv2d": 2, "conv3d": 3}
_NORM = "batch_norm"
# Questions about a tensor that its values have no part in.
_QUESTIONS = {"dim", "ndimension", "size", "numel", "stride", "is_floating_point", "is_contiguous", "__len__"}


@dataclass(frozen=True)
class Norm:
    """A batch norm in eval mode: the names of its parameters (if it has them) and statistics, and its ε."""

    weight: str | None
    bias: str | None
    mean: str
    variance: str
    eps: float


Fused = Mapping[str, Norm | None]


def fusible(model: nn.Module, parts: Sequence[Tensor], expected: Tensor) -> Fused:
    """The convolutions of `model` (in eval mode) that `fused` may run, by the names of their weights, and the norm that
    alone takes the output of each (`None`: there is none).

    The first of `parts` tells; that the outputs for all of them are the `expected` ones (n, C) is made sure of.
    """
    watch = _Watch(model)
    with torch.no_grad(), watch:
        model(parts[0])
    found = watch.found()
    plain = dict.fromkeys(found)
    return next((plan for plan in (found, plain) if plan and _same(model, parts, expected, plan)), {})


def fused(model: nn.Module, plan: Fused, x: Tensor) -> Any:
    """What `model` returns for `x`, its convolutions run in the faster way.

    A model that does something else with the output of a convolution this time is run as it is written.
    """
    if plan:
        try:
            with _Run(model, plan):
                return model(x)
        except _DivergedError:
            pass
    return model(x)


def _same(model: nn.Module, parts: Sequence[Tensor], expected: Tensor, plan: Fused) -> bool:
    with torch.no_grad():
        found = torch.cat([fused(model, plan, part) for part in parts]).view_as(expected)
    difference = float((found - expected).abs().max())
    return difference <= 1e3 * torch.finfo(expected.dtype).eps * float(expected.abs().max())


class _DivergedError(Exception):
    """The output of a convolution does not go where it went before."""


class _Mode(FunctionMode):
    """Sees the convolutions and norms of a forward pass."""

    def handle(self, func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Hand on the function's name and its arguments, by name where these matter."""
        name = function_name(func)
        bound = bind(func, args, kwargs) if name in _CONVOLUTIONS or name == _NORM else {}
        return self.see(name, bound, lambda: func(*args, **kwargs), tensors_in((args, kwargs)))

    @abstractmethod
    def see(self, name: str, bound: dict[str, Any], call: Callable[[], Any], tensors: list[Tensor]) -> Any:
        """What the function returns."""


class _Watch(_Mode):
    """Finds the named weights of convolutions, and what takes their outputs."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        tensors = [*model.named_parameters(), *model.named_buffers()]
        self._names = {id(t): name for name, t in tensors}
        self._outputs: dict[int, tuple[str, Tensor]] = {}
        self._takers: dict[str, list[Norm | None]] = {}

    def see(self, name: str, bound: dict[str, Any], call: Callable[[], Any], tensors: list[Tensor]) -> Any:
        """Note who takes the output of a convolution; remember the output of this one."""
        norm = self._norm(bound) if name == _NORM else None
        out = call()
        if _asks(name, out):
            return out
        for t in tensors:
            if id(t) in self._outputs:
                self._takers[self._outputs[id(t)][0]].append(norm if t is bound.get("input") else None)
        weight = self._names.get(id(bound.get("weight"))) if name in _CONVOLUTIONS else None
        if weight is not None and _usual(name, bound):
            self._outputs[id(out)] = weight, out
            self._takers.setdefault(weight, [])
        return out

    def _norm(self, bound: dict[str, Any]) -> Norm | None:
        given = [bound.get(key) for key in ("weight", "bias", "running_mean", "running_var")]
        names = [None if t is None else self._names.get(id(t), "") for t in given]
        weight, bias, mean, variance = names
        if bound.get("training") or not mean or not variance or "" in names:
            return None
        return Norm(weight, bias, mean, variance, float(bound.get("eps", 1e-5)))

    def found(self) -> dict[str, Norm | None]:
        """The norm behind each convolution, where nothing else takes its output in any of its calls."""
        calls = [weight for weight, _ in self._outputs.values()]
        found: dict[str, Norm | None] = {}
        for weight, takers in self._takers.items():
            alone = len(takers) == calls.count(weight) and len(set(takers)) == 1
            found[weight] = takers[0] if alone else None
        return found


class _Run(_Mode):
    """Runs convolutions with the norm behind them in one, and passes the norm over."""

    def __init__(self, model: nn.Module, plan: Fused) -> None:
        super().__init__()
        self._plan: dict[int, _Parts | None] = {}
        for weight, norm in plan.items():
            self._plan[id(_tensor(model, weight))] = None if norm is None else _parts(model, norm)
        self._folded: dict[int, tuple[Tensor, _Parts]] = {}

    def see(self, name: str, bound: dict[str, Any], call: Callable[[], Any], tensors: list[Tensor]) -> Any:
        """Run what is in the plan in the faster way, and anything else as it is."""
        taken = [self._folded[id(t)] for t in tensors if id(t) in self._folded]
        if taken:
            return self._pass(name, bound, call, *taken[0])
        key = id(bound.get("weight")) if name in _CONVOLUTIONS else 0
        if key not in self._plan or not _usual(name, bound):
            return call()
        parts = self._plan[key]
        weight, bias = bound["weight"], bound.get("bias")
        # A view: the engine only tells of results of operations whether their gradient is wanted.
        weight, bias = (weight.view_as(weight), bias) if parts is None else _folded(weight, bias, parts)
        options = {key: bound[key] for key in ("stride", "padding", "dilation", "groups") if key in bound}
        out = convolution(bound["input"], weight, bias, **options)
        if parts is not None:
            self._folded[id(out)] = out, parts
        return out

    def _pass(self, name: str, bound: dict[str, Any], call: Callable[[], Any], out: Tensor, parts: _Parts) -> Any:
        """The output of a convolution with its norm, when this is that norm; another tensor from here on."""
        if name in _QUESTIONS or name == "__get__":
            answer = call()
            if _asks(name, answer):
                return answer
        if name != _NORM or bound["input"] is not out or bound.get("running_mean") is not parts.mean:
            raise _DivergedError
        return out.view_as(out)


def _usual(name: str, bound: dict[str, Any]) -> bool:
    """Whether a convolution is of a batch, with its padding in numbers."""
    return bound["input"].ndim == 2 + _CONVOLUTIONS[name] and not isinstance(bound.get("padding"), str)


def _asks(name: str, answer: Any) -> bool:
    """Whether a function only asked about a tensor; its attributes that are no tensors are such questions too."""
    return name in _QUESTIONS or (name == "__get__" and not isinstance(answer, Tensor))


@dataclass(frozen=True)
class _Parts:
    """The tensors of a norm."""

    weight: Tensor | None
    bias: Tensor | None
    mean: Tensor
    variance: Tensor
    eps: float


def _parts(model: nn.Module, norm: Norm) -> _Parts:
    weight, bias = (None if name is None else _tensor(model, name) for name in (norm.weight, norm.bias))
    return _Parts(weight, bias, _tensor(model, norm.mean), _tensor(model, norm.variance), norm.eps)


def _tensor(model: nn.Module, name: str) -> Tensor:
    folder, _, last = name.rpartition(".")
    found: Tensor = getattr(model.get_submodule(folder), last)
    return found


def _folded(weight: Tensor, bias: Tensor | None, norm: _Parts) -> tuple[Tensor, Tensor]:
    """sW and s(b − μ) + β."""
    scale = (norm.variance + norm.eps).rsqrt()
    scale = scale if norm.weight is None else norm.weight * scale
    shift = -norm.mean if bias is None else bias - norm.mean
    shift = scale * shift if norm.bias is None else torch.addcmul(norm.bias, scale, shift)
    return weight * scale.view(-1, *(1 for _ in weight.shape[1:])), shift
