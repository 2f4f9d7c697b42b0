"""NETS: name → builder of (model, shape of a sample), one for every kind of layer and way to reach a parameter."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tests.networks import Forward

C = 3
Net = tuple[nn.Module, tuple[int, ...]]
NETS: dict[str, Callable[[], Net]] = {}


def net(builder: Callable[[], Net]) -> Callable[[], Net]:
    NETS[builder.__name__] = builder
    return builder


def sequence(layer: nn.Module, features: int, *, transposed: bool = False) -> Net:
    """A recurrent layer on (n, 5, 4), in either order of its first two axes; `features` wide."""

    def forward(m: Forward, x: Tensor) -> Tensor:
        out, *states = m.layer(x.transpose(0, 1) if transposed else x)
        final = torch.cat([s for state in states for s in (state if isinstance(state, tuple) else (state,))], -1)
        return m.head((out.transpose(0, 1) if transposed else out).mean(1)) + final.sum((0, 2))[:, None] * m.every

    return Forward(forward, layer=layer, head=nn.Linear(features, C), every=nn.Parameter(torch.ones(C))), (5, 4)


def cell(layer: nn.Module) -> Net:
    """A recurrent cell over (n, 5, 4), step by step."""

    def forward(m: Forward, x: Tensor) -> Tensor:
        state = None
        for at in x.unbind(1):
            state = m.layer(at, state)
        return m.head(state[0] if isinstance(state, tuple) else state)

    return Forward(forward, layer=layer, head=nn.Linear(5, C)), (5, 4)


def convolved(layer: nn.Module, *shape: int) -> Net:
    return nn.Sequential(layer, nn.Tanh(), nn.Flatten(), nn.LazyLinear(C)), shape


def normalised(layer: nn.Module, *shape: int) -> Net:
    size = torch.Size(shape).numel()
    layers = (nn.Flatten(), nn.Linear(size, size), nn.Unflatten(1, shape), layer, nn.Tanh(), nn.Flatten())
    return nn.Sequential(*layers, nn.Linear(size, C)), shape


def raw(forward: Callable[[Forward, Tensor], Tensor], *shape: int, **parts: tuple[int, ...] | nn.Module) -> Net:
    """Parameters of these shapes, layers, and a forward function over them."""
    modules = {k: v if isinstance(v, nn.Module) else nn.Parameter(0.5 * torch.randn(v) + 0.3) for k, v in parts.items()}
    return Forward(forward, **modules), shape


# ---- convolutions, norms and other layers -------------------------------------------------------------------------

CONVOLUTIONS = {
    "conv1d": lambda: convolved(nn.Conv1d(4, 6, 3, stride=2, padding=2, dilation=2, groups=2), 4, 11),
    "conv2d_same": lambda: convolved(nn.Conv2d(2, 4, (3, 2), padding="same", dilation=(2, 1)), 2, 6, 5),
    "conv2d_valid": lambda: convolved(nn.Conv2d(2, 4, 3, padding="valid"), 2, 6, 5),
    "conv2d_reflect": lambda: convolved(nn.Conv2d(2, 4, 3, padding=1, padding_mode="reflect"), 2, 6, 5),
    "conv2d_replicate": lambda: convolved(nn.Conv2d(4, 4, 3, padding=1, padding_mode="replicate", groups=4), 4, 4, 5),
    "conv3d": lambda: convolved(nn.Conv3d(2, 4, (2, 3, 2), stride=(1, 2, 1), padding=(0, 1, 1), groups=2), 2, 4, 5, 3),
    "transposed1d": lambda: convolved(nn.ConvTranspose1d(4, 6, 3, 2, 1, 1, groups=2, dilation=2), 4, 5),
    "transposed1d_padded_by_more_than_a_stride": lambda: convolved(
        nn.ConvTranspose1d(2, 3, 2, 1, 1, 2, dilation=3), 2, 5
    ),
    "transposed2d": lambda: convolved(nn.ConvTranspose2d(3, 4, (4, 3), (2, 3), (1, 0), (0, 1)), 3, 4, 3),
    "transposed3d": lambda: convolved(nn.ConvTranspose3d(2, 3, 2, stride=2, bias=False), 2, 2, 3, 2),
}
NORMS = {
    "batch1d": lambda: normalised(nn.BatchNorm1d(6), 6),
    "batch3d": lambda: normalised(nn.BatchNorm3d(2), 2, 2, 3, 2),
    "instance1d": lambda: normalised(nn.InstanceNorm1d(2, affine=True), 2, 5),
    "instance2d": lambda: normalised(nn.InstanceNorm2d(2, affine=True), 2, 3, 3),
    "instance2d_running": lambda: normalised(nn.InstanceNorm2d(2, affine=True, track_running_stats=True), 2, 3, 3),
    "rms": lambda: normalised(nn.RMSNorm(6), 6),
    "rms_of_two_axes": lambda: normalised(nn.RMSNorm([3, 2]), 4, 3, 2),
    "layer": lambda: normalised(nn.LayerNorm([3, 2]), 4, 3, 2),
    "group": lambda: normalised(nn.GroupNorm(2, 4), 4, 3, 2),
    "prelu": lambda: normalised(nn.PReLU(), 4, 3),
    "prelu_by_channel": lambda: normalised(nn.PReLU(4), 4, 3),
    "prelu_by_feature": lambda: normalised(nn.PReLU(6), 6),
}
RECURRENT = {
    "rnn": lambda: sequence(nn.RNN(4, 5, batch_first=True), 5),
    "rnn_relu": lambda: sequence(nn.RNN(4, 5, 2, "relu", bias=False, bidirectional=True, batch_first=True), 10),
    "lstm": lambda: sequence(nn.LSTM(4, 5, batch_first=True), 5),
    "lstm_projected": lambda: sequence(nn.LSTM(4, 5, 2, proj_size=3, bidirectional=True, batch_first=True), 6),
    "lstm_time_first": lambda: sequence(nn.LSTM(4, 5, 2), 5, transposed=True),
    "gru": lambda: sequence(nn.GRU(4, 5, 2, bidirectional=True, batch_first=True, dropout=0.5), 10),
    "rnn_cell": lambda: cell(nn.RNNCell(4, 5, nonlinearity="relu")),
    "lstm_cell": lambda: cell(nn.LSTMCell(4, 5)),
    "gru_cell": lambda: cell(nn.GRUCell(4, 5)),
    "gru_time_first": lambda: sequence(nn.GRU(4, 5), 5, transposed=True),
}
NETS |= CONVOLUTIONS | NORMS | RECURRENT


@net
def bilinear() -> Net:
    return raw(lambda m, x: m.pair(x, torch.sin(x)), 4, pair=nn.Bilinear(4, 4, C))


@net
def bags_of_words() -> Net:
    def forward(m: Forward, x: Tensor) -> Tensor:
        index = x.long()
        return m.mean(index) + F.embedding_bag(index, m.table, mode="sum", per_sample_weights=x - index)

    return raw(forward, 4, mean=nn.EmbeddingBag(5, C), table=(5, C))


# ---- attention ----------------------------------------------------------------------------------------------------


def attention(
    how: Callable[[Tensor], tuple[Tensor, Tensor, Tensor]], *, batch_first: bool = True, **options: object
) -> Net:
    """Multi-head attention on (n, 5, 8) features, with what `how` makes of them as queries, keys and values."""
    calls = {k: options.pop(k) for k in ("attn_mask", "key_padding_mask", "need_weights") if k in options}

    def forward(m: Forward, x: Tensor) -> Tensor:
        given = how(torch.tanh(m.inner(x)))
        if not batch_first:
            given = (given[0].transpose(0, 1),) * 3
        extra = {k: v.to(x) if isinstance(v, Tensor) and v.is_floating_point() else v for k, v in calls.items()}
        if "key_padding_mask" in extra:
            extra["key_padding_mask"] = extra["key_padding_mask"].expand(len(x), -1)
        out, weights = m.attend(*given, **extra)
        out = (out if batch_first else out.transpose(0, 1)).mean(1)
        return m.head(out if weights is None else out + weights.square().sum((1, 2))[:, None])

    layer = nn.MultiheadAttention(8, 2, batch_first=batch_first, **options)
    return Forward(forward, inner=nn.Linear(4, 8), attend=layer, head=nn.Linear(8, C)), (5, 4)


def with_itself(h: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    return h, h, h


CAUSAL = torch.ones(5, 5, dtype=torch.bool).triu(1)
LAST_IS_PADDING = torch.arange(5) > 3
ATTENTION = {
    "self": lambda: attention(with_itself),
    "self_without_weights": lambda: attention(with_itself, need_weights=False),
    "time_first": lambda: attention(with_itself, batch_first=False),
    "keys_are_values": lambda: attention(lambda h: (h[:, :2], *(torch.sin(h),) * 2)),
    "three_sequences": lambda: attention(lambda h: (h[:, :2], torch.sin(h), h.square()), bias=False),
    "separate_weights": lambda: attention(lambda h: (h, h[..., :6], h[..., :5]), kdim=6, vdim=5),
    "masked": lambda: attention(with_itself, attn_mask=CAUSAL, need_weights=False),
    "padded": lambda: attention(with_itself, key_padding_mask=LAST_IS_PADDING, dropout=0.5),
    "extra_keys": lambda: attention(
        with_itself, add_bias_kv=True, add_zero_attn=True, attn_mask=0.3 * torch.randn(5, 5)
    ),
}
NETS |= {f"attention_{name}": builder for name, builder in ATTENTION.items()}


@net
def attention_called_as_a_function() -> Net:
    """A mask of truth values for every sample and head, and the weights of every head."""

    def forward(m: Forward, x: Tensor) -> Tensor:
        h = x.transpose(0, 1)
        mask = torch.stack([CAUSAL, CAUSAL.fliplr().flipud()]).repeat(len(x), 1, 1)
        out, weights = F.multi_head_attention_forward(
            h, h, h, 4, 2, m.W, m.b, None, None, False, 0.0, m.out.weight, m.out.bias,
            training=False, attn_mask=mask, average_attn_weights=False,
        )  # fmt: skip
        return m.head(torch.cat([out.mean(0), weights[..., 0].mean(2)], 1))

    return raw(forward, 5, 4, W=(12, 4), b=(12,), out=nn.Linear(4, 4), head=nn.Linear(6, C))


@net
def transformer_encoder() -> Net:
    layer = nn.TransformerEncoderLayer(8, 2, 12, batch_first=True, activation="gelu", norm_first=True)
    layers = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
    return raw(
        lambda m, x: m.head(m.layers(m.inner(x)).mean(1)),
        5,
        4,
        inner=nn.Linear(4, 8),
        layers=layers,
        head=nn.Linear(8, C),
    )


@net
def transformer_decoder() -> Net:
    layer = nn.TransformerDecoderLayer(8, 2, 12, batch_first=True)
    return raw(
        lambda m, x: m.head(m.layer(m.inner(x), m.inner(x)[:, :2]).mean(1)),
        5, 4, inner=nn.Linear(4, 8), layer=layer, head=nn.Linear(8, C),
    )  # fmt: skip


# ---- parameters outside layers ------------------------------------------------------------------------------------


@net
def products() -> Net:
    def forward(m: Forward, x: Tensor) -> Tensor:
        h = torch.tanh(x @ m.A + m.a)
        h = torch.tanh(torch.addmm(m.b, h.mm(m.B), m.B.t()))
        return torch.matmul(h, m.W) * (x.mv(m.v) + x @ m.v)[:, None]

    return raw(forward, 4, A=(4, 6), a=(6,), B=(6, 6), b=(6,), W=(6, C), v=(4,))


@net
def product_from_the_left() -> Net:
    return raw(lambda m, x: (m.W @ torch.tanh(x)).mean(-1) + (m.W @ x[:, :, 0].T).T, 4, 5, W=(C, 4))


@net
def sums_over_named_indices() -> Net:
    def forward(m: Forward, x: Tensor) -> Tensor:
        heads = torch.tanh(torch.einsum("nli,ihd->nhdl", x, m.split))
        heads = torch.einsum("hde,nhdl->nhel", m.each, heads)  # an index of both that is kept
        sums = torch.einsum("nhdl,hdo->no", heads, m.join)  # an index of one that is summed over
        return sums + torch.einsum("nli,kij,nlj->nk", x, m.form, x)

    return raw(forward, 5, 4, split=(4, 2, 3), each=(2, 3, 3), join=(2, 3, C), form=(C, 4, 4))


@net
def gains_and_shifts() -> Net:
    def forward(m: Forward, x: Tensor) -> Tensor:
        h = m.shift - (x * m.gain + m.row - 2 * x * m.row[0]) / m.divisor
        h = torch.where(h > 0, h, m.slope * h) * x.maximum(m.floor)
        return m.head((h**2 * m.scale).mean(1))

    parts = {"gain": (4,), "shift": (4,), "row": (1, 4), "divisor": (4,), "slope": (), "floor": (5, 1), "scale": ()}
    return raw(forward, 5, 4, **parts, head=nn.Linear(4, C))


@net
def gains_in_place() -> Net:
    def forward(m: Forward, x: Tensor) -> Tensor:
        h = m.inner(x)
        h *= m.gain
        h += m.shift
        return m.head(h.clone().mul_(m.gain) * m.one.expand(5) + m.shift[1:2].expand(len(x), 5))

    return raw(forward, 4, inner=nn.Linear(4, 5), gain=(5,), shift=(5,), one=(1,), head=nn.Linear(5, C))


@net
def views() -> Net:
    def forward(m: Forward, x: Tensor) -> Tensor:
        h = torch.tanh(F.linear(x, m.W[:5], m.b[1:]))
        h = h + F.linear(x, m.W.chunk(2)[1]) + F.linear(x, m.stack[0].T) * m.b.view(2, -1)[1, :1]
        return F.linear(h, m.W[-C:, 1:]) + F.linear(h, m.stack.unbind()[1][:C])

    return raw(forward, 6, W=(10, 6), b=(6,), stack=(2, 6, 5))


@net
def copies() -> Net:
    def forward(m: Forward, x: Tensor) -> Tensor:
        h = torch.tanh(F.linear(x, m.W.T.reshape(12, 3)[:, :3].contiguous().view(6, 6)))
        return F.linear(h, m.W.flip(0)[:C]) + F.linear(h, m.W[[4, 1, 1]]) + F.linear(h, m.W.clone()[:C])

    return raw(forward, 6, W=(6, 6))


@net
def kernel_from_a_matrix() -> Net:
    forward = lambda m, x: m.head(F.conv2d(x, m.W.view(4, 2, 3, 3).flip(-1)).flatten(1))  # noqa: E731 — one line like its neighbours
    return raw(forward, 2, 5, 5, W=(4, 18), head=nn.Linear(36, C))


@net
def tied_and_transposed() -> Net:
    def forward(m: Forward, x: Tensor) -> Tensor:
        h = F.linear(torch.tanh(m.first(x)), m.first.weight.t())
        return m.head(torch.tanh(m.first(h)))

    return raw(forward, 6, first=nn.Linear(6, 4), head=nn.Linear(4, C))


@net
def class_token_and_positions() -> Net:
    def forward(m: Forward, x: Tensor) -> Tensor:
        tokens = torch.cat([m.token.expand(len(x), -1, -1), x, m.end.repeat(len(x), 2, 1)], 1)
        places = torch.arange(tokens.shape[1])
        h = tokens + m.learned + m.table(places) + m.table(places.expand(len(x), -1))
        return m.head(torch.tanh(m.inner(h)).mean(1))

    layers = {"table": nn.Embedding(9, 4), "inner": nn.Linear(4, 6), "head": nn.Linear(6, C)}
    return raw(forward, 5, 4, token=(1, 1, 4), end=(4,), learned=(1, 8, 4), **layers)


@net
def learned_queries() -> Net:
    def forward(m: Forward, x: Tensor) -> Tensor:
        weights = torch.softmax(m.query.expand(len(x), -1, -1) @ x.mT + m.bias[m.distance], -1)
        return m.head((weights @ x).flatten(1))

    model, shape = raw(forward, 5, 4, query=(2, 4), bias=(6,), head=nn.Linear(8, C))
    model.register_buffer("distance", (torch.arange(2)[:, None] - torch.arange(5)).abs())
    return model, shape


@net
def words_and_positions() -> Net:
    def forward(m: Forward, x: Tensor) -> Tensor:
        return m.head(torch.tanh(m.words(x.long()) + m.places(torch.arange(x.shape[1]))).mean(1))

    return raw(forward, 5, words=nn.Embedding(6, 4), places=nn.Embedding(8, 4), head=nn.Linear(4, C))


@net
def branches_on_a_value() -> Net:
    def forward(m: Forward, x: Tensor) -> Tensor:
        h = m.first(x)
        if float(m.gain.detach().sum()) > 0 and h.abs().max().item() > 0:
            h = h * m.gain
        return m.head(h)

    return raw(forward, 4, first=nn.Linear(4, 5), gain=(5,), head=nn.Linear(5, C))


# ---- samples that do not stand on the first axis ------------------------------------------------------------------


@net
def sequence_first() -> Net:
    layer = nn.TransformerEncoderLayer(8, 2, 12)
    parts = {
        "inner": nn.Linear(4, 8),
        "layer": layer,
        "norm": nn.RMSNorm(8),
        "gain": (1, 1, 8),
        "head": nn.Linear(8, C),
    }
    return raw(lambda m, x: m.head(m.norm(m.layer(m.inner(x.transpose(0, 1)))).mul(m.gain).mean(0)), 5, 4, **parts)


@net
def words_sequence_first() -> Net:
    def forward(m: Forward, x: Tensor) -> Tensor:
        return m.head(torch.tanh(m.inner(m.words(x.long().T))).mean(0))

    return raw(forward, 5, words=nn.Embedding(6, 4), inner=nn.Linear(4, 4), head=nn.Linear(4, C))


@net
def image_by_image() -> Net:
    """Every sample is a film: its images go through the layers as samples of their own, some overwritten in place."""

    def forward(m: Forward, x: Tensor) -> Tensor:
        images = m.layers(x.flatten(0, 1))
        return m.head((images * m.gain[:, None, None]).flatten(1).unflatten(0, (len(x), -1)).amax(1))

    layers = nn.Sequential(
        nn.Conv2d(1, 4, 2, groups=1), nn.ReLU(inplace=True), nn.BatchNorm2d(4), nn.PReLU(4), nn.GroupNorm(2, 4),
        nn.ConvTranspose2d(4, 2, 2, stride=2),
    )  # fmt: skip
    return raw(forward, 4, 1, 3, 3, layers=layers, gain=(2,), head=nn.Linear(32, C))


@net
def position_by_position() -> Net:
    def forward(m: Forward, x: Tensor) -> Tensor:
        h = m.norm(m.inner(x.reshape(-1, x.shape[-1])) * m.gain) + m.table(x[..., 0].long().flatten())
        return m.head(h.view(len(x), -1, 6).mean(1))

    norm = nn.Sequential(nn.LayerNorm(6), nn.BatchNorm1d(6))
    return raw(
        forward, 5, 4, inner=nn.Linear(4, 6), norm=norm, gain=(6,), table=nn.Embedding(6, 6), head=nn.Linear(6, C)
    )
