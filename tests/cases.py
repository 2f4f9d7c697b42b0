"""CASES: name → builder of (model, x, y, loss), seeded, tiny, trained for a moment so that margins are positive."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrize import register_parametrization

from tests import networks
from tests.networks import Forward
from tests.reference import mean_loss


class Problem(NamedTuple):
    """A model in eval mode with its probe set: x (n, ...) float32, y as the loss wants it."""

    model: nn.Module
    x: Tensor
    y: Tensor
    loss: str


Builder = Callable[[], Problem]
CASES: dict[str, Builder] = {}
# Piecewise-linear in the input and linear in every single weight: the trace of the Hessian is exact.
PIECEWISE_LINEAR: set[str] = set()

n = 13
C = 3


def case(*, piecewise_linear: bool = False) -> Callable[[Builder], Builder]:
    """Register a builder under its own name, and seed it."""

    def register(builder: Builder) -> Builder:
        name = builder.__name__

        def seeded() -> Problem:
            with torch.random.fork_rng():
                torch.manual_seed(sum(name.encode()))
                return builder()

        CASES[name] = seeded
        if piecewise_linear:
            PIECEWISE_LINEAR.add(name)
        return seeded

    return register


def train(model: nn.Module, x: Tensor, y: Tensor, loss: str, steps: int = 60) -> Problem:
    """A few steps of Adam on the probe set itself."""
    optimiser = torch.optim.Adam(model.parameters(), lr=0.02)
    model.train()
    for _ in range(steps):
        optimiser.zero_grad()
        f = model(x).reshape(len(x), -1)
        mean_loss(f, y if loss == "cross_entropy" else y.float(), loss).backward()
        optimiser.step()
    model.zero_grad()
    return Problem(model.eval(), x, y, loss)


def classes(shape: tuple[int, ...], count: int = C) -> tuple[Tensor, Tensor]:
    """n noisy samples (n, *shape) around one centre per class, and their labels, one of them wrong."""
    y = torch.arange(n) % count
    x = torch.randn(count, *shape)[y] + 0.7 * torch.randn(n, *shape)
    y[4] = (y[4] + 1) % count
    return x, y


def classifier(model: nn.Module, *shape: int) -> Problem:
    """Train `model` on samples of this shape."""
    return train(model, *classes(shape), "cross_entropy")


# ---- plain stacks -------------------------------------------------------------------------------------------------


@case()
def mlp() -> Problem:
    return classifier(nn.Sequential(nn.Linear(6, 10), nn.Tanh(), nn.Linear(10, 8), nn.Tanh(), nn.Linear(8, C)), 6)


@case(piecewise_linear=True)
def relu_mlp() -> Problem:
    return classifier(nn.Sequential(nn.Linear(6, 10), nn.ReLU(), nn.Linear(10, 8), nn.ReLU(), nn.Linear(8, C)), 6)


@case(piecewise_linear=True)
def bias_free() -> Problem:
    return classifier(nn.Sequential(nn.Linear(6, 12, bias=False), nn.ReLU(), nn.Linear(12, C, bias=False)), 6)


@case(piecewise_linear=True)
def inplace_relu_with_dropout() -> Problem:
    layers = (nn.Linear(6, 9), nn.ReLU(inplace=True), nn.Dropout(0.3), nn.Linear(9, 9), nn.ReLU(inplace=True))
    return classifier(nn.Sequential(*layers, nn.Linear(9, C)), 6)


@case(piecewise_linear=True)
def prelu() -> Problem:
    return classifier(nn.Sequential(nn.Linear(6, 9), nn.PReLU(9), nn.Linear(9, 7), nn.PReLU(), nn.Linear(7, C)), 6)


@case(piecewise_linear=True)
def cnn() -> Problem:
    layers = (nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(4, 5, 3), nn.ReLU(), nn.Flatten())
    return classifier(nn.Sequential(*layers, nn.Linear(5, C)), 1, 6, 6)


@case()
def conv1d() -> Problem:
    layers = (nn.Conv1d(2, 4, 3, padding=1), nn.GELU(), nn.AvgPool1d(2), nn.Flatten(), nn.Linear(16, C))
    return classifier(nn.Sequential(*layers), 2, 8)


@case(piecewise_linear=True)
def grouped_strided_dilated() -> Problem:
    layers = (
        nn.Conv2d(2, 4, 3, stride=2, padding=1, groups=2),
        nn.ReLU(),
        nn.Conv2d(4, 6, (3, 1), dilation=(1, 2), padding="same", groups=2, bias=False),
        nn.ReLU(),
        nn.Conv2d(6, 4, 2, padding=1, padding_mode="circular"),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(2),
        nn.Flatten(),
    )
    return classifier(nn.Sequential(*layers, nn.Linear(16, C)), 2, 6, 6)


@case(piecewise_linear=True)
def transposed_convolution() -> Problem:
    layers = (nn.Conv2d(1, 3, 2, stride=2), nn.ReLU(), nn.ConvTranspose2d(3, 2, 2), nn.LeakyReLU(0.2), nn.Flatten())
    return classifier(nn.Sequential(*layers, nn.Linear(18, C)), 1, 4, 4)


@case(piecewise_linear=True)
def resnet_with_batchnorm() -> Problem:
    layers = (nn.Conv2d(1, 3, 3, padding=1), nn.BatchNorm2d(3), nn.ReLU(), networks.Residual(3))
    model = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(12, C))
    problem = classifier(model, 1, 4, 4)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean += 0.1 * torch.randn(3)
            module.running_var *= 0.5 + torch.rand(3)
    return problem


@case()
def layernorm_and_groupnorm() -> Problem:
    layers = (nn.Conv2d(1, 4, 3), nn.GroupNorm(2, 4), nn.ReLU(), nn.Conv2d(4, 2, 1), nn.LayerNorm([2, 3, 3]))
    model = nn.Sequential(*layers, nn.Tanh(), nn.Flatten(), nn.Linear(18, 6), nn.LayerNorm(6), nn.Linear(6, C))
    return classifier(model, 1, 5, 5)


@case()
def scale_invariant_weights() -> Problem:
    """A layer whose weight is computed from its parameter: what it uses and what it owns differ."""
    inner = nn.Linear(6, 8)
    register_parametrization(inner, "weight", networks.Direction())
    return classifier(nn.Sequential(inner, nn.Tanh(), nn.Linear(8, C)), 6)


# ---- shared weights -----------------------------------------------------------------------------------------------


@case()
def same_layer_twice() -> Problem:
    return classifier(Forward(networks.applied_twice, inner=nn.Linear(6, 6), head=nn.Linear(6, C)), 6)


@case()
def same_relu_layer_twice() -> Problem:
    return classifier(Forward(networks.relu_applied_twice, inner=nn.Linear(6, 6), head=nn.Linear(6, C)), 6)


@case()
def borrowed_weight() -> Problem:
    return classifier(Forward(networks.borrowed_weight, inner=nn.Linear(6, 6), head=nn.Linear(6, C)), 6)


@case()
def two_layers_one_weight() -> Problem:
    first, second = nn.Linear(6, 6), nn.Linear(6, 6)
    second.weight = first.weight
    return classifier(nn.Sequential(first, nn.ReLU(), second, nn.ReLU(), nn.Linear(6, C)), 6)


@case()
def decoder_is_encoder_transposed() -> Problem:
    model = Forward(networks.transposed_weight, encoder=nn.Linear(6, 4), bias=nn.Parameter(torch.zeros(6)))
    x = torch.randn(n, 6)
    return train(model, x, x.clone(), "mse")


@case()
def side_layer_on_slices() -> Problem:
    modules = {"inner": nn.Linear(6, 6), "head": nn.Linear(6, C), "side": nn.Linear(3, C)}
    return classifier(Forward(networks.branches, **modules), 6)


# ---- unusual layers and calls -------------------------------------------------------------------------------------


@case(piecewise_linear=True)
def embedding() -> Problem:
    modules = {"table": nn.Embedding(5, 4), "inner": nn.Linear(6, 8), "head": nn.Linear(8, C)}
    x, y = classes((3,))
    x[:, 0] = torch.randint(0, 5, (n,))
    return train(Forward(networks.index_and_number, **modules), x, y, "cross_entropy")


@case()
def words() -> Problem:
    modules = {"table": nn.Embedding(7, 4), "inner": nn.Linear(4, 5), "head": nn.Linear(5, C)}
    x = torch.randint(0, 7, (n, 6)).float()
    return train(Forward(networks.token_table, **modules), x, classes((1,))[1], "cross_entropy")


@case()
def bilinear_and_raw_parameters() -> Problem:
    modules = {"pair": nn.Bilinear(4, 4, 5), "form": networks.Form(4, 5), "head": nn.Linear(5, C)}
    return classifier(Forward(networks.bilinear, **modules), 4)


@case()
def linear_by_inheritance_only() -> Problem:
    return classifier(nn.Sequential(networks.Doubled(6, 8), nn.Tanh(), nn.Linear(8, C)), 6)


@case()
def tanh_as_a_function() -> Problem:
    return classifier(Forward(networks.functional_tanh, inner=nn.Linear(6, 8), head=nn.Linear(8, C)), 6)


@case(piecewise_linear=True)
def relu_as_a_function() -> Problem:
    return classifier(Forward(networks.functional_relu, inner=nn.Linear(6, 8), head=nn.Linear(8, C)), 6)


@case(piecewise_linear=True)
def called_by_keyword() -> Problem:
    return classifier(Forward(networks.called_by_keyword, inner=nn.Linear(6, 8), head=nn.Linear(8, C)), 6)


@case(piecewise_linear=True)
def outputs_written_in_place() -> Problem:
    return classifier(Forward(networks.written_in_place, inner=nn.Linear(6, 8), head=nn.Linear(8, C)), 6)


@case(piecewise_linear=True)
def frozen_first_layer() -> Problem:
    problem = classifier(nn.Sequential(nn.Linear(6, 9), nn.ReLU(), nn.Linear(9, C)), 6)
    problem.model[0].requires_grad_(False)
    return problem


@case(piecewise_linear=True)
def unused_parameters() -> Problem:
    modules = {"inner": nn.Linear(6, 8), "unused": nn.Linear(4, 4), "head": nn.Linear(8, C)}
    return classifier(Forward(networks.functional_relu, **modules), 6)


# ---- sequences ----------------------------------------------------------------------------------------------------


@case(piecewise_linear=True)
def linear_on_sequences() -> Problem:
    return classifier(Forward(networks.pooled_sequence, inner=nn.Linear(4, 8), head=nn.Linear(8, C)), 5, 4)


def _sequence_first(length: int) -> Problem:
    modules = {"inner": nn.Linear(4, 7), "second": nn.Linear(7, 6), "head": nn.Linear(6, C)}
    return classifier(Forward(networks.sequence_first, **modules), length, 4)


@case(piecewise_linear=True)
def sequence_first() -> Problem:
    return _sequence_first(5)


@case(piecewise_linear=True)
def sequence_first_as_long_as_the_batch() -> Problem:
    """The inner layers see (n, n, F): nothing in the shape says which axis holds the samples."""
    return _sequence_first(n)


@case(piecewise_linear=True)
def folded_batch() -> Problem:
    modules = {"inner": nn.Linear(4, 6), "norm": nn.BatchNorm1d(6), "head": nn.Linear(6, C)}
    return classifier(Forward(networks.folded_batch, **modules), 4, 4)


def _positions(length: int) -> Problem:
    table = nn.Parameter(torch.randn(length, 3))
    modules = {"inner": nn.Linear(4, 6), "project": nn.Linear(3, 6), "head": nn.Linear(6, C)}
    return classifier(Forward(networks.positions, table=table, **modules), length, 4)


@case()
def positions() -> Problem:
    return _positions(5)


@case()
def as_many_positions_as_samples() -> Problem:
    """The layer without a sample axis has n rows all the same."""
    return _positions(n)


@case()
def attention() -> Problem:
    modules = {"inner": nn.Linear(3, 4), "attend": nn.MultiheadAttention(4, 2, batch_first=True)}
    return classifier(Forward(networks.attention, **modules, head=nn.Linear(4, C)), 5, 3)


@case()
def transformer_layer() -> Problem:
    layer = nn.TransformerEncoderLayer(4, 2, dim_feedforward=8, dropout=0.0, batch_first=True)
    return classifier(Forward(networks.encoder, inner=nn.Linear(3, 4), layer=layer, head=nn.Linear(4, C)), 5, 3)


@case()
def lstm() -> Problem:
    return classifier(Forward(networks.last_state, cell=nn.LSTM(3, 5, batch_first=True), head=nn.Linear(5, C)), 5, 3)


@case()
def gru_both_ways() -> Problem:
    cell = nn.GRU(3, 2, 2, bidirectional=True, batch_first=True)
    return classifier(Forward(networks.last_state, cell=cell, head=nn.Linear(4, C)), 4, 3)


@case()
def lstm_projected() -> Problem:
    cell = nn.LSTM(3, 4, proj_size=2, batch_first=True)
    return classifier(Forward(networks.last_state, cell=cell, head=nn.Linear(2, C)), 4, 3)


@case()
def attention_between_sequences() -> Problem:
    """Queries apart from keys and values, so that the packed projection is used in slices; an extra key; causal."""
    attend = nn.MultiheadAttention(4, 2, batch_first=True, add_bias_kv=True)
    modules = {"inner": nn.Linear(3, 4), "attend": attend, "head": nn.Linear(4, C)}
    return classifier(Forward(networks.attention_between, **modules), 4, 3)


@case()
def vision_transformer() -> Problem:
    """A class token, learned positions, a fused projection, RMS norms and a gain for every branch."""
    modules = {
        "patches": nn.Conv2d(1, 4, 2, stride=2),
        "token": nn.Parameter(torch.randn(1, 1, 4)),
        "places": nn.Parameter(0.5 * torch.randn(1, 5, 4)),
        "norm": nn.RMSNorm(4),
        "qkv": nn.Linear(4, 12, bias=False),
        "gain": nn.Parameter(torch.ones(4)),
        "head": nn.Linear(4, C),
    }
    return classifier(Forward(networks.vision_transformer, **modules), 1, 4, 4)


@case(piecewise_linear=True)
def decoder() -> Problem:
    """Transposed convolutions with groups, strides and cut borders; instance norm with stored statistics."""
    layers = (
        nn.Linear(4, 16),
        nn.Unflatten(1, (4, 2, 2)),
        nn.ConvTranspose2d(4, 4, 3, stride=2, padding=1, output_padding=1, groups=2),
        nn.InstanceNorm2d(4, affine=True, track_running_stats=True),
        nn.PReLU(4),
        nn.ConvTranspose2d(4, 2, (1, 2), dilation=(1, 2), bias=False),
        nn.ReLU(),
        nn.Flatten(),
    )
    return classifier(nn.Sequential(*layers, nn.Linear(48, C)), 4)


# ---- parameters outside layers ------------------------------------------------------------------------------------


@case()
def raw_products() -> Problem:
    modules = {
        "A": nn.Parameter(torch.randn(5, 7) / 2),
        "a": nn.Parameter(torch.zeros(7)),
        "B": nn.Parameter(torch.randn(2, 7, 7) / 2),
        "gain": nn.Parameter(torch.ones(7)),
        "W": nn.Parameter(torch.randn(7, C)),
    }
    return classifier(Forward(networks.raw_products, **modules), 5)


# ---- other heads and losses ---------------------------------------------------------------------------------------


@case()
def one_logit() -> Problem:
    x, y = classes((5,), 2)
    return train(nn.Sequential(nn.Linear(5, 8), nn.Tanh(), nn.Linear(8, 1)), x, y, "bce")


@case()
def one_logit_without_axis() -> Problem:
    x, y = classes((5,), 2)
    model = Forward(networks.single_logit, inner=nn.Linear(5, 8), head=nn.Linear(8, 1))
    return train(model, x, y.float(), "bce")


@case()
def regression_on_one_output() -> Problem:
    x = torch.randn(n, 5)
    return train(nn.Sequential(nn.Linear(5, 8), nn.Tanh(), nn.Linear(8, 1)), x, x[:, :1] * x[:, 1:2], "mse")


@case(piecewise_linear=True)
def regression_on_three_outputs() -> Problem:
    x = torch.randn(n, 5)
    return train(nn.Sequential(nn.Linear(5, 9), nn.ReLU(), nn.Linear(9, 3)), x, x[:, :3] * x[:, 2:], "mse")


@case()
def more_outputs_than_weights_see() -> Problem:
    """nC' exceeds p: the kernel has exact zeros among its eigenvalues."""
    model = nn.Sequential(nn.Linear(2, 2), nn.Tanh(), nn.Linear(2, 6, bias=False))
    return train(model, *classes((2,), 6), "cross_entropy")
