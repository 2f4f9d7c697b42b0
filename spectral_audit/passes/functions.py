"""Torch functions by name: what they are called, which argument is which, and what kind of map each of them is.

Watching functions instead of modules sees tied weights, `F.linear(x, other.weight)` and exported programs alike. A
function on no list below counts as unknown, never as harmless.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor
from torch._ops import OpOverload

_DUNDER = {
    "__add__": "add", "__radd__": "add", "__iadd__": "add", "__sub__": "sub", "__rsub__": "sub", "__isub__": "sub",
    "__mul__": "mul", "__rmul__": "mul", "__imul__": "mul", "__truediv__": "div", "__itruediv__": "div",
    "__matmul__": "matmul", "__rmatmul__": "matmul", "__neg__": "neg", "__getitem__": "getitem",
    "__setitem__": "setitem", "__abs__": "abs",
}  # fmt: skip

# Functions that are linear in all their tensor arguments together.
LINEAR = frozenset(
    "add sub subtract rsub neg negative cat concat concatenate stack view reshape flatten unflatten permute transpose "
    "swapaxes swapdims movedim moveaxis t getitem setitem mean sum cumsum diff contiguous clone expand expand_as "
    "broadcast_to squeeze unsqueeze pad chunk split tensor_split unbind to float double type repeat tile roll flip "
    "select slice index_select narrow diagonal tril triu constant_pad_nd __get__ view_as reshape_as alias unfold fold "
    "pixel_shuffle pixel_unshuffle channel_shuffle avg_pool1d avg_pool2d avg_pool3d adaptive_avg_pool1d "
    "adaptive_avg_pool2d adaptive_avg_pool3d interpolate upsample zeros_like ones_like new_zeros new_ones".split()
)
# Piecewise linear in their first argument.
PIECEWISE = frozenset(
    "relu leaky_relu relu6 hardtanh hardsigmoid softshrink threshold rrelu abs clamp clamp_min clamp_max maximum "
    "minimum max min amax amin sort topk where max_pool1d max_pool2d max_pool3d adaptive_max_pool1d "
    "adaptive_max_pool2d adaptive_max_pool3d".split()
)
# Linear in each tensor argument separately.
PRODUCT = frozenset(
    "mul multiply matmul mm bmm mv dot einsum linear conv1d conv2d conv3d conv_transpose1d conv_transpose2d "
    "conv_transpose3d convolution addmm baddbmm bilinear embedding prelu".split()
)
# These do nothing in eval mode.
IDLE = frozenset("dropout dropout1d dropout2d dropout3d alpha_dropout feature_alpha_dropout feature_dropout".split())

# Elementwise functions whose tensor arguments broadcast against each other.
BROADCASTING = frozenset(
    "add sub subtract rsub mul multiply div divide true_divide pow maximum minimum where clamp clamp_min "
    "clamp_max".split()
)
# Functions that put out entries of their first argument, perhaps repeated, in another arrangement. (Views need no list:
# they share their base's memory.)
REARRANGING = frozenset(
    "contiguous clone reshape reshape_as flatten flip roll repeat tile index_select getitem".split()
)

# Functions that may bring another axis to the front (x.T is a `__get__`).
TURNING = frozenset("transpose permute movedim moveaxis swapaxes swapdims t __get__".split())

# torch's own functions do not show their signatures.
_CONV = "input weight bias stride padding dilation groups"
_CONV_TRANSPOSE = "input weight bias stride padding output_padding groups dilation"
_RECURRENT = "input hx params has_biases num_layers dropout train bidirectional batch_first"
_CELL = "input hx w_ih w_hh b_ih b_hh"
_SIGNATURES = {
    "linear": "input weight bias", "bilinear": "input1 input2 weight bias", "prelu": "input weight",
    "matmul": "input other", "mm": "input mat2", "mv": "input vec", "addmm": "input mat1 mat2",
    "conv1d": _CONV, "conv2d": _CONV, "conv3d": _CONV, "conv_transpose1d": _CONV_TRANSPOSE,
    "conv_transpose2d": _CONV_TRANSPOSE, "conv_transpose3d": _CONV_TRANSPOSE,
    "lstm": _RECURRENT, "gru": _RECURRENT, "rnn_tanh": _RECURRENT, "rnn_relu": _RECURRENT,
    "lstm_cell": _CELL, "gru_cell": _CELL, "rnn_tanh_cell": _CELL, "rnn_relu_cell": _CELL,
}  # fmt: skip


def function_name(function: Callable[..., Any]) -> str:
    """One name for a torch function, its method, its in-place form and its exported operator."""
    name = (
        function._schema.name.split("::")[1] if isinstance(function, OpOverload) else getattr(function, "__name__", "?")
    )
    return _DUNDER.get(name) or (name if name.startswith("__") else name.rstrip("_"))


def in_place(function: Callable[..., Any]) -> bool:
    """Whether a torch function overwrites its first argument."""
    name = getattr(function, "__name__", "?").partition(".")[0]  # exported operators carry their overload's name
    if name.startswith("__"):
        return name.startswith("__i") or name == "__setitem__"
    return name.endswith("_")


def bind(function: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of a torch function by name; empty when its signature is not known."""
    if isinstance(function, OpOverload):
        # Apart from the first argument, aten has the names of torch.nn.functional.
        schema = ("input" if a.name in ("self", "indices") else a.name for a in function._schema.arguments)
        return dict(zip(schema, args, strict=False)) | dict(kwargs)
    names = _SIGNATURES.get(function_name(function))
    if names is not None:
        return dict(zip(names.split(), args, strict=False)) | dict(kwargs)
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


def replaced(value: Any, new: Mapping[int, Tensor]) -> Any:
    """The same nest of tuples, lists and dicts with other tensors in the places of those whose ids `new` names."""
    if isinstance(value, Tensor):
        return new.get(id(value), value)
    if isinstance(value, (tuple, list)) and type(value) in (tuple, list):
        return type(value)(replaced(part, new) for part in value)
    return {key: replaced(part, new) for key, part in value.items()} if isinstance(value, dict) else value
