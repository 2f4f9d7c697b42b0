"""A convolution whose second derivatives cost what they must: ordinary convolutions, forward and backward.

torch differentiates a convolution twice by further convolutions in unusual shapes, which are slow on CPU. The first
derivatives are linear in the output's gradient g, the one to the input also in the weight and the one to the weight in
the input, so that the second ones are convolutions of the same shapes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

# Input channels up to which a gradient to the input is taken by a forward pass.
_FEW_CHANNELS = 4
# What aten's operators take: stride, padding, dilation, transposed, output padding, groups.
Options = tuple[Any, ...]


def convolution(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    *,
    stride: int | Sequence[int] = 1,
    padding: int | Sequence[int] = 0,
    dilation: int | Sequence[int] = 1,
    groups: int = 1,
) -> Tensor:
    """Cross-correlation of a batch `x` (n, in, *size) with `weight` (out, in/groups, *kernel), as torch's convolutions.

    It may be differentiated twice.
    """
    axes = weight.ndim - 2
    spread = ([o] * axes if isinstance(o, int) else list(o) * (axes // len(o)) for o in (stride, padding, dilation))
    out: Tensor = _apply(_Convolution, x, weight, bias, (*spread, False, [0] * axes, groups))
    return out


def _apply(function: Any, *arguments: Any) -> Any:
    return function.apply(*arguments)


class _Convolution(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, options: Options) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.options, ctx.bias = options, None if bias is None else list(bias.shape)
        out: Tensor = torch.ops.aten.convolution(x, weight, bias, *options)
        return out

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        needed = [_wanted(ctx, 0), _wanted(ctx, 1), ctx.bias is not None and _wanted(ctx, 2)]
        again = torch.is_grad_enabled()  # someone will differentiate the gradients
        arguments = (g, x, weight, ctx.bias, ctx.options, needed)
        found = _apply(_Backward, *arguments) if again else _gradients(*arguments)
        return *found, None


class _Backward(torch.autograd.Function):
    """The first derivatives, whose own derivatives are convolutions of the same shapes: they are linear in `g`, the
    one to the input is linear in the weight, and the one to the weight in the input."""

    @staticmethod
    def forward(
        ctx: Any, g: Tensor, x: Tensor, weight: Tensor, bias: list[int] | None, options: Options, needed: list[bool]
    ) -> tuple[Tensor | None, ...]:
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(g, x, weight)
        ctx.options = options
        return _gradients(g, x, weight, bias, options, needed)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, ggx: Tensor | None, ggw: Tensor | None, ggb: Tensor | None) -> tuple[Tensor | None, ...]:
        g, x, weight = ctx.saved_tensors
        along = _along(g, ((ggx, weight), (x, ggw)), ggb, ctx.options) if _wanted(ctx, 0) else None
        mask = [ggw is not None and _wanted(ctx, 1), ggx is not None and _wanted(ctx, 2), False]
        if not any(mask):
            return along, None, None, None, None, None
        ggx, ggw = x if ggx is None else ggx, weight if ggw is None else ggw
        to_x, to_weight, _ = _gradients(g, ggx, ggw, None, ctx.options, mask)
        return along, to_x, to_weight, None, None, None


def _gradients(
    g: Tensor, x: Tensor, weight: Tensor, bias: list[int] | None, options: Options, needed: list[bool]
) -> tuple[Tensor | None, ...]:
    """The gradients to the input, the weight and the bias of a convolution, for those that are `needed`.

    To few channels the backward pass is slow on CPU: up to 2.5 times slower than the same as a forward pass, which is
    the convolution of the padded `g` with the mirrored weight.
    """
    stride, padding, dilation, _, _, groups = options
    margins = [k - 1 - p for k, p in zip(weight.shape[2:], padding, strict=True)]
    plain = groups == 1 and {*stride, *dilation} == {1} and min(margins) >= 0
    mirrored = needed[0] and plain and weight.shape[1] <= _FEW_CHANNELS and g.device.type == "cpu"
    rest = [needed[0] and not mirrored, *needed[1:]]
    found: list[Tensor | None] = [None, None, None]
    if any(rest):
        found = list(torch.ops.aten.convolution_backward(g, x, weight, bias, *options, rest))
    if mirrored:
        back = weight.flip(*range(2, weight.ndim)).transpose(0, 1).contiguous()
        found[0] = torch.ops.aten.convolution(g, back, None, stride, margins, dilation, False, options[4], 1)
    return tuple(found)


def _along(
    g: Tensor, pairs: Sequence[tuple[Tensor | None, Tensor | None]], bias: Tensor | None, options: Options
) -> Tensor | None:
    """The sum of the convolutions of `pairs` and the bias, in the shape of `g`; `None` where there is none of them."""
    total: Tensor | None = None
    for x, weight in pairs:
        if x is not None and weight is not None:
            term = torch.ops.aten.convolution(x, weight, bias, *options)
            total, bias = term if total is None else total.add_(term), None
    if bias is not None:
        total = bias.view(-1, *(1 for _ in g.shape[2:])).expand_as(g)
    return total


def _wanted(ctx: Any, k: int) -> bool:
    """Whether the running backward pass needs the gradient of the k-th input, and not only some other pass might."""
    node = ctx.next_functions[k][0] if ctx.needs_input_grad[k] else None
    if node is None:
        return False
    try:
        return torch._C._will_engine_execute_node(node)
    except RuntimeError:  # it does not tell of leaves
        return True
