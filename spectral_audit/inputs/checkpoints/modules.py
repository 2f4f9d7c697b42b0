"""Whole pickled modules made of torch.nn's own layers: which classes may be built, and what is checked afterwards.

Torch's weights-only loader builds what it is told to be safe and nothing else. These classes only hold tensors, numbers
and each other; their constructors are not called, and none of them runs code that comes with the file.
"""

from __future__ import annotations

import contextlib
from pathlib import Path

import torch
from torch import nn

from spectral_audit.errors import RefusedError
from spectral_audit.inputs.checkpoints.contents import SAVE_STATE_DICT

_LAYERS = {
    "torch.nn.modules.activation": "CELU ELU GELU GLU Hardshrink Hardsigmoid Hardswish Hardtanh LeakyReLU LogSigmoid "
    "LogSoftmax Mish MultiheadAttention PReLU ReLU ReLU6 SELU SiLU Sigmoid Softmax Softmax2d Softmin Softplus "
    "Softshrink Softsign Tanh Tanhshrink Threshold",
    "torch.nn.modules.batchnorm": "BatchNorm1d BatchNorm2d BatchNorm3d",
    "torch.nn.modules.channelshuffle": "ChannelShuffle",
    "torch.nn.modules.container": "ModuleDict ModuleList ParameterDict ParameterList Sequential",
    "torch.nn.modules.conv": "Conv1d Conv2d Conv3d ConvTranspose1d ConvTranspose2d ConvTranspose3d",
    "torch.nn.modules.distance": "CosineSimilarity PairwiseDistance",
    "torch.nn.modules.dropout": "AlphaDropout Dropout Dropout1d Dropout2d Dropout3d FeatureAlphaDropout",
    "torch.nn.modules.flatten": "Flatten Unflatten",
    "torch.nn.modules.fold": "Fold Unfold",
    "torch.nn.modules.instancenorm": "InstanceNorm1d InstanceNorm2d InstanceNorm3d",
    "torch.nn.modules.linear": "Bilinear Identity Linear NonDynamicallyQuantizableLinear",
    "torch.nn.modules.normalization": "GroupNorm LayerNorm LocalResponseNorm RMSNorm",
    "torch.nn.modules.padding": "CircularPad1d CircularPad2d CircularPad3d ConstantPad1d ConstantPad2d ConstantPad3d "
    "ReflectionPad1d ReflectionPad2d ReflectionPad3d ReplicationPad1d ReplicationPad2d ReplicationPad3d ZeroPad1d "
    "ZeroPad2d ZeroPad3d",
    "torch.nn.modules.pixelshuffle": "PixelShuffle PixelUnshuffle",
    "torch.nn.modules.pooling": "AdaptiveAvgPool1d AdaptiveAvgPool2d AdaptiveAvgPool3d AdaptiveMaxPool1d "
    "AdaptiveMaxPool2d AdaptiveMaxPool3d AvgPool1d AvgPool2d AvgPool3d LPPool1d LPPool2d MaxPool1d MaxPool2d MaxPool3d",
    "torch.nn.modules.rnn": "GRU GRUCell LSTM LSTMCell RNN RNNCell",
    "torch.nn.modules.sparse": "Embedding",
    "torch.nn.modules.transformer": "TransformerDecoder TransformerDecoderLayer TransformerEncoder "
    "TransformerEncoderLayer",
    "torch.nn.modules.upsampling": "Upsample UpsamplingBilinear2d UpsamplingNearest2d",
    # What transformer layers hold as their activation.
    "torch.nn.functional": "relu",
    "torch._C._nn": "gelu",
}
MODULE_GLOBALS = frozenset(f"{module}.{name}" for module, names in _LAYERS.items() for name in names.split())
_HOOKS = (
    *("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks"),
    *("_state_dict_hooks", "_state_dict_pre_hooks", "_load_state_dict_pre_hooks", "_load_state_dict_post_hooks"),
)


def layers_allowed() -> contextlib.AbstractContextManager[None]:
    """Let torch's weights-only loader build the layers of the list while this lasts."""
    there = [(name, _attribute(name)) for name in sorted(MODULE_GLOBALS)]
    allowed: list[object] = [(item, name) for name, item in there if item is not None]
    manager: contextlib.AbstractContextManager[None] = torch.serialization.safe_globals(allowed)  # type: ignore[arg-type]  # pairs are allowed too
    return manager


def require_plain_layers(path: Path, module: nn.Module) -> None:
    """Refuse a pickled module that carries hooks or replaced methods: a layer would not do what its class says."""
    for name, layer in module.named_modules():
        own = vars(layer)
        odd = [key for key in own if callable(getattr(type(layer), key, None))]
        odd += [key for key in _HOOKS if own.get(key)]
        if odd or f"{type(layer).__module__}.{type(layer).__qualname__}" not in MODULE_GLOBALS:
            raise RefusedError(
                f"{path}: the pickled module is more than torch.nn's layers",
                expected="layers as torch.nn defines them, without hooks or replaced methods",
                found=f"{', '.join(odd[:4]) or type(layer).__name__} in `{name or 'the module itself'}`",
                remedy=SAVE_STATE_DICT,
            )


def _attribute(name: str) -> object:
    """The class or function behind a name of the list; `None` where this torch does not have it."""
    module, _, attribute = name.rpartition(".")
    place: object = torch
    for part in module.split(".")[1:]:
        place = getattr(place, part, None)
    return getattr(place, attribute, None)
