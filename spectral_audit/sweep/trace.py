"""What a model does with its input and its parameters, seen by watching every torch function of one forward pass.

Three questions are answered at once: which parameters enter only through functions whose contraction rule is known,
whether the output is piecewise linear in the input, and whether it is linear in each single weight (then the loss
Hessian and the Gauss–Newton matrix have the same diagonal).

Watching functions instead of modules sees tied weights, `F.linear(x, other.weight)` and exported programs alike. A
function on no list below counts as unknown, never as harmless.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from torch import Tensor, nn
from torch._ops import OpOverload
from torch.overrides import TorchFunctionMode

_DUNDER = {
    "__add__": "add", "__radd__": "add", "__iadd__": "add", "__sub__": "sub", "__rsub__": "sub", "__isub__": "sub",
    "__mul__": "mul", "__rmul__": "mul", "__imul__": "mul", "__truediv__": "div", "__itruediv__": "div",
    "__matmul__": "matmul", "__rmatmul__": "matmul", "__neg__": "neg", "__getitem__": "getitem",
    "__setitem__": "setitem", "__abs__": "abs",
}  # fmt: skip

# Functions that are linear in all their tensor arguments together.
LINEAR = frozenset(
    "add sub subtract neg negative cat concat stack view reshape flatten unflatten permute transpose swapaxes movedim "
    "t getitem setitem mean sum contiguous clone expand expand_as squeeze unsqueeze pad chunk split unbind to float "
    "double type repeat roll flip select slice index_select narrow constant_pad_nd __get__ view_as reshape_as alias "
    "unfold fold pixel_shuffle pixel_unshuffle channel_shuffle avg_pool1d avg_pool2d avg_pool3d adaptive_avg_pool1d "
    "adaptive_avg_pool2d adaptive_avg_pool3d".split()
)
# Piecewise linear in their first argument.
PIECEWISE = frozenset(
    "relu leaky_relu relu6 hardtanh threshold rrelu abs clamp clamp_min clamp_max maximum minimum max min amax amin "
    "where max_pool1d max_pool2d max_pool3d adaptive_max_pool1d adaptive_max_pool2d adaptive_max_pool3d".split()
)
# Linear in each tensor argument separately.
PRODUCT = frozenset(
    "mul multiply matmul mm bmm mv dot einsum linear conv1d conv2d conv3d conv_transpose1d conv_transpose2d "
    "conv_transpose3d convolution addmm baddbmm bilinear embedding prelu".split()
)
# These do nothing in eval mode.
IDLE = frozenset("dropout dropout1d dropout2d dropout3d alpha_dropout feature_alpha_dropout feature_dropout".split())

_SIGNATURES = {
    "linear": ("input", "weight", "bias"),
    "conv1d": ("input", "weight", "bias", "stride", "padding", "dilation", "groups"),
}
_SIGNATURES |= dict.fromkeys(("conv2d", "conv3d"), _SIGNATURES["conv1d"])


class Dependence(NamedTuple):
    """What a tensor was computed from: the input, and which parameters."""

    on_input: bool
    parameters: frozenset[str]


def function_name(function: Callable[..., Any]) -> str:
    """One name for a torch function, its method, its in-place form and its exported operator."""
    name = (
        function._schema.name.split("::")[1] if isinstance(function, OpOverload) else getattr(function, "__name__", "?")
    )
    return _DUNDER.get(name) or (name if name.startswith("__") else name.rstrip("_"))


def bind(function: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of a torch function by name; empty when its signature is not known."""
    if isinstance(function, OpOverload):
        # aten calls an embedding's input `indices`; everything else has the names of torch.nn.functional.
        schema = ("input" if a.name == "indices" else a.name for a in function._schema.arguments)
        return dict(zip(schema, args, strict=False)) | dict(kwargs)
    names = _SIGNATURES.get(function_name(function))
    if names is not None:
        return dict(zip(names, args, strict=False)) | dict(kwargs)
    try:
        return dict(inspect.signature(function).bind(*args, **kwargs).arguments)
    except (TypeError, ValueError):
        return {}


def tensors_in(value: object) -> list[Tensor]:
    """Every tensor in a nest of tuples, lists and dicts."""
    if isinstance(value, Tensor):
        return [value]
    if isinstance(value, (tuple, list)):
        return [t for part in value for t in tensors_in(part)]
    return [t for part in value.values() for t in tensors_in(part)] if isinstance(value, dict) else []


class Watcher(TorchFunctionMode):
    """Follows one forward pass in which the input and all parameters require gradients.

    After the pass: `structured` are parameters seen in known roles only, `roles` maps them to (function, role) pairs;
    `blockers` are the functions that are not piecewise linear, `curved` those after which the output is not linear in
    each single weight; `opaque` says that some computation went unseen.
    """

    def __init__(
        self, x: Tensor, parameters: Mapping[str, nn.Parameter], roles_of: Mapping[str, tuple[str, ...]]
    ) -> None:
        super().__init__()
        self._roles_of = roles_of
        self._names = {id(p): name for name, p in parameters.items()}
        self._known = {id(x): Dependence(True, frozenset())}
        self._known |= {id(p): Dependence(False, frozenset([name])) for name, p in parameters.items()}
        # By memory; held on to, because an id is only unique while its tensor lives.
        self._kin: dict[int, list[Tensor]] = {}
        for tensor in (x, *parameters.values()):
            self._kin.setdefault(_memory(tensor), []).append(tensor)
        self.structured: dict[str, set[str]] = {}
        self.unstructured: set[str] = set()
        self.blockers: list[str] = []
        self.curved: list[str] = []
        self.opaque = False

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Iterable[type],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        """Run `func` and note what it did."""
        kwargs = kwargs or {}
        inputs = tensors_in(args) + tensors_in(kwargs)
        before = [self.dependence(t) for t in inputs]
        out = func(*args, **kwargs)
        name = function_name(func)
        written = [args[0]] if name == "setitem" else [t for t in tensors_in(out) if t.is_floating_point()]
        if written:
            self._note_parameters(name, bind(func, args, kwargs), inputs)
            self._note_shape(name, func, args, kwargs, before)
            self._pass_on(written, before, inputs)
        return out

    def dependence(self, tensor: Tensor) -> Dependence:
        """What `tensor` depends on; a tensor of unseen origin that carries gradients makes the model opaque."""
        known = self._known.get(id(tensor), Dependence(False, frozenset()))
        if tensor.requires_grad and not (known.on_input or known.parameters):
            self.opaque = True
        return known

    def _note_parameters(self, name: str, bound: dict[str, Any], inputs: list[Tensor]) -> None:
        roles = {id(bound[r]): r for r in self._roles_of.get(name, ()) if isinstance(bound.get(r), nn.Parameter)}
        for tensor in inputs:
            parameter = self._names.get(id(tensor))
            if parameter is None:
                continue
            if id(tensor) in roles and sum(t is tensor for t in inputs) == 1:
                self.structured.setdefault(parameter, set()).add(name)
            else:
                self.unstructured.add(parameter)

    def _note_shape(
        self,
        name: str,
        func: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        before: list[Dependence],
    ) -> None:
        involved = [d for d in before if d.on_input or d.parameters]
        if not involved or name in LINEAR or name in PIECEWISE or name in IDLE:
            return
        affine_norm = name == "batch_norm" and not bind(func, args, kwargs).get("training")
        by_constant = name == "div" and not any(d.on_input or d.parameters for d in before[1:])
        if not (name in PRODUCT or affine_norm or by_constant):
            self.blockers.append(name)
            self.curved.append(name)
            return
        if sum(d.on_input for d in involved) > 1:
            self.blockers.append(name)
        parameters = [p for d in involved for p in d.parameters]
        if len(parameters) != len(set(parameters)):
            self.curved.append(name)

    def _pass_on(self, written: list[Tensor], before: list[Dependence], inputs: list[Tensor]) -> None:
        merged = Dependence(any(d.on_input for d in before), frozenset().union(*(d.parameters for d in before)))
        for tensor in written:
            # What is written into a tensor is in every view of the same memory.
            kin = self._kin.setdefault(_memory(tensor), [])
            if not any(t is tensor for t in kin):
                kin.append(tensor)
            for relative in kin if any(t is tensor for t in inputs) or tensor._base is not None else [tensor]:
                old = self._known.get(id(relative), merged)
                self._known[id(relative)] = Dependence(
                    old.on_input or merged.on_input, old.parameters | merged.parameters
                )


def _memory(tensor: Tensor) -> int:
    """What tells one piece of memory from another; wrapped tensors without one stand for themselves."""
    try:
        return tensor.untyped_storage().data_ptr() or -id(tensor)
    except (RuntimeError, NotImplementedError):
        return -id(tensor)


@dataclass(frozen=True)
class Facts:
    """The answers: see the module's docstring. `curved_by` names the functions that are not piecewise linear."""

    structured: frozenset[str]
    unstructured: frozenset[str]
    uses: dict[str, tuple[str, ...]]
    piecewise_linear: bool
    multilinear: bool
    curved_by: tuple[str, ...]


def facts_of(watcher: Watcher, output: Tensor) -> Facts:
    """Sum up a finished pass whose result was `output`."""
    reached = watcher.dependence(output)
    opaque = watcher.opaque or not (reached.on_input or reached.parameters)
    structured = frozenset() if opaque else frozenset(watcher.structured) - watcher.unstructured
    return Facts(
        structured=structured,
        unstructured=frozenset(watcher.unstructured),
        uses={name: tuple(sorted(functions)) for name, functions in watcher.structured.items()},
        piecewise_linear=not (opaque or watcher.blockers),
        multilinear=not (opaque or watcher.curved),
        curved_by=tuple(dict.fromkeys(watcher.blockers)),
    )


def merged(found: list[Facts]) -> Facts:
    """What holds in every one of several passes."""
    names = {name for facts in found for name in facts.uses}
    ever = {name: tuple(sorted({f for facts in found for f in facts.uses.get(name, ())})) for name in names}
    # Structured where seen at all: a pass that does not use a parameter says nothing against its rule.
    doubtful = {name for facts in found for name in facts.uses if name not in facts.structured}
    return Facts(
        structured=frozenset().union(*(facts.structured for facts in found)) - doubtful - _unstructured(found),
        uses=ever,
        unstructured=_unstructured(found),
        piecewise_linear=all(facts.piecewise_linear for facts in found),
        multilinear=all(facts.multilinear for facts in found),
        curved_by=tuple(dict.fromkeys(f for facts in found for f in facts.curved_by)),
    )


def _unstructured(found: list[Facts]) -> frozenset[str]:
    return frozenset().union(*(facts.unstructured for facts in found))
