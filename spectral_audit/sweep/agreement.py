"""The whole sweep against autograd: one gradient for a random cotangent on every sample and output.

Two samples (see `study`) cannot show what happens to the others: a model may route samples to experts, sort them, or
branch on their values. Rows that belong to the wrong sample, or are missing, change Σ_ik u_ik·row_ik for random u.
"""

from __future__ import annotations

import torch
from torch import Tensor

from spectral_audit.subject import Subject, exact_arithmetic
from spectral_audit.sweep.rules import Contribution, Pair


def agreeing(subject: Subject, stored: dict[str, list[Contribution]]) -> set[str]:
    """The parameters whose stored rows, in parts over samples, give autograd's gradient of Σ_ik u_ik (Bᵀf)_ik."""
    whole = [name for name, parts in stored.items() if parts and sum(map(_samples, parts)) == subject.n]
    if not whole:
        return set()
    u = torch.randn(subject.n, subject.outputs, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    u = u.to(subject.x)
    truth = _gradient(subject, whole, u)
    tolerance = 1e5 * torch.finfo(subject.x.dtype).eps
    good = set()
    for name in whole:
        combined = torch.zeros_like(truth[name])
        first = 0
        for part in stored[name]:
            combined += _combined(part, u[first : first + _samples(part)])
            first += _samples(part)
        if bool((combined - truth[name]).norm() <= tolerance * truth[name].norm() + torch.finfo(u.dtype).tiny):
            good.add(name)
    return good


def _samples(part: Contribution) -> int:
    return len(part.g) if isinstance(part, Pair) else len(part)


def _combined(part: Contribution, u: Tensor) -> Tensor:
    """Σ_ik u_ik·row_ik (p_t,) in float64."""
    if not isinstance(part, Pair):
        return torch.einsum("ikp,ik->p", part, u).double()
    g = torch.einsum("ikgso,ik->igso", part.g, u)
    return torch.einsum("igso,igsa->goa", g, part.a).double().flatten()


def _gradient(subject: Subject, names: list[str], u: Tensor) -> dict[str, Tensor]:
    """Autograd's gradients (p_t,) of the same sum, float64."""
    total = {name: torch.zeros(p.numel(), dtype=torch.float64, device=u.device) for name, p in _chosen(subject, names)}
    with exact_arithmetic(), subject.trainable():
        chosen = [p for _, p in _chosen(subject, names)]
        for where in subject.chunks():
            f = ((subject.forward(subject.x[where]) @ subject.basis) * u[where]).sum()
            for name, g in zip(names, torch.autograd.grad(f, chosen, materialize_grads=True), strict=True):
                total[name] += g.flatten()
    return total


def _chosen(subject: Subject, names: list[str]) -> list[tuple[str, torch.nn.Parameter]]:
    parameters = subject.parameters()
    return [(name, parameters[name]) for name in names]
