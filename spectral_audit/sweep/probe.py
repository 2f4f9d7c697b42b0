"""Squared norms of every sample's gradients for given cotangents: backward passes over activations, and no kernel."""

from __future__ import annotations

from dataclasses import dataclass

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
    inputs: list[Tensor] = []
    parameters = {
        name: subject.x.new_zeros(subject.n, dtype=torch.float64) for name in (*plan.structured, *plan.generic)
    }
    buffers = Buffers()
    with exact_arithmetic():
        for where in subject.chunks():
            x = subject.x[where].clone().requires_grad_(True)
            capture = Capture(subject.parameters(), plan.structured)
            with capture:
                out = subject.forward(x)
            turned = (c[where].to(out) @ out[:, :, None])[:, :, 0]
            stacked = cotangents(turned, x, capture.calls, buffers)
            inputs.append(stacked[0].flatten(1).double().square().sum(1))
            for name, rows in contributions(capture.calls, stacked[1:]).items():
                parameters[name][where] = _norms(rows)
        if plan.generic:
            _add_generic(subject, plan, c, parameters)
    return Norms(torch.cat(inputs), parameters)


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


def _add_generic(subject: Subject, plan: Study, c: Tensor, into: dict[str, Tensor]) -> None:
    """The same for parameters without a rule, sample by sample."""
    with subject.trainable() as parameters:
        chosen = [parameters[name] for name in plan.generic]
        for i in range(subject.n):
            turned = subject.forward(subject.x[i : i + 1])[0] @ c[i].to(subject.x).T
            for t in turned:
                gradients = torch.autograd.grad(t, chosen, retain_graph=True, materialize_grads=True)
                for name, g in zip(plan.generic, gradients, strict=True):
                    into[name][i] += g.double().square().sum()
