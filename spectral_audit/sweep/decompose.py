"""Functions that use a parameter, written out in simpler ones that have rules: `linear`, products and sums.

Each is called with the predicate `owned`, which tells parameters from other tensors, and its arguments by name; it
returns what the function returns, or `NotImplemented` for a form that it does not cover, before anything is computed.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from math import prod
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from spectral_audit.passes.functions import function_name, tensors_in

from . import attention, recurrent

Bound = dict[str, Any]
Owned = Callable[[object], bool]
Explicit = Callable[[Owned, Bound], Any]


def explicit_form(
    func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], owned: Owned
) -> Explicit | None:
    """The explicit form of a call that uses a parameter, and has one."""
    name = function_name(func)
    if name not in EXPLICIT or not any(map(owned, tensors_in((args, kwargs)))):
        return None
    return EXPLICIT[name]


def matmul(owned: Owned, bound: Bound) -> Any:
    """x W = linear(x, Wᵀ), x w = linear(x, wᵀ) and W x = linear(xᵀ, W)ᵀ for a parameter on one side."""
    left, right = bound.get("input"), next((bound[k] for k in ("other", "mat2", "vec") if k in bound), None)
    if not isinstance(left, Tensor) or not isinstance(right, Tensor) or owned(left) == owned(right):
        return NotImplemented
    if owned(right) and left.ndim > 1 and right.ndim == 2:
        return F.linear(left, right.mT)
    if owned(right) and left.ndim > 1 and right.ndim == 1:
        return F.linear(left, right[None]).squeeze(-1)
    if owned(left) and left.ndim == 2 and right.ndim > 1:
        return F.linear(right.mT, left).mT
    return NotImplemented


def addmm(owned: Owned, bound: Bound) -> Any:
    """b + x W."""
    factors = {"input": bound["mat1"], "mat2": bound["mat2"]}
    if bound.get("beta", 1) != 1 or bound.get("alpha", 1) != 1:
        return NotImplemented
    product = matmul(owned, factors) if any(map(owned, factors.values())) else torch.mm(*factors.values())
    return product if product is NotImplemented else bound["input"] + product


def einsum(owned: Owned, bound: Bound) -> Any:
    """A product with one parameter in it: a linear map of vectors where it is one, else with a copy for every sample.

    The samples' index is taken to be the first one of the first other operand.
    """
    equation, *operands = bound["args"] if "args" in bound else (bound["equation"], *bound["operands"])
    if len(operands) == 1 and isinstance(operands[0], (list, tuple)):
        operands = list(operands[0])
    terms, _, result = str(equation).replace(" ", "").partition("->")
    named = list(zip(operands, terms.split(","), strict=False))
    parameters, others = ([pair for pair in named if owned(pair[0]) is side] for side in (True, False))
    if len(parameters) != 1 or not others or not result or "." in terms:
        return NotImplemented
    (w, of_w), (x, of_x) = parameters[0], others[0]
    sample = of_x[:1]
    if len(others) == 1:
        y = _linear_in_vectors(x, of_x, w, of_w, result)
        if y is not NotImplemented:
            return y
    if sample in of_w or sample not in result:
        return NotImplemented
    terms = ",".join([f"{sample}{of_w}", *(subscript for _, subscript in others)])
    return torch.einsum(f"{terms}->{result}", w.expand(len(x), *w.shape), *(t for t, _ in others))


def _linear_in_vectors(x: Tensor, of_x: str, w: Tensor, of_w: str, result: str) -> Any:
    """The einsum as a call of `linear`, if every index is either summed over in both or kept from one of the two."""
    summed = [i for i in of_x if i in of_w and i not in result]
    kept, new = ([i for i in own if i in result] for own in (of_x, of_w))
    once = all(len(own) == len(set(own)) for own in (of_x, of_w, kept + new))
    if not (summed and once and sorted(kept + summed) == sorted(of_x) and sorted(new + summed) == sorted(of_w)):
        return NotImplemented
    flat_x = x.permute([of_x.index(i) for i in kept + summed]).flatten(len(kept))
    weight = w.permute([of_w.index(i) for i in new + summed])
    sizes = weight.shape[: len(new)]
    y = F.linear(flat_x, weight.reshape(prod(sizes), -1)).reshape(*flat_x.shape[:-1], *sizes)
    return y.permute([(kept + new).index(i) for i in result])


def prelu(_: Owned, bound: Bound) -> Any:
    """x where x > 0, else w x with one slope for all or for every channel."""
    x, slope = bound["input"], bound["weight"]
    if slope.numel() > 1:
        slope = slope.view(-1, *(1,) * max(0, x.ndim - 2))
    return torch.where(x > 0, x, slope * x)


def bilinear(_: Owned, bound: Bound) -> Any:
    """x₁ᵀ B_k x₂ + b_k as a linear map of x₁ ⊗ x₂."""
    outer = (bound["input1"][..., :, None] * bound["input2"][..., None, :]).flatten(-2)
    return F.linear(outer, bound["weight"].flatten(1), bound.get("bias"))


def rms_norm(owned: Owned, bound: Bound) -> Any:
    """γ x̂."""
    if not owned(bound.get("weight")):
        return NotImplemented
    return F.rms_norm(bound["input"], bound["normalized_shape"], eps=bound.get("eps")) * bound["weight"]


def instance_norm(_: Owned, bound: Bound) -> Any:
    """γ x̂ + β, channel by channel."""
    x, gain, shift = bound["input"], bound.get("weight"), bound.get("bias")
    normal = F.instance_norm(
        x, bound.get("running_mean"), bound.get("running_var"),
        use_input_stats=bound.get("use_input_stats", True), eps=bound.get("eps", 1e-5),
    )  # fmt: skip
    axes = (-1, *(1,) * (x.ndim - 2))
    scaled = normal if gain is None else normal * gain.view(axes)
    return scaled if shift is None else scaled + shift.view(axes)


def embedding_bag(_: Owned, bound: Bound) -> Any:
    """Sums or means of looked-up rows, for bags of one size."""
    index, mode, weights = bound["input"], bound.get("mode", "mean"), bound.get("per_sample_weights")
    plain = bound.get("padding_idx") is None and bound.get("max_norm") is None
    if index.ndim != 2 or mode not in ("sum", "mean") or not plain:
        return NotImplemented
    rows = F.embedding(index, bound["weight"])
    if weights is not None:
        rows = rows * weights[..., None]
    return rows.sum(1) if mode == "sum" else rows.mean(1)


EXPLICIT: dict[str, Explicit] = {
    "matmul": matmul,
    "mm": matmul,
    "mv": matmul,
    "addmm": addmm,
    "einsum": einsum,
    "prelu": prelu,
    "bilinear": bilinear,
    "rms_norm": rms_norm,
    "instance_norm": instance_norm,
    "embedding_bag": embedding_bag,
    "multi_head_attention_forward": lambda _, bound: attention.multi_head_attention(bound),
}


def _layers(name: str, _: Owned, bound: Bound) -> Any:
    return recurrent.layers(name, bound)


def _cell(name: str, _: Owned, bound: Bound) -> Any:
    return recurrent.cell(name, bound)


EXPLICIT |= {name: partial(_layers, name) for name in recurrent.STEPS}
EXPLICIT |= {f"{name}_cell": partial(_cell, f"{name}_cell") for name in recurrent.STEPS}
