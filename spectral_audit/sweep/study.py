"""Decides, before the sweep, how each parameter will be measured, and checks every shortcut against autograd.

A parameter is contracted by rule only if (1) it was seen in no other role, (2) on two samples and a random cotangent
the rule gives the gradient that plain autograd gives, sample by sample, and (3) on the whole probe set, with random
cotangents u_i and weights s_i, the rule's rows r_i for u_i·f_i give autograd's gradient of Σ s_i u_i·f_i as Σ s_i r_i.
Two samples cannot show what happens to the others: a model may route samples to experts, sort them, or branch on their
values; rows that belong to the wrong sample, or are missing, change the sum. Whatever fails takes the generic
per-sample Jacobian: the same numbers, only slower.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from spectral_audit.errors import RefusedError
from spectral_audit.subject import Subject, exact_arithmetic, outputs_2d

from .capture import Call, Capture, contributions
from .rules import ROLES, Contribution, Pair
from .trace import Facts, Watcher, facts_of, merged


@dataclass(frozen=True)
class Study:
    """How a model will be measured.

    `structured` and `generic` parameters together are those that reach the output; `unused` do not. `uses` names the
    functions a structured parameter enters. `scale_invariant` lists weights along which the outputs do not change.
    """

    structured: tuple[str, ...]
    generic: tuple[str, ...]
    unused: tuple[str, ...]
    uses: dict[str, tuple[str, ...]]
    piecewise_linear: bool
    multilinear: bool
    curved_by: tuple[str, ...]
    scale_invariant: tuple[str, ...]


def study(subject: Subject, generator: torch.Generator) -> Study:
    """Watch one pass over the probe set and choose a way to measure every parameter of `subject`."""
    x = subject.x[:2]
    cotangent = torch.randn(2, subject.outputs, generator=generator, dtype=torch.float64).to(x)
    with exact_arithmetic():
        u, w = _random_combination(subject)
        found, truth = _watch(subject, u, w)
        if not truth:
            raise RefusedError(
                "nothing to audit",
                expected="a model with at least one parameter that reaches its output",
                found="none",
                remedy="check that the architecture registers its weights as parameters",
            )
        facts = merged(found)
        gradients = _reference(subject, x, cotangent)
        reaching = [name for name in gradients if name in truth]
        by_rule = _by_rule(subject, x, cotangent, facts.structured.intersection(reaching))
        likely = [name for name, rows in by_rule.items() if _agree(rows, gradients[name])]
        ruled = _combined_by_rule(subject, u, w, frozenset(likely))
    structured = [n for n in reaching if n in ruled and _agree(ruled[n][None], truth[n][None])]
    return Study(
        structured=tuple(structured),
        generic=tuple(n for n in reaching if n not in structured),
        unused=tuple(n for n in gradients if n not in reaching),
        uses=facts.uses,
        piecewise_linear=facts.piecewise_linear,
        multilinear=facts.multilinear,
        curved_by=facts.curved_by,
        scale_invariant=tuple(n for n in reaching if _scale_invariant(subject, n, gradients[n])),
    )


def _random_combination(subject: Subject) -> tuple[Tensor, Tensor]:
    """Cotangents u (n, C) and weights s (n,) of a combination of rows that no mistaken row leaves unchanged."""
    generator = torch.Generator().manual_seed(0)
    u = torch.randn(subject.n, subject.outputs, generator=generator, dtype=torch.float64)
    s = torch.randn(subject.n, generator=generator, dtype=torch.float64)
    return u.to(subject.x), s.to(subject.x)


def _watch(subject: Subject, u: Tensor, s: Tensor) -> tuple[list[Facts], dict[str, Tensor]]:
    """Dataflow facts of every chunk, and autograd's gradient (p_t,) of Σ s_i u_i·f_i for the parameters it reaches."""
    found: list[Facts] = []
    truth: dict[str, Tensor] = {}
    with subject.trainable() as parameters:
        for where in subject.chunks():
            x = subject.x[where].clone().requires_grad_(True)
            watcher = Watcher(x, parameters, ROLES)
            with watcher:
                raw = subject.model(x)
            out = outputs_2d(raw)
            if not out.requires_grad:
                raise RefusedError(
                    "the model's outputs carry no gradient",
                    expected="outputs that autograd can differentiate with respect to the weights",
                    found="a result computed under torch.no_grad, from .detach() or .data, or outside torch",
                    remedy="take those out of the model's forward",
                )
            found.append(facts_of(watcher, raw))
            total = (s[where, None] * u[where] * out).sum()
            gradients = torch.autograd.grad(total, list(parameters.values()), allow_unused=True)
            for name, g in zip(parameters, gradients, strict=True):
                if g is not None:
                    truth[name] = truth.get(name, 0) + g.flatten()
    return found, truth


def _combined_by_rule(subject: Subject, u: Tensor, s: Tensor, wanted: frozenset[str]) -> dict[str, Tensor]:
    """The same combination from the rules' rows for u_i·f_i, sample by sample."""
    total: dict[str, Tensor] = {}
    for where in subject.chunks() if wanted else ():
        x = subject.x[where].clone().requires_grad_(True)
        capture = Capture(subject.parameters(), wanted)
        with capture:
            out = subject.forward(x)
        calls = _samples_first(capture.calls, wanted, len(x))
        edges = [c.edge for c in calls]
        arrived = torch.autograd.grad((out * u[where]).sum(), edges, allow_unused=True) if calls else ()
        for name, part in contributions(calls, _filled(calls, arrived, x)).items():
            total[name] = total.get(name, 0) + _weighted(part, s[where])
    return total


def _samples_first(calls: list[Call], wanted: frozenset[str], samples: int) -> list[Call]:
    """The calls of the `wanted` parameters, without those that have a call whose first axis is not the batch."""
    apart = {
        p
        for call in calls
        if call.shape[0] != samples or call.arguments["input"].shape[0] != samples
        for p in call.roles.values()
    }
    kept = []
    for call in calls:
        roles = {role: p for role, p in call.roles.items() if p in wanted and p not in apart}
        if roles:
            kept.append(replace(call, roles=roles))
    return kept


def _filled(calls: list[Call], found: Sequence[Tensor | None], x: Tensor) -> list[Tensor]:
    """Cotangents (m, 1, *out) of the calls, zero where none arrived."""
    return [(x.new_zeros(c.shape) if g is None else g)[:, None] for c, g in zip(calls, found, strict=True)]


def _weighted(part: Contribution, s: Tensor) -> Tensor:
    """Σ_i s_i·row_i (p_t,) of rows with one output each."""
    if not isinstance(part, Pair):
        return s @ part.flatten(1)
    g = part.g[:, 0] * s[:, None, None, None]
    total = g.new_zeros(g.shape[1], g.shape[3], part.a.shape[3])
    if g.shape[2] == 1:
        return part.in_order(total.baddbmm_(g[:, :, 0].permute(1, 2, 0), part.a[:, :, 0].transpose(0, 1)).flatten())
    for one, a in zip(g, part.a, strict=True):  # no copy of the patches, unlike one product over all samples
        total.baddbmm_(one.mT, a)
    return part.in_order(total.flatten())


def _reference(subject: Subject, x: Tensor, cotangent: Tensor) -> dict[str, Tensor | None]:
    """Autograd's gradients (2, p_t) of u_i·f(x_i) for i = 0, 1; `None` where none arrives."""
    with subject.trainable() as parameters:
        out = subject.forward(x)
        chosen = list(parameters.values())
        per_sample = [
            torch.autograd.grad((out[i] * cotangent[i]).sum(), chosen, retain_graph=True, allow_unused=True)
            for i in range(2)
        ]
    gradients: dict[str, Tensor | None] = {}
    for name, first, second in zip(parameters, *per_sample, strict=True):
        alive = [g for g in (first, second) if g is not None]
        rows = [torch.zeros_like(alive[0]) if g is None else g for g in (first, second)] if alive else []
        gradients[name] = torch.stack([r.flatten() for r in rows]) if rows else None
    return gradients


def _by_rule(subject: Subject, x: Tensor, cotangent: Tensor, wanted: frozenset[str]) -> dict[str, Tensor]:
    """The same gradients (2, p_t) by the rules, for those parameters whose calls keep the samples on the first axis."""
    capture = Capture(subject.parameters(), wanted)
    x = x.clone().requires_grad_(True)
    with capture:
        out = subject.forward(x)
    calls = _samples_first(capture.calls, wanted, 2)
    if not calls:
        return {}
    found = torch.autograd.grad((out * cotangent).sum(), [c.edge for c in calls], allow_unused=True)
    rows = contributions(calls, _filled(calls, found, x))
    return {name: (c.rows() if isinstance(c, Pair) else c).reshape(2, -1) for name, c in rows.items()}


def _agree(rule: Tensor, reference: Tensor | None) -> bool:
    if reference is None or rule.shape != reference.shape:
        return False
    tolerance = 1e4 * torch.finfo(rule.dtype).eps
    return bool(
        ((rule - reference).norm(dim=1) <= tolerance * reference.norm(dim=1) + torch.finfo(rule.dtype).tiny).all()
    )


def _scale_invariant(subject: Subject, name: str, gradient: Tensor | None) -> bool:
    """Euler's identity: a function that ignores the length of θ has ⟨∇f, θ⟩ = 0."""
    theta = subject.parameters()[name]
    if gradient is None or theta.ndim < 2 or not theta.any():
        return False
    along = (gradient @ theta.detach().flatten()).abs()
    return bool(
        (along <= 1e3 * torch.finfo(theta.dtype).eps * gradient.norm(dim=1) * theta.detach().norm()).all()
        and gradient.any()
    )
