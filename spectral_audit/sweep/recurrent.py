"""Recurrent layers and cells, step by step, so that every use of a weight is a call of `linear`.

With a_t = W_ih x_t + b_ih and u_t = W_hh h_{t−1} + b_hh, split into gates in torch's order:

- RNN: h = φ(a + u), φ = tanh or relu.
- LSTM (i, f, g, o): c ← σ(f) c + σ(i) tanh(g), h = σ(o) tanh(c), every gate from a + u; with `proj_size` h ← W_hr h.
- GRU (r, z, n): r = σ(a_r + u_r), z = σ(a_z + u_z), n = tanh(a_n + r u_n), h ← (1 − z) n + z h.

Samples stand on the first axis of everything that `linear` sees.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

State = tuple[Tensor, ...]
# (a_t, state, W_hh, b_hh, W_hr) → the next state, h first.
Step = Callable[[Tensor, State, Tensor, Tensor | None, Tensor | None], State]


def _rnn_step(
    phi: Callable[[Tensor], Tensor], a: Tensor, state: State, w: Tensor, b: Tensor | None, _: Tensor | None
) -> State:
    return (phi(a + F.linear(state[0], w, b)),)


def _lstm_step(a: Tensor, state: State, w: Tensor, b: Tensor | None, project: Tensor | None) -> State:
    h, c = state
    i, f, g, o = (a + F.linear(h, w, b)).chunk(4, -1)
    c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
    h = torch.sigmoid(o) * torch.tanh(c)
    return h if project is None else F.linear(h, project), c


def _gru_step(a: Tensor, state: State, w: Tensor, b: Tensor | None, _: Tensor | None) -> State:
    (h,) = state
    a_r, a_z, a_n = a.chunk(3, -1)
    u_r, u_z, u_n = F.linear(h, w, b).chunk(3, -1)
    z = torch.sigmoid(a_z + u_z)
    n = torch.tanh(a_n + torch.sigmoid(a_r + u_r) * u_n)
    return (n + z * (h - n),)


STEPS: dict[str, Step] = {
    "rnn_tanh": partial(_rnn_step, torch.tanh),
    "rnn_relu": partial(_rnn_step, torch.relu),
    "lstm": _lstm_step,
    "gru": _gru_step,
}


def layers(name: str, bound: dict[str, Any]) -> Any:
    """`name` = lstm, gru, rnn_tanh or rnn_relu with torch's arguments by name: (outputs, h_n) or (outputs, h_n, c_n).

    `NotImplemented` for packed sequences, whose rows are not samples, and for dropout between layers.
    """
    x: Any
    hx: Any
    params: Any
    x, hx, params = (bound.get(k) for k in ("input", "hx", "params"))
    packed = x is None or (isinstance(hx, Tensor) and not hx.is_floating_point())
    if packed or (bound["train"] and bound["dropout"] > 0):
        return NotImplemented
    if not bound["batch_first"]:
        x = x.transpose(0, 1)
    states = [hx] if isinstance(hx, Tensor) else list(hx)
    directions = 2 if bound["bidirectional"] else 1
    runs = bound["num_layers"] * directions
    finals: list[State] = []
    for first in range(0, runs, directions):
        outs = []
        for k in range(first, first + directions):
            weights = params[k * len(params) // runs : (k + 1) * len(params) // runs]
            start = tuple(s[k] for s in states)
            out, final = _run(STEPS[name], x, start, weights, bound["has_biases"], backward=k > first)
            outs.append(out)
            finals.append(final)
        x = torch.cat(outs, -1) if directions > 1 else outs[0]
    ends = [torch.stack(s) for s in zip(*finals, strict=True)]
    return (x if bound["batch_first"] else x.transpose(0, 1), *ends)


def _run(
    step: Step, x: Tensor, state: State, weights: Sequence[Tensor], has_biases: bool, *, backward: bool
) -> tuple[Tensor, State]:
    """One layer in one direction over `x` (n, T, in): its outputs (n, T, out) and last state."""
    w_ih, w_hh, *rest = weights
    b_ih, b_hh = (rest.pop(0), rest.pop(0)) if has_biases else (None, None)
    steps = list(F.linear(x, w_ih, b_ih).unbind(1))
    hs = []
    for a in reversed(steps) if backward else steps:
        state = step(a, state, w_hh, b_hh, rest[0] if rest else None)
        hs.append(state[0])
    return torch.stack(hs[::-1] if backward else hs, 1), state


def cell(name: str, bound: dict[str, Any]) -> Any:
    """One step of the cell `name` with torch's arguments by name: h, or (h, c) of an LSTM."""
    hx = bound["hx"]
    state = (hx,) if isinstance(hx, Tensor) else tuple(hx)
    a = F.linear(bound["input"], bound["w_ih"], bound.get("b_ih"))
    after = STEPS[name.removesuffix("_cell")](a, state, bound["w_hh"], bound.get("b_hh"), None)
    return after if len(after) > 1 else after[0]
