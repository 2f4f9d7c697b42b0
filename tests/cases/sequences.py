"""Sequences: positions, attention, recurrent layers."""

from __future__ import annotations

import torch
from torch import nn

from tests import networks
from tests.cases.registry import C, Problem, case, classifier, n
from tests.networks import Forward


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
