"""Faster passes through convolutional models: the norm behind a convolution folded into it, second derivatives direct.

In eval mode a batch norm is affine in each channel: behind a convolution it gives s(Wx + b − μ) + β, s = γ/√(σ² + ε),
which is a convolution with the weights sW and the bias s(b − μ) + β. Folded, its passes over the activations are saved,
and γ and β stay parameters like any. torch takes a convolution's second derivatives by further convolutions in unusual
shapes; here they are the ordinary ones: forward, and backward to the input and to the weights.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

_CONVOLUTIONS: dict[type[nn.Module], type[nn.Module]] = {
    nn.Conv1d: nn.BatchNorm1d,
    nn.Conv2d: nn.BatchNorm2d,
    nn.Conv3d: nn.BatchNorm3d,
}
# Input channels up to which a gradient to the input is taken by a forward pass.
_FEW_CHANNELS = 4


@dataclass(frozen=True)
class Fused:
    """The name of a convolution, and of the batch norm that alone takes its output (`None`: there is none)."""

    convolution: str
    norm: str | None


def fusible(model: nn.Module, parts: Sequence[Tensor], expected: Tensor) -> tuple[Fused, ...]:
    """The convolutions of `model` (in eval mode) that may be replaced without changing its outputs.

    Norms are those that are given a convolution's very output for the first of `parts`. That nobody else takes it, and
    that this is so for all inputs, is found out by comparing the outputs for all `parts` with the `expected` ones (n,
    C). Only plain modules count: no hooks, no parametrisations, no padding but with zeros.
    """
    names = {m: name for name, m in model.named_modules()}
    convolutions = [m for m in names if type(m) in _CONVOLUTIONS and _plain(m) and isinstance(m.padding, tuple)]
    convolutions = [m for m in convolutions if m.padding_mode == "zeros"]
    if not convolutions:
        return ()
    followed = _followers(model, parts[0], convolutions)
    found = tuple(Fused(names[c], None if norm is None else names[norm]) for c, norm in followed.items())
    plain = tuple(Fused(pair.convolution, None) for pair in found)
    return next((pairs for pairs in (found, plain) if _same(model, parts, expected, pairs)), ())


@contextmanager
def fused(model: nn.Module, pairs: Sequence[Fused]) -> Iterator[None]:
    """Run the convolutions of `pairs`, and the norms behind them, in the faster way until the context is left."""
    patched: list[nn.Module] = []
    try:
        for pair in pairs:
            convolution = model.get_submodule(pair.convolution)
            norm = None if pair.norm is None else model.get_submodule(pair.norm)
            vars(convolution)["forward"] = _Folded(convolution, norm)
            patched.append(convolution)
            if norm is not None:
                vars(norm)["forward"] = _unchanged
                patched.append(norm)
        yield
    finally:
        for module in patched:
            del vars(module)["forward"]


def _unchanged(x: Tensor) -> Tensor:
    return x


def _plain(module: nn.Module) -> bool:
    """Whether a call of the module is its forward pass and nothing else."""
    hooks = (module._forward_hooks, module._forward_pre_hooks, module._backward_hooks, module._backward_pre_hooks)
    return not any(hooks) and "forward" not in vars(module)


def _followers(model: nn.Module, x: Tensor, convolutions: Sequence[nn.Module]) -> dict[nn.Module, nn.Module | None]:
    """The convolutions that run exactly once, and the plain norm in eval mode that takes the output of each, if any."""
    outputs: list[tuple[nn.Module, Tensor]] = []
    taken: dict[nn.Module, list[nn.Module]] = {}

    def made(module: nn.Module, _: Any, out: Tensor) -> None:
        outputs.append((module, out))

    def takes(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        taken.setdefault(module, []).extend(c for c, out in outputs if out is inputs[0])

    norms = [m for m in model.modules() if type(m) in _CONVOLUTIONS.values() and _plain(m)]
    norms = [m for m in norms if m.running_mean is not None and not m.training]
    hooks = [c.register_forward_hook(made) for c in convolutions]
    hooks += [m.register_forward_pre_hook(takes) for m in norms]
    try:
        with torch.no_grad():
            model(x)
    finally:
        for hook in hooks:
            hook.remove()
    ran = [c for c, _ in outputs]
    once = [c for c in convolutions if ran.count(c) == 1]
    behind = {found[0]: m for m, found in taken.items() if len(found) == 1 and type(m) is _CONVOLUTIONS[type(found[0])]}
    return {c: behind.get(c) for c in once}


def _same(model: nn.Module, parts: Sequence[Tensor], expected: Tensor, pairs: Sequence[Fused]) -> bool:
    with torch.no_grad(), fused(model, pairs):
        found = torch.cat([model(part) for part in parts]).view_as(expected)
    difference = float((found - expected).abs().max())
    return difference <= 1e3 * torch.finfo(expected.dtype).eps * float(expected.abs().max())


class _Folded:
    """The forward pass of a convolution and the norm behind it, as one convolution."""

    def __init__(self, convolution: Any, norm: Any) -> None:
        self.convolution, self.norm = convolution, norm
        axes = len(convolution.kernel_size)
        self.options = (convolution.stride, convolution.padding, convolution.dilation, False, (0,) * axes)

    def __call__(self, x: Tensor) -> Tensor:
        weight, bias = self.convolution.weight, self.convolution.bias
        # A view: the engine only tells of results of operations whether their gradient is wanted.
        weight, bias = (weight.view_as(weight), bias) if self.norm is None else _folded(weight, bias, self.norm)
        out: Tensor = _apply(_Convolution, x, weight, bias, (*self.options, self.convolution.groups))
        return out


def _folded(weight: Tensor, bias: Tensor | None, norm: Any) -> tuple[Tensor, Tensor]:
    """sW and s(b − μ) + β."""
    scale = (norm.running_var + norm.eps).rsqrt()
    scale = scale if norm.weight is None else norm.weight * scale
    shift = -norm.running_mean if bias is None else bias - norm.running_mean
    shift = scale * shift if norm.bias is None else torch.addcmul(norm.bias, scale, shift)
    return weight * scale.view(-1, *(1 for _ in weight.shape[1:])), shift


Options = tuple[Any, ...]


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
