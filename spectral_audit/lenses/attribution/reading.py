"""The attribution lens: every method studied, curvature or gates beside it, and the report's part of it all."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch

from spectral_audit.explanations import (
    SCORE_DEFINITION,
    Attribution,
    Curvature,
    CurvePoint,
    Link,
    Piecewise,
    Surrogate,
)
from spectral_audit.lenses.attribution.gates import flipped, gate_states
from spectral_audit.lenses.attribution.links import loss_link, smoothgrad_link
from spectral_audit.lenses.attribution.maps import AttributionMap, first, target_name
from spectral_audit.lenses.attribution.methods import noise_scale
from spectral_audit.lenses.attribution.pictures import sheet
from spectral_audit.lenses.attribution.presets import read_preset
from spectral_audit.lenses.attribution.search import change
from spectral_audit.lenses.attribution.settings import AttributionSettings
from spectral_audit.lenses.attribution.spectral import ENTROPY_GRADIENTS, conditions, curvature, entropies, read_hessian
from spectral_audit.lenses.attribution.study import MethodStudy, explanation, study_method
from spectral_audit.lenses.attribution.surrogate import softened
from spectral_audit.subject import Subject, exact_arithmetic

# Facts about gates come from this many samples.
_FACT_SAMPLES = 32
_PARTED = 0.1


@dataclass(frozen=True)
class _Context:
    subject: Subject
    settings: AttributionSettings
    input_scale: float
    generator: torch.Generator
    flat: bool

    @property
    def radius(self) -> float:
        return self.settings.radius * self.input_scale if self.settings.relative else self.settings.radius


def read_attribution(
    subject: Subject,
    settings: AttributionSettings,
    input_scale: float,
    generator: torch.Generator,
    *,
    flat: bool,
) -> Attribution:
    """Study every method of `settings`, the first in full.

    `flat` says that the input Hessian is zero almost everywhere. Raises UsageError for a target or method that does not
    exist and RefusedError for a user's method that fails.
    """
    context = _Context(subject, settings, input_scale, generator, flat)
    seed = generator.initial_seed() % 2**31
    with exact_arithmetic():
        studies = _studies(context)
        primary = next(iter(studies.values()))
        curved = studies.get("gradient")
        curve = _curvature(context, curved) if curved is not None else None
        zero = curved is not None and curved.hessian is not None and not curved.hessian.spectral.any()
        facts, linear = _piecewise(context, primary) if flat or zero else (None, False)
        links, spent = _links(context, studies)
        spent += ENTROPY_GRADIENTS * curve.entropy_samples if curve is not None else 0
        preset = read_preset(subject, settings, settings.preset, seed) if settings.preset else None
        if settings.observe is not None and subject.x.ndim == 4 and primary.alive.any():
            settings.observe(sheet(primary, primary.first, primary.worst))
        bootstrap = torch.Generator().manual_seed(seed)
        found = {name: explanation(s, input_scale, bootstrap, linear=linear) for name, s in studies.items()}
    top = found[primary.map.method]
    return Attribution(
        method=top.method,
        target=target_name(subject, settings),
        sign=settings.sign,
        channels=settings.channels,
        norm=settings.norm,
        space=settings.space,
        radius=settings.radius if settings.relative else None,
        radius_absolute=context.radius,
        top_k=primary.map.top_k,
        draws=settings.draws,
        search_steps=settings.search_steps,
        restarts=primary.restarts,
        gradients=sum(s.gradients for s in studies.values()) + spent,
        excluded=top.excluded,
        piecewise_linear=facts is not None,
        score_definition=SCORE_DEFINITION,
        score=top.score,
        score_worst=top.score_worst,
        score_radius=top.score_radius,
        random=top.random,
        worst=top.worst,
        sensitivity=top.sensitivity,
        curve=top.curve,
        parts_at=_parts_at(found["gradient"].curve) if "gradient" in found else None,
        curvature=curve,
        piecewise=facts,
        links=links,
        preset=preset,
        methods=found,
    )


def _studies(context: _Context) -> dict[str, MethodStudy]:
    """Every method once; what is worst for the first is one more start for the others."""
    studies: dict[str, MethodStudy] = {}
    hint = None
    plain = context.settings.sign == "signed" and context.settings.channels == "kept"
    for name in dict.fromkeys(context.settings.methods):
        attribution_map = AttributionMap(context.subject, context.settings, name, context.generator)
        studies[name] = study_method(
            attribution_map,
            context.radius,
            context.input_scale,
            context.generator,
            curved=name == "gradient" and plain and not context.flat,
            hint=hint,
        )
        hint = studies[name].worst.delta if hint is None else hint
    return studies


def _curvature(context: _Context, study: MethodStudy) -> Curvature | None:
    hessian = study.hessian
    if hessian is None or not hessian.spectral[study.alive].any():
        return None
    entropy = entropies(context.subject, study.map.target, context.generator)
    return curvature(hessian, study.map.norm, study.alive, context.input_scale, entropy)


def _piecewise(context: _Context, study: MethodStudy) -> tuple[Piecewise, bool]:
    """The gates of the first samples, and whether the model has none, so that it is linear in its input."""
    few = first(context.subject, _FACT_SAMPLES)
    n = few.n
    before = gate_states(few, few.x)
    after = [gate_states(few, few.x + move.delta[:n]) for move in (study.first, study.worst)]
    flips = [flipped(before, states) for states in after]
    count = sum(t.numel() for t in before) // n
    facts = Piecewise(n, count, flips[0], flips[1], _surrogate(context, study, few))
    return facts, count == 0 and context.flat


def _surrogate(context: _Context, study: MethodStudy, few: Subject) -> Surrogate | None:
    """Condition numbers of the softplus_β model's gradient, for the same outputs."""
    beta = context.settings.surrogate
    smooth = softened(few, beta) if beta is not None else None
    if beta is None or smooth is None:
        return None
    target = study.map.target[: few.n]
    settings = replace(context.settings, sign="signed", channels="kept")
    surrogate = AttributionMap(smooth, settings)
    found = read_hessian(smooth, target, change(study.map, study.worst)[: few.n], context.generator)
    worst, typical = conditions(found, surrogate.norm, surrogate.norm > 0, context.input_scale)
    return Surrogate(beta, worst, typical)


def _links(context: _Context, studies: dict[str, MethodStudy]) -> tuple[tuple[Link, ...], int]:
    links: list[Link] = []
    spent = 0
    if context.flat:
        near = next(iter(studies.values())).first.delta
        radius = float(near.flatten(1).norm(dim=1).min())
        link, spent = loss_link(context.subject, context.subject.x + near, radius, context.generator)
        links += [link] if link else []
    smooth = studies.get("smoothgrad")
    if smooth is not None and context.settings.channels == "kept":
        sigma, worst = noise_scale(context.subject, context.settings), smooth.worst
        i = int((worst.drift * smooth.map.norm).nan_to_num(0.0).argmax())
        net, x, target = smooth.map.net, context.subject.x[i], smooth.map.target[i]
        before = net.gradients
        link = smoothgrad_link(net, x, worst.delta[i], target, sigma, context.generator)
        spent += net.gradients - before
        links += [link] if link else []
    return tuple(links), spent


def _parts_at(curve: tuple[CurvePoint, ...]) -> float | None:
    """The smallest radius where a drift is off its first-order prediction by more than a tenth."""
    for point in curve:
        pairs = ((point.random, point.random_predicted), (point.worst, point.worst_predicted))
        if any(m is not None and p and abs(m / p - 1) > _PARTED for m, p in pairs):
            return point.radius_absolute
    return None
