"""What a model does with its input and its parameters, seen by watching every torch function of one forward pass.

Three questions are answered at once: which parameters enter only through functions whose contraction rule is known,
whether the output is piecewise linear in the input, and whether it is linear in each single weight (then the loss
Hessian and the Gauss–Newton matrix have the same diagonal).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from spectral_audit.passes.functions import (
    IDLE,
    LINEAR,
    PIECEWISE,
    PRODUCT,
    TURNING,
    bind,
    function_name,
    in_place,
    tensors_in,
)

from .arrangement import arrangement, samples_first
from .follow import Follower


class Dependence(NamedTuple):
    """What a tensor was computed from: the input, and which parameters."""

    on_input: bool
    parameters: frozenset[str]


class Watcher(Follower):
    """Follows one forward pass in which the input and all parameters require gradients.

    After the pass: `structured` maps parameters seen in roles with a rule to the functions, `unstructured` are those
    seen in others; `blockers` are the functions that are not piecewise linear, `curved` those after which the output is
    not linear in each single weight; `opaque` says that some computation went unseen.
    """

    def __init__(
        self, x: Tensor, parameters: Mapping[str, nn.Parameter], roles_of: Mapping[str, tuple[str, ...]]
    ) -> None:
        super().__init__(parameters, len(x))
        self._roles_of = roles_of
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
        self._x = x
        self._turned = False

    def see(self, func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Run `func` and note what it did."""
        inputs = tensors_in(args) + tensors_in(kwargs)
        before = [self.dependence(t) for t in inputs]
        out = self.call(func, args, kwargs)
        name = function_name(func)
        if name in TURNING and isinstance(out, Tensor) and inputs and self.from_input(inputs[0]):
            self._turned |= out.stride()[:1] != inputs[0].stride()[:1]
        written = [args[0]] if name == "setitem" else [t for t in tensors_in(out) if t.is_floating_point()]
        if written:
            moved = not in_place(func) and all(self.origins.name(t) for t in written)
            if not moved and any(t.requires_grad for t in written):
                self._note_parameters(func, args, kwargs, astray=self._astray(written[0]))
            self._note_shape(name, func, args, kwargs, before)
            self._pass_on(written, before, inputs)
        return out

    def carries_input(self, tensor: Tensor) -> bool:
        """Whether `tensor` depends on the input."""
        return self._known.get(id(tensor), Dependence(False, frozenset())).on_input

    def dependence(self, tensor: Tensor) -> Dependence:
        """What `tensor` depends on; a tensor of unseen origin that carries gradients makes the model opaque."""
        known = self._known.get(id(tensor), Dependence(False, frozenset()))
        if tensor.requires_grad and not (known.on_input or known.parameters):
            self.opaque = True
        return known

    def _astray(self, out: Tensor) -> bool:
        """Whether the samples of `out` stand elsewhere than `arrangement` says, where its shape allows two readings.

        Sequences can be as long as the batch. Only the first sample's input may then have a gradient in the first
        sample's output; where the input has none at all, a first axis that was turned away before is enough of a doubt.
        """
        n = len(self._x)
        kind = arrangement(out, n, sequences=True)
        if n == 1 or out.ndim != 3 or out.shape[1] != n or kind is None or len(out) % n or not out.requires_grad:
            return False
        first = samples_first(out, kind, n)[0]
        weights = torch.rand(first.shape, generator=torch.Generator().manual_seed(0)).to(first)
        (g,) = torch.autograd.grad((first * weights).sum(), self._x, retain_graph=True, allow_unused=True)
        return self._turned if g is None else bool(g[1:].any())

    def _note_parameters(
        self, func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], *, astray: bool
    ) -> None:
        inputs = tensors_in(args) + tensors_in(kwargs)
        if not any(self.origins.name(t) for t in inputs):
            return
        name, bound = function_name(func), bind(func, args, kwargs)
        roles = {id(bound[r]) for r in self._roles_of.get(name, ()) if bound.get(r) is not None}
        alone = {id(t) for t in inputs if sum(t is other for other in inputs) == 1}
        known = (roles & alone) | self.spread(func, args, kwargs).keys()
        for tensor in inputs:
            parameter = self.origins.name(tensor)
            if parameter is not None and id(tensor) in known and not astray:
                self.structured.setdefault(parameter, set()).add(name)
            elif parameter is not None:
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
        # A norm whose statistics were stored is affine.
        bound = bind(func, args, kwargs) if name in ("batch_norm", "instance_norm") else {}
        by_batch = bound.get("use_input_stats", True) if name == "instance_norm" else bound.get("training", not bound)
        by_constant = name == "div" and not any(d.on_input or d.parameters for d in before[1:])
        if not (name in PRODUCT or by_constant or not by_batch):
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
