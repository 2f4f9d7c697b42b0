"""Squared norms of every sample's gradients for given cotangents: backward passes over activations, and no kernel."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from spectral_audit.linalg.gram import widths
from spectral_audit.subject import Subject, exact_arithmetic

from .capture import Capture, contributions
from .cotangents import Buffers, cotangents
from .rules import Contribution, Pair
from .study import Study

# Gradient rows formed at a time, in bytes.
_ROWS_MEMORY = 64 * 2**20


@dataclass(frozen=True)
class Norms:
    """Σ_k ‖∂(c_ik·f_i)/∂x_i‖² as `input` (n,), and Σ_k ‖∂(c_ik·f_i)/∂θ_t‖² as `parameters` {name: (n,)}; float64."""

    input: Tensor
    parameters: dict[str, Tensor]


def gradient_norms(subject: Subject, plan: Study, c: Tensor) -> Norms:
    """The norms for cotangents `c` (n, r, C): r backward passes."""
    buffers = Buffers()

    def norms(where: slice) -> tuple[Tensor, Tensor]:
        x = subject.x[where].clone().requires_grad_(True)
        capture = Capture(subject.parameters(), plan.structured)
        with capture:
            out = subject.forward(x)
        turned = (c[where].to(out) @ out[:, :, None])[:, :, 0]
        stacked = cotangents(turned, x, capture.calls, buffers)
        found = {name: _norms(rows) for name, rows in contributions(capture.calls, stacked[1:]).items()}
        none = x.new_zeros(len(x), dtype=torch.float64)
        columns = [found.get(name, none) for name in plan.structured]
        return stacked[0].flatten(1).double().square().sum(1), _stacked(columns, none)

    with exact_arithmetic():
        inputs, structured = subject.over_samples(norms)
        generic = _generic(subject, plan, c) if plan.generic else subject.x.new_empty((subject.n, 0))
    parameters = dict(
        zip((*plan.structured, *plan.generic), torch.cat([structured, generic], 1).unbind(1), strict=True)
    )
    return Norms(inputs, parameters)


def _stacked(columns: list[Tensor], like: Tensor) -> Tensor:
    return torch.stack(columns, 1) if columns else like.new_empty((len(like), 0))


def _norms(rows: Contribution) -> Tensor:
    """Σ_k ‖row_k‖² (m,), by the cheaper of forming the rows and Σ_st (a_s·a_t)(g_s·g_t)."""
    if not isinstance(rows, Pair):
        return rows.flatten(1).double().square().sum(1)
    m, r, _, s, out = rows.g.shape
    fan_in = rows.a.shape[3]
    if s * (fan_in + r * out) < r * fan_in * out:
        g = rows.g.permute(0, 2, 3, 1, 4).flatten(3)
        return ((rows.a @ rows.a.mT) * (g @ g.mT)).double().sum((1, 2, 3))
    total = rows.a.new_zeros(m, dtype=torch.float64)
    for w in widths(out, rows.a.shape[1] * m * r * fan_in * rows.a.element_size(), _ROWS_MEMORY):
        part = Pair(rows.a, rows.g[..., w]).rows()
        total += torch.linalg.vector_norm(part, dim=(1, 2)).double().square()
    return total


def _generic(subject: Subject, plan: Study, c: Tensor) -> Tensor:
    """The same (n, T) for the T parameters without a rule, sample by sample."""
    with subject.trainable() as parameters:
        chosen = [parameters[name] for name in plan.generic]

        def norms(where: slice) -> list[Tensor]:
            turned = subject.forward(subject.x[where])[0] @ c[where.start].to(subject.x).T
            rows = [torch.autograd.grad(t, chosen, retain_graph=True, materialize_grads=True) for t in turned]
            columns = zip(*rows, strict=True)
            return [torch.stack([_squares(column) for column in columns])[None]]

        return replace(subject, chunk=1).over_samples(norms)[0]


def _squares(gradients: Sequence[Tensor]) -> Tensor:
    return torch.stack([g.double().square().sum() for g in gradients]).sum()
