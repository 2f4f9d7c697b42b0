"""Decides, before the sweep, how each parameter will be measured, and checks every shortcut against autograd.

A parameter is contracted by rule only if (1) it was seen in no other role, and (2) on two samples and a random
cotangent the rule gives the gradient that plain autograd gives, sample by sample. Whatever fails either test takes the
generic per-sample Jacobian: the same numbers, only slower.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from spectral_audit.errors import RefusedError
from spectral_audit.subject import Subject, exact_arithmetic, outputs_2d

from .capture import Capture, contributions
from .rules import ROLES, Pair
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
    """Watch one pass over two samples and choose a way to measure every parameter of `subject`."""
    x = subject.x[:2]
    cotangent = torch.randn(2, subject.outputs, generator=generator, dtype=torch.float64).to(x)
    with exact_arithmetic():
        facts, reached = _watch(subject)
        if not reached:
            raise RefusedError(
                "nothing to audit",
                expected="a model with at least one parameter that reaches its output",
                found="none",
                remedy="check that the architecture registers its weights as parameters",
            )
        gradients = _reference(subject, x, cotangent)
        reaching = [name for name in gradients if name in reached]
        by_rule = _by_rule(subject, x, cotangent, facts.structured.intersection(reaching))
    structured = [n for n in reaching if n in by_rule and _agree(by_rule[n], gradients[n])]
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


def _watch(subject: Subject) -> tuple[Facts, set[str]]:
    """Dataflow facts of every chunk of the probe set together, and the parameters that autograd reaches in any.

    Two samples would not do: a model may send others through other layers.
    """
    found: list[Facts] = []
    reached: set[str] = set()
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
            chosen = list(parameters.values())
            gradients = torch.autograd.grad(out.sum(), chosen, allow_unused=True) if chosen else ()
            reached |= {name for name, g in zip(parameters, gradients, strict=True) if g is not None}
    return merged(found), reached


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
    apart = {
        p
        for call in capture.calls
        if call.shape[0] != 2 or call.arguments["input"].shape[0] != 2
        for p in call.roles.values()
    }
    calls = [call for call in capture.calls if not apart.intersection(call.roles.values())]
    if not calls:
        return {}
    grads = torch.autograd.grad((out * cotangent).sum(), [c.edge for c in calls], allow_unused=True)
    g = [x.new_zeros(c.shape) if grad is None else grad for c, grad in zip(calls, grads, strict=True)]
    found = contributions(calls, [one[:, None] for one in g])
    return {
        name: (c.rows() if isinstance(c, Pair) else c).reshape(2, -1) for name, c in found.items() if name not in apart
    }


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
