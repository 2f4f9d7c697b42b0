"""The stability of one attribution method: random draws, the search, the curve over radii and the score."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from spectral_audit.estimates import UNDEFINED, Estimate
from spectral_audit.explanations import CurvePoint, Drift, Explanation, Sensitivity
from spectral_audit.lenses.attribution.draws import Ball
from spectral_audit.lenses.attribution.intervals import mean, median
from spectral_audit.lenses.attribution.maps import AttributionMap, Move, Moved
from spectral_audit.lenses.attribution.score import condition, score
from spectral_audit.lenses.attribution.search import change, search, worse
from spectral_audit.lenses.attribution.settings import AttributionSettings
from spectral_audit.lenses.attribution.spectral import GRADIENTS, HessianReading, read_hessian

# Random draws at each smaller radius of the curve, and draws whose rank correlation is taken: both are means over many
# samples already.
_CURVE_DRAWS = 1
_RANKED = 2


@dataclass(frozen=True)
class Probed:
    """All moves at one radius: `random` (k, n) drifts, the worst move, and κ (n,) for the random and the worst one."""

    radius: float
    random: Tensor
    worst: Move
    condition: Tensor
    condition_worst: Tensor


@dataclass(frozen=True)
class MethodStudy:
    """What was found about one method, still as tensors; `points` ascend in radius, the last is the main one."""

    map: AttributionMap
    points: tuple[Probed, ...]
    moved: tuple[Moved, ...]
    first: Move
    hessian: HessianReading | None
    gradients: int
    restarts: int

    @property
    def alive(self) -> Tensor:
        """Samples (n,) whose attribution is not zero."""
        return self.map.norm > 0

    @property
    def worst(self) -> Move:
        """The worst move at the main radius."""
        return self.points[-1].worst

    @property
    def still(self) -> bool:
        """Whether nothing found moves any attribution."""
        return not any(bool(p.worst.drift[self.alive].any()) for p in self.points)


def study_method(
    attribution_map: AttributionMap,
    radius: float,
    input_scale: float,
    generator: torch.Generator,
    *,
    curved: bool,
    hint: Tensor | None = None,
) -> MethodStudy:
    """Probe one method; `curved` measures its Jacobian (the gradient's, the input Hessian), `hint` (n, *shape) is one
    more direction to search from."""
    settings, x = attribution_map.settings, attribution_map.subject.x
    ball = Ball(x, settings, radius)
    moved, conditions = [], []
    worst = first = attribution_map.move(ball.draw(generator))
    for k in range(settings.draws):
        move = attribution_map.move(ball.draw(generator)) if k else first
        moved.append(attribution_map.measured(move, ranked=k < _RANKED))
        conditions.append(condition(move.drift, move.delta, input_scale))
        worst = worse(worst, move)
    starts = [change(attribution_map, worst), attribution_map.base, *([] if hint is None else [hint])]
    worst = search(attribution_map, ball, worst, starts, settings.search_steps)
    hessian, spent = None, 0
    if curved and bool((attribution_map.norm > 0).any()):
        direction = change(attribution_map, worst)
        hessian = read_hessian(attribution_map.subject, attribution_map.target, direction, generator)
        spent = GRADIENTS * len(x)
        if hessian.spectral.any():
            for sign in (1, -1):
                delta = ball.along(sign * hessian.vectors.view_as(x))
                worst = worse(worst, attribution_map.move(delta))
    main = _probed(radius, [m.drift for m in moved], conditions, worst, input_scale)
    rest = _curve(attribution_map, settings, main, hessian, input_scale, generator)
    restarts, gradients = len(starts), attribution_map.gradients + spent
    return MethodStudy(attribution_map, (*rest, main), tuple(moved), first, hessian, gradients, restarts)


def _curve(
    attribution_map: AttributionMap,
    settings: AttributionSettings,
    main: Probed,
    hessian: HessianReading | None,
    input_scale: float,
    generator: torch.Generator,
) -> list[Probed]:
    """The smaller radii: a few random draws, and one direction known to be bad."""
    x, points = attribution_map.subject.x, []
    known = hessian.vectors.view_as(x) if hessian is not None and hessian.spectral.any() else main.worst.delta
    for fraction in sorted(settings.fractions):
        ball = Ball(x, settings, main.radius * fraction)
        moves = [attribution_map.move(ball.draw(generator)) for _ in range(_CURVE_DRAWS)]
        worst = attribution_map.move(ball.along(known))
        for move in moves:
            worst = worse(worst, move)
        conditions = [condition(m.drift, m.delta, input_scale) for m in moves]
        points.append(_probed(ball.radius, [m.drift for m in moves], conditions, worst, input_scale))
    return points


def _probed(radius: float, drifts: list[Tensor], conditions: list[Tensor], worst: Move, input_scale: float) -> Probed:
    return Probed(
        radius,
        torch.stack(drifts),
        worst,
        torch.stack(conditions).mean(0),
        condition(worst.drift, worst.delta, input_scale),
    )


def explanation(study: MethodStudy, input_scale: float, generator: torch.Generator, *, linear: bool) -> Explanation:
    """The figures of one method; a map that never moved scores 1 only where the model is known to be `linear`."""
    alive, settings = study.alive, study.map.settings
    classes = study.map.subject.loss != "mse"
    worst = study.map.measured(study.worst)
    nothing: tuple[Estimate, float | None] = (UNDEFINED, None)
    low = high = nothing
    if input_scale > 0 and alive.any() and (linear or not study.still):
        low = score(_conditions(study, input_scale, worst=False), generator)
        high = score(_conditions(study, input_scale, worst=True), generator)
    return Explanation(
        method=study.map.method,
        score=low[0],
        score_worst=high[0],
        score_radius=low[1],
        random=summary(study.moved, alive, classes=classes),
        worst=summary([worst], alive, classes=classes),
        sensitivity=sensitivity(study.moved, alive),
        curve=tuple(_point(study, p, settings, input_scale) for p in study.points),
        excluded=int((~alive).sum()),
        gradients=study.gradients,
    )


def _conditions(study: MethodStudy, input_scale: float, *, worst: bool) -> dict[float, Tensor]:
    """κ (m,) of the living samples by relative radius; 0 is the first-order limit of a smooth map."""
    alive = study.alive
    found = {p.radius / input_scale: (p.condition_worst if worst else p.condition)[alive] for p in study.points}
    hessian = study.hessian
    if hessian is not None and hessian.spectral.any():
        size = study.map.norm[alive].double()
        limit = hessian.spectral if worst else hessian.frobenius / study.map.subject.x[0].numel() ** 0.5
        found[0.0] = limit[alive] * input_scale / size
    return found


def _point(study: MethodStudy, point: Probed, settings: AttributionSettings, input_scale: float) -> CurvePoint:
    alive = study.alive
    fraction = point.radius / input_scale if settings.relative and input_scale > 0 else None
    if not alive.any():
        return CurvePoint(fraction, point.radius, None, None, None, None)
    random = worst = None
    radius = Ball(study.map.subject.x, settings, point.radius).input_radius()
    hessian = study.hessian
    if hessian is not None and hessian.spectral.any() and radius is not None:
        size, d = study.map.norm[alive].double(), study.map.subject.x[0].numel()
        random = _rms(hessian.frobenius[alive] * radius / (d**0.5 * size))
        worst = _rms(hessian.spectral[alive] * radius / size)
    return CurvePoint(
        fraction, point.radius, _rms(point.random[:, alive]), random, _rms(point.worst.drift[alive]), worst
    )


def _rms(values: Tensor) -> float:
    return float(values.double().square().mean().sqrt())


def summary(moves: tuple[Moved, ...] | list[Moved], alive: Tensor, *, classes: bool) -> Drift:
    """Statistics over samples and moves; the interval of the mean is 1.96 standard errors over samples."""
    if not alive.any():
        return Drift(UNDEFINED, None, None, None, None, None, 0.0, None)
    drift = torch.stack([m.drift[alive] for m in moves]).double()
    flipped = torch.stack([m.flipped[alive] for m in moves]) & classes
    kept = drift[~flipped]
    return Drift(
        mean=mean(drift.mean(0)),
        p95=float(torch.quantile(drift.flatten(), 0.95)),
        maximum=float(drift.max()),
        cosine=_mean([m.cosine[alive] for m in moves]),
        spearman=_mean([m.spearman[alive] for m in moves]),
        top_k_overlap=_mean([m.overlap[alive] for m in moves]),
        flips=float(flipped.double().mean()),
        same_class=float(kept.mean()) if len(kept) else None,
    )


def _mean(parts: list[Tensor]) -> float | None:
    """The mean of what is finite: a perturbed attribution may be zero, and has no direction then."""
    values = torch.stack(parts).double()
    values = values[values.isfinite()]
    return float(values.mean()) if len(values) else None


def sensitivity(moves: tuple[Moved, ...], alive: Tensor) -> Sensitivity:
    """Means over the living samples of sampled maxima and means; medians of the relative stabilities."""
    drift = torch.stack([m.drift[alive] for m in moves])
    slopes = torch.stack([m.lipschitz[alive] for m in moves]).amax(0)
    kept = ~torch.stack([m.flipped[alive] for m in moves])
    stable = []
    for values in ([m.input_stability for m in moves], [m.output_stability for m in moves]):
        table = torch.stack([v[alive] for v in values])
        largest = torch.where(kept & table.isfinite(), table, -torch.inf).amax(0)
        found = median(largest[largest.isfinite()])
        stable.append(None if found.value is None else found)
    return Sensitivity(
        max_sensitivity=mean(drift.amax(0)),
        avg_sensitivity=mean(drift.mean(0)),
        lipschitz=mean(slopes[slopes.isfinite()]),
        relative_input_stability=stable[0],
        relative_output_stability=stable[1],
    )
