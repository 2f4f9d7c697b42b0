"""Tiny networks that a layer-by-layer engine can get wrong: shared, reshaped, renamed, wrapped and home-made layers."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional


class Residual(nn.Module):
    """x + body(x), then an in-place ReLU."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(channels, channels, 3, padding=1, bias=False),
            nn.BatchNorm2d(channels),
            nn.ReLU(inplace=True),
            nn.Conv2d(channels, channels, 3, padding=1, bias=False),
            nn.BatchNorm2d(channels),
        )
        self.act = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.act(x + self.body(x))


class Forward(nn.Module):
    """Submodules by name and a free forward function over them."""

    def __init__(self, forward: Callable[..., Tensor], **modules: nn.Module | nn.Parameter) -> None:
        super().__init__()
        for name, module in modules.items():
            setattr(self, name, module)
        self.function = forward

    def forward(self, x: Tensor) -> Tensor:
        return self.function(self, x)


class Doubled(nn.Linear):
    """A Linear by inheritance only: it uses twice its weight and no bias."""

    def forward(self, x: Tensor) -> Tensor:
        return functional.linear(x, 2 * self.weight)


class Direction(nn.Module):
    """v ↦ 2v/‖v‖ row by row, for a weight given by its direction alone."""

    def forward(self, v: Tensor) -> Tensor:
        return 2 * v / v.square().sum(dim=1, keepdim=True).sqrt()


class Form(nn.Module):
    """x ↦ (xᵀB_k x)_k · gain: parameters outside any known layer."""

    def __init__(self, features: int, outputs: int) -> None:
        super().__init__()
        self.B = nn.Parameter(torch.randn(outputs, features, features) / features)
        self.gain = nn.Parameter(torch.ones(()))

    def forward(self, x: Tensor) -> Tensor:
        return torch.einsum("ni,kij,nj->nk", x, self.B, x) * self.gain


def applied_twice(m: Forward, x: Tensor) -> Tensor:
    return m.head(torch.tanh(m.inner(torch.tanh(m.inner(x)))))


def relu_applied_twice(m: Forward, x: Tensor) -> Tensor:
    return m.head(torch.relu(m.inner(torch.relu(m.inner(x)))))


def borrowed_weight(m: Forward, x: Tensor) -> Tensor:
    return m.head(torch.tanh(functional.linear(torch.tanh(m.inner(x)), m.inner.weight)))


def transposed_weight(m: Forward, x: Tensor) -> Tensor:
    return functional.linear(torch.tanh(m.encoder(x)), m.encoder.weight.t(), m.bias)


def index_and_number(m: Forward, x: Tensor) -> Tensor:
    table = m.table(x[:, 0].long())
    return m.head(torch.relu(m.inner(torch.cat([table, x[:, 1:]], dim=1))))


def token_table(m: Forward, x: Tensor) -> Tensor:
    """Every row of x is a sentence of word indices, some words twice."""
    return m.head(torch.tanh(m.inner(m.table(x.long()))).mean(dim=1))


def bilinear(m: Forward, x: Tensor) -> Tensor:
    return m.head(torch.tanh(m.pair(x, x)) + m.form(x))


def pooled_sequence(m: Forward, x: Tensor) -> Tensor:
    return m.head(torch.relu(m.inner(x)).mean(dim=1))


def sequence_first(m: Forward, x: Tensor) -> Tensor:
    """The inner layers see (L, n, F): samples on the second axis."""
    h = torch.relu(m.inner(x.transpose(0, 1)))
    return m.head(m.second(h).relu().mean(dim=0))


def folded_batch(m: Forward, x: Tensor) -> Tensor:
    """The inner layers see (n L, F): several rows for every sample."""
    n, L, features = x.shape
    h = torch.relu(m.norm(m.inner(x.reshape(n * L, features))))
    return m.head(h.reshape(n, L, -1).amax(dim=1))


def positions(m: Forward, x: Tensor) -> Tensor:
    """A Linear on a learned table: its input has no sample axis at all."""
    return m.head(torch.tanh(m.inner(x) + m.project(m.table)).mean(dim=1))


def attention(m: Forward, x: Tensor) -> Tensor:
    h = m.inner(x)
    return m.head((h + m.attend(h, h, h, need_weights=False)[0]).mean(dim=1))


def encoder(m: Forward, x: Tensor) -> Tensor:
    return m.head(m.layer(m.inner(x)).mean(dim=1))


def last_state(m: Forward, x: Tensor) -> Tensor:
    return m.head(m.cell(x)[0][:, -1])


def attention_between(m: Forward, x: Tensor) -> Tensor:
    h = m.inner(x)
    causal = torch.ones(2, 4, dtype=torch.bool).triu(1)
    return m.head(m.attend(h[:, :2], torch.tanh(h), h, attn_mask=causal, need_weights=False)[0].mean(dim=1))


def vision_transformer(m: Forward, x: Tensor) -> Tensor:
    patches = m.patches(x).flatten(2).transpose(1, 2)
    h = torch.cat([m.token.expand(len(x), -1, -1), patches], dim=1) + m.places
    q, k, v = m.qkv(m.norm(h)).reshape(len(x), -1, 3, 2, 2).permute(2, 0, 3, 1, 4)
    h = h + m.gain * functional.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
    return m.head(h[:, 0])


def raw_products(m: Forward, x: Tensor) -> Tensor:
    """No layer at all: matrices from the right, slices, a transpose, a gain and a shift in place."""
    h = torch.tanh(x @ m.A + m.a) @ m.B[0]
    h *= m.gain
    h = torch.einsum("ni,ij->nj", torch.tanh(h), m.B[1]) + torch.tanh(h) @ m.B[0].t()
    return torch.addmm(m.a[:3], torch.tanh(h), m.W)


def functional_tanh(m: Forward, x: Tensor) -> Tensor:
    return m.head(torch.tanh(m.inner(x)))


def functional_relu(m: Forward, x: Tensor) -> Tensor:
    return m.head(m.inner(x).clamp(min=0))


def called_by_keyword(m: Forward, x: Tensor) -> Tensor:
    return m.head(input=torch.relu(m.inner(input=x)))


def written_in_place(m: Forward, x: Tensor) -> Tensor:
    """Layer outputs changed after the layer: shifted, scaled and rectified in place."""
    h = m.inner(x)
    h += 0.3
    h *= 1.5
    return m.head(functional.relu_(h)).mul_(0.7)


def branches(m: Forward, x: Tensor) -> Tensor:
    """One layer on different numbers of rows: all of them, and the first half of the features twice."""
    h = torch.tanh(m.inner(x))
    return m.head(h) + m.side(h[:, :3]) - 0.5 * m.side(h[:, 3:])


def single_logit(m: Forward, x: Tensor) -> Tensor:
    return m.head(torch.tanh(m.inner(x)))[:, 0]
