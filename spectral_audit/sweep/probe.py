"""Squared norms of every sample's gradient for one cotangent a sample: one backward pass over activations."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.autograd.graph import get_gradient_edge

from spectral_audit.subject import Subject, exact_arithmetic
from spectral_audit.sweep.capture import Capture, contributions
from spectral_audit.sweep.rules import Contribution, Pair
from spectral_audit.sweep.study import Study


@dataclass(frozen=True)
class Norms:
    """‖∂(c_i·f_i)/∂x_i‖² as `input` (n,), and ‖∂(c_i·f_i)/∂θ_t‖² as `parameters` {name: (n,)}; float64."""

    input: Tensor
    parameters: dict[str, Tensor]


def gradient_norms(subject: Subject, plan: Study, cotangent: Tensor) -> Norms:
    """The norms for `cotangent` c (n, C)."""
    inputs: list[Tensor] = []
    found: dict[str, list[Tensor]] = {name: [] for name in (*plan.structured, *plan.generic)}
    with exact_arithmetic():
        for where in subject.chunks():
            x = subject.x[where].clone().requires_grad_(True)
            capture = Capture(subject.parameters(), plan.structured)
            with capture:
                out = subject.forward(x)
            total = (out * cotangent[where].to(out)).sum()
            edges = [get_gradient_edge(x), *(call.edge for call in capture.calls)]
            shapes = [x.shape, *(call.shape for call in capture.calls)]
            gradients: tuple[Tensor | None, ...] = (None,) * len(edges)
            if total.requires_grad:
                gradients = torch.autograd.grad(total, edges, allow_unused=True)
            g = [x.new_zeros(s) if one is None else one for s, one in zip(shapes, gradients, strict=True)]
            inputs.append(g[0].flatten(1).double().square().sum(1))
            for name, rows in contributions(capture.calls, [one[:, None] for one in g[1:]]).items():
                found[name].append(_norms(rows))
        for name, norms in _generic(subject, plan, cotangent).items():
            found[name] = [norms]
    return Norms(torch.cat(inputs), {name: torch.cat(parts) for name, parts in found.items()})


def _norms(rows: Contribution) -> Tensor:
    """‖row‖² (m,) of contributions with one output each; without forming the row where positions are few."""
    if not isinstance(rows, Pair):
        return rows.flatten(1).double().square().sum(1)
    _, _, _, s, out = rows.g.shape
    fan_in = rows.a.shape[3]
    if s * (fan_in + out) < fan_in * out:
        g = rows.g[:, 0]
        return ((rows.a @ rows.a.mT) * (g @ g.mT)).double().sum((1, 2, 3))
    return rows.rows().flatten(1).double().square().sum(1)


def _generic(subject: Subject, plan: Study, cotangent: Tensor) -> dict[str, Tensor]:
    """The same for parameters without a rule, sample by sample."""
    norms = {name: subject.x.new_zeros(subject.n, dtype=torch.float64) for name in plan.generic}
    if not plan.generic:
        return norms
    with subject.trainable() as parameters:
        chosen = [parameters[name] for name in plan.generic]
        for i in range(subject.n):
            f = (subject.forward(subject.x[i : i + 1]) * cotangent[i : i + 1].to(subject.x)).sum()
            for name, g in zip(plan.generic, torch.autograd.grad(f, chosen, materialize_grads=True), strict=True):
                norms[name][i] = g.double().square().sum()
    return norms
