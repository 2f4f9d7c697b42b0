"""How each kind of layer turns inputs and output cotangents into parameter gradients.

A rule says what the gradient of one sample with respect to a parameter is, without an autograd graph for it. Weights of
linear maps are sums of outer products over positions, grad = Σ_s g_s a_sᵀ, and are kept as the pair (a, g), from which
inner products follow without the gradient itself. Biases, gains and embeddings are formed directly.

A new layer is one function and one line in `RULES`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from .pairs import Contribution, Pair, Place

__all__ = ["LAST_AXIS", "ROLES", "RULES", "Contribution", "Pair", "Place"]

Arguments = Mapping[str, Any]


Rule = Callable[[Arguments, Tensor], Contribution]


def linear_weight(arguments: Arguments, g: Tensor) -> Pair:
    """y = x Wᵀ: positions are all axes between the first and the last."""
    x = arguments["input"]
    n, c = g.shape[:2]
    return Pair(x.reshape(n, 1, -1, x.shape[-1]), g.reshape(n, c, 1, -1, g.shape[-1]))


def last_axis_bias(arguments: Arguments, g: Tensor) -> Tensor:
    """y = … + b along the last axis."""
    return g.flatten(2, -2).sum(2) if g.ndim > 3 else g


def channel_bias(arguments: Arguments, g: Tensor) -> Tensor:
    """y = … + b along the channel axis."""
    return g.flatten(3).sum(3) if g.ndim > 3 else g


def conv_weight(arguments: Arguments, g: Tensor) -> Pair:
    """Cross-correlation: positions are the output's pixels, inputs the patches under the kernel."""
    n, c = g.shape[:2]
    groups = int(arguments.get("groups", 1))
    patches = _patches(arguments, arguments["input"], g.shape[3:])
    a = patches.view(n, groups, -1, patches.shape[-1]).transpose(2, 3)
    return Pair(a, g.reshape(n, c, groups, -1, patches.shape[-1]).transpose(3, 4))


def conv_transpose_weight(arguments: Arguments, g: Tensor) -> Pair:
    """The adjoint of a convolution: positions are the input's pixels, outputs the cotangent's patches under the kernel.

    The weight (in, out/Γ, *kernel) has its entries in the order (Γ, in/Γ, out/Γ·kernel).
    """
    x, weight = arguments["input"], arguments["weight"]
    n, c = g.shape[:2]
    groups = int(arguments.get("groups", 1))
    a = x.reshape(n, groups, -1, x.shape[2:].numel()).transpose(2, 3)
    patches = _patches(arguments, g.flatten(0, 1), x.shape[2:])
    patches = patches.reshape(n, c, groups, -1, patches.shape[-1]).transpose(3, 4)
    entries = torch.arange(weight.numel(), device=g.device).view(groups, a.shape[-1], patches.shape[-1])
    return Pair(a, patches, entries.transpose(1, 2).flatten())


def _patches(arguments: Arguments, x: Tensor, positions: torch.Size) -> Tensor:
    """Patches (n, in·kernel, positions) of `x` under a kernel that stops at `positions` along any number of axes."""
    kernel = arguments["weight"].shape[2:]
    axes = len(kernel)
    stride, dilation = (_spread(arguments.get(k, 1), axes) for k in ("stride", "dilation"))
    padding = arguments.get("padding", 0)
    if isinstance(padding, str):
        total = [d * (k - 1) if padding == "same" else 0 for d, k in zip(dilation, kernel, strict=True)]
        pads = [(t // 2, t - t // 2) for t in total]
    else:
        pads = [(p, p) for p in _spread(padding, axes)]
    x = F.pad(x, [side for pair in reversed(pads) for side in pair])
    for axis, (k, step, gap) in enumerate(zip(kernel, stride, dilation, strict=True)):
        # One unfolding per spatial axis: a window of dilated taps, then only every gap-th of its entries.
        x = x.unfold(2 + axis, gap * (k - 1) + 1, step)[..., ::gap].narrow(2 + axis, 0, positions[axis])
    order = [0, 1, *range(2 + axes, 2 + 2 * axes), *range(2, 2 + axes)]
    return x.permute(order).reshape(x.shape[0], -1, positions.numel())


def _spread(value: Any, axes: int) -> list[int]:
    numbers = [int(v) for v in value] if isinstance(value, (tuple, list)) else [int(value)]
    return numbers * axes if len(numbers) == 1 else numbers


def batch_norm_gain(arguments: Arguments, g: Tensor) -> Tensor:
    """Eval-mode BatchNorm: y = γ x̂ + β with running statistics."""
    x, mean, var = arguments["input"], arguments["running_mean"], arguments["running_var"]
    shape = (1, -1) + (1,) * (x.ndim - 2)
    normal = (x - mean.view(shape)) * (var + arguments.get("eps", 1e-5)).rsqrt().view(shape)
    return _per_channel(normal, g)


def layer_norm_gain(arguments: Arguments, g: Tensor) -> Tensor:
    """y = γ x̂ + β over the trailing axes `normalized_shape`."""
    shape = tuple(arguments["normalized_shape"])
    normal = F.layer_norm(arguments["input"], shape, eps=arguments.get("eps", 1e-5))
    return layer_norm_bias(arguments, g * normal[:, None])


def layer_norm_bias(arguments: Arguments, g: Tensor) -> Tensor:
    """The sum of the cotangents over the positions that share γ and β."""
    inner = len(tuple(arguments["normalized_shape"]))
    flat = g.flatten(g.ndim - inner)
    return flat.flatten(2, -2).sum(2) if flat.ndim > 3 else flat


def group_norm_gain(arguments: Arguments, g: Tensor) -> Tensor:
    """y = γ x̂ + β with statistics over groups of channels."""
    normal = F.group_norm(arguments["input"], int(arguments["num_groups"]), eps=arguments.get("eps", 1e-5))
    return _per_channel(normal, g)


def _per_channel(normal: Tensor, g: Tensor) -> Tensor:
    """Σ_s g[:, :, c, s] x̂[:, c, s] without the product in memory, (n, C, channels)."""
    return torch.einsum("nkcs,ncs->nkc", g.flatten(3), normal.flatten(2)) if g.ndim > 3 else g * normal[:, None]


def embedding_weight(arguments: Arguments, g: Tensor) -> Tensor:
    """y = W[index]: cotangents are added up at the rows that were looked up."""
    index, weight = arguments["input"], arguments["weight"]
    n, c = g.shape[:2]
    rows = g.new_zeros(n, c, *weight.shape)
    g = g.reshape(n, c, -1, weight.shape[1])
    index = index.reshape(n, 1, -1, 1).expand_as(g)
    padding = arguments.get("padding_idx")
    if padding is not None and padding >= 0:
        g = g * (index != padding)
    return rows.scatter_add_(2, index, g).flatten(2)


def spread(arguments: Arguments, g: Tensor) -> Tensor:
    """A parameter copied for every sample: the cotangents of the copies."""
    return g.flatten(2)


RULES: dict[tuple[str, str], Rule] = {
    ("linear", "weight"): linear_weight,
    ("linear", "bias"): last_axis_bias,
    ("conv1d", "weight"): conv_weight,
    ("conv2d", "weight"): conv_weight,
    ("conv3d", "weight"): conv_weight,
    ("conv1d", "bias"): channel_bias,
    ("conv2d", "bias"): channel_bias,
    ("conv3d", "bias"): channel_bias,
    ("conv_transpose1d", "weight"): conv_transpose_weight,
    ("conv_transpose2d", "weight"): conv_transpose_weight,
    ("conv_transpose3d", "weight"): conv_transpose_weight,
    ("conv_transpose1d", "bias"): channel_bias,
    ("conv_transpose2d", "bias"): channel_bias,
    ("conv_transpose3d", "bias"): channel_bias,
    ("batch_norm", "weight"): batch_norm_gain,
    ("batch_norm", "bias"): channel_bias,
    ("layer_norm", "weight"): layer_norm_gain,
    ("layer_norm", "bias"): layer_norm_bias,
    ("group_norm", "weight"): group_norm_gain,
    ("group_norm", "bias"): channel_bias,
    ("embedding", "weight"): embedding_weight,
    ("spread", "weight"): spread,
}

ROLES: dict[str, tuple[str, ...]] = {
    function: tuple(role for f, role in RULES if f == function) for function in dict.fromkeys(f for f, _ in RULES)
}

# Whatever stands between the first and the last axis is a position to these.
LAST_AXIS = frozenset(["linear", "layer_norm", "embedding"])
