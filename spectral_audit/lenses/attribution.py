"""How stable a gradient saliency is: finite drifts, random and searched, and the input Hessian behind them.

a(x) = ∇_x f_c(x) for the explained output c, fixed at the unperturbed sample. The search runs power steps on the secant
map δ ↦ a(x+δ) − a(x) = Ā(δ)δ, with Ā the input Hessian averaged along the segment: it needs first gradients only and
therefore also works for piecewise-linear nets, whose Hessian is zero almost everywhere.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from spectral_audit.errors import UsageError
from spectral_audit.linalg.batched import BatchedRitz, batched_lanczos
from spectral_audit.results import UNDEFINED, Attribution, Curvature, Drift, Estimate
from spectral_audit.subject import Subject, exact_arithmetic

_TOP_SHARE = 0.1
_CURVATURE_STEPS = 12
_CURVATURE_PROBES = 4
_RESIDUAL = 0.05


@dataclass(frozen=True)
class AttributionSettings:
    """What to explain and how far to perturb.

    `target` is the predicted class, the label, or an output index; `radius` is relative to X unless `relative` is off;
    `unit` is what one unit of the stated `space` is in model-input units, broadcast over a sample's shape.
    """

    target: Literal["predicted", "label"] | int = "predicted"
    radius: float = 0.1
    relative: bool = True
    norm: Literal["l2", "linf"] = "l2"
    space: Literal["input", "pixel"] = "input"
    unit: Tensor | None = None
    draws: int = 10
    search_steps: int = 8


@dataclass(frozen=True)
class _Moved:
    """How the attribution moved for one perturbation of every sample, each (n,)."""

    drift: Tensor
    cosine: Tensor
    overlap: Tensor
    flipped: Tensor

    def where(self, better: Tensor, other: _Moved) -> _Moved:
        """Sample by sample: `other` where `better`, else this one."""
        return _Moved(
            torch.where(better, other.drift, self.drift),
            torch.where(better, other.cosine, self.cosine),
            torch.where(better, other.overlap, self.overlap),
            torch.where(better, other.flipped, self.flipped),
        )


class AttributionMap:
    """The attribution map of a subject, and distances from its value at the unperturbed samples."""

    def __init__(self, subject: Subject, settings: AttributionSettings) -> None:
        self.subject = subject
        self.target = _targets(subject, settings)
        self.gradients = 0
        self.base, self.predicted = self(subject.x)
        self.norm = self.base.flatten(1).norm(dim=1)
        self.top_k = max(1, round(_TOP_SHARE * self.base[0].numel()))
        self._top = self._top_set(self.base)

    def __call__(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Attributions, shaped like `x` (n, *shape), and predicted classes (n,)."""
        attributions, predictions = [], []
        for where in self.subject.chunks():
            part = self.subject.leaf(x[where])
            f = self.subject.forward(part)
            (a,) = torch.autograd.grad(f.gather(1, self.target[where][:, None]).sum(), part, materialize_grads=True)
            attributions.append(a.contiguous())
            predictions.append(_predictions(f.detach()))
        self.gradients += len(x)
        return torch.cat(attributions), torch.cat(predictions)

    def move(self, delta: Tensor) -> tuple[_Moved, Tensor]:
        """What `delta` (n, *shape) does to the attribution, and the change itself."""
        a, predicted = self(self.subject.x + delta)
        change = a - self.base
        flat, base = a.flatten(1), self.base.flatten(1)
        cosine = (flat * base).sum(1) / (flat.norm(dim=1) * self.norm)
        overlap = (self._top_set(a) & self._top).sum(1) / self.top_k
        moved = _Moved(change.flatten(1).norm(dim=1) / self.norm, cosine, overlap.to(a), predicted != self.predicted)
        return moved, change

    def _top_set(self, a: Tensor) -> Tensor:
        flat = a.flatten(1).abs()
        chosen = torch.zeros_like(flat, dtype=torch.bool)
        return chosen.scatter_(1, flat.topk(self.top_k, dim=1).indices, True)


def _targets(subject: Subject, settings: AttributionSettings) -> Tensor:
    if isinstance(settings.target, int) or subject.outputs == 1 or subject.loss == "mse":
        index = settings.target if isinstance(settings.target, int) else 0
        if not 0 <= index < subject.outputs:
            raise UsageError(
                "attribution.target does not fit the model",
                expected=f"predicted, label, or an output from 0 to {subject.outputs - 1}",
                found=str(index),
                remedy="correct attribution.target in the spec",
            )
        return torch.full((subject.n,), index, dtype=torch.long, device=subject.x.device)
    if settings.target == "label":
        return subject.y
    with torch.no_grad():
        return torch.cat([subject.forward(subject.x[where]).argmax(1) for where in subject.chunks()])


def _target_name(subject: Subject, settings: AttributionSettings) -> str:
    if isinstance(settings.target, int) or subject.loss == "mse":
        return f"output {settings.target if isinstance(settings.target, int) else 0}"
    return settings.target


def _predictions(f: Tensor) -> Tensor:
    return f.argmax(1) if f.shape[1] > 1 else (f[:, 0] > 0).long()


def read_attribution(
    subject: Subject, settings: AttributionSettings, input_scale: float, generator: torch.Generator, *, flat: bool
) -> Attribution:
    """Drift at one radius under random draws and a search, and the curvature ‖A‖ unless the model is `flat` (its input
    Hessian is zero almost everywhere)."""
    with exact_arithmetic():
        attribution_map = AttributionMap(subject, settings)
        radius = settings.radius * input_scale if settings.relative else settings.radius
        ball = _Ball(subject.x, settings, radius)
        random, best, direction = _random(attribution_map, ball, settings.draws, generator)
        worst, direction = _search(attribution_map, ball, best, direction, settings.search_steps)
        alive = attribution_map.norm > 0
        curvature = (
            None if flat or not alive.any() else _curvature(attribution_map, direction, input_scale, alive, generator)
        )
    return Attribution(
        method="gradient",
        target=_target_name(subject, settings),
        norm=settings.norm,
        space=settings.space,
        radius=settings.radius if settings.relative else None,
        radius_absolute=radius,
        top_k=attribution_map.top_k,
        draws=settings.draws,
        search_steps=settings.search_steps,
        gradients=attribution_map.gradients,
        excluded=int((~alive).sum()),
        piecewise_linear=flat or (curvature is None and bool(alive.any())),
        random=_summary(random, alive, classes=subject.loss != "mse"),
        worst=_summary([worst], alive, classes=subject.loss != "mse"),
        curvature=curvature,
    )


class _Ball:
    """Perturbations of norm `radius` in the stated space, given in model-input units."""

    def __init__(self, x: Tensor, settings: AttributionSettings, radius: float) -> None:
        unit = settings.unit if settings.space == "pixel" and settings.unit is not None else torch.ones(())
        self._unit = unit.to(x)
        self._radius, self._norm, self._x = radius, settings.norm, x

    def draw(self, generator: torch.Generator) -> Tensor:
        """Uniform on the sphere (l2) or in the cube (linf)."""
        if self._norm == "linf":
            delta = torch.rand(self._x.shape, generator=generator, dtype=torch.float64) * 2 - 1
            return delta.to(self._x) * self._radius * self._unit
        return self._scaled(torch.randn(self._x.shape, generator=generator, dtype=torch.float64).to(self._x))

    def steepest(self, ascent: Tensor) -> Tensor:
        """The perturbation on the boundary that has the largest inner product with `ascent` (n, *shape)."""
        inner = ascent * self._unit
        return inner.sign() * self._radius * self._unit if self._norm == "linf" else self._scaled(inner)

    def _scaled(self, direction: Tensor) -> Tensor:
        norm = direction.flatten(1).norm(dim=1).clamp_min(torch.finfo(direction.dtype).tiny)
        return direction / norm.view(-1, *[1] * (direction.ndim - 1)) * self._radius * self._unit


def _random(
    attribution_map: AttributionMap, ball: _Ball, draws: int, generator: torch.Generator
) -> tuple[list[_Moved], _Moved, Tensor]:
    """All random moves, the worst of them sample by sample, and its direction of change."""
    moves: list[_Moved] = []
    best: _Moved | None = None
    direction = torch.zeros_like(attribution_map.base)
    for _ in range(draws):
        moved, change = attribution_map.move(ball.draw(generator))
        moves.append(moved)
        better = torch.ones_like(moved.flipped) if best is None else moved.drift > best.drift
        best = moved if best is None else best.where(better, moved)
        direction = torch.where(better.view(-1, *[1] * (change.ndim - 1)), change, direction)
    assert best is not None, "at least one draw"
    return moves, best, direction


def _search(
    attribution_map: AttributionMap, ball: _Ball, best: _Moved, direction: Tensor, steps: int
) -> tuple[_Moved, Tensor]:
    """Power steps on the secant map, once from the worst random draw and once along the attribution itself."""
    starts = (direction, attribution_map.base)
    for start in starts:
        step = start
        for _ in range(steps):
            moved, step = attribution_map.move(ball.steepest(step))
            better = moved.drift > best.drift
            best = best.where(better, moved)
            direction = torch.where(better.view(-1, *[1] * (step.ndim - 1)), step, direction)
    return best, direction


def _curvature(
    attribution_map: AttributionMap, start: Tensor, input_scale: float, alive: Tensor, generator: torch.Generator
) -> Curvature | None:
    """‖A‖₂ by Lanczos for all samples at once, ‖A‖_F by deflated Hutchinson; `None` if A is zero everywhere."""
    spectral, residual, frobenius = [], [], []
    for where in attribution_map.subject.chunks():
        product = _HessianProduct(attribution_map, where)
        krylov = batched_lanczos(product, _start(start[where], generator), _CURVATURE_STEPS)
        spectral.append(krylov.top)
        residual.append(krylov.residual)
        frobenius.append(_frobenius(product, krylov, generator))
        attribution_map.gradients += 2 * (where.stop - where.start) * (_CURVATURE_STEPS + _CURVATURE_PROBES)
    a2, error, af = (torch.cat(parts)[alive].double() for parts in (spectral, residual, frobenius))
    if not a2.any():
        return None
    size = attribution_map.norm[alive].double()
    d = start[0].numel()
    relative = float((error / a2.clamp_min(torch.finfo(torch.float64).tiny))[a2 > 0].max())
    return Curvature(
        spectral=_median(a2),
        frobenius=_median(af),
        condition_worst=_median(a2 * input_scale / size),
        condition_typical=_median(af * input_scale / (math.sqrt(d) * size)),
        residual=relative,
        status="ok" if float((error > _RESIDUAL * a2).double().mean()) <= 0.5 else "unconverged",
    )


class _HessianProduct:
    """v ↦ A_i v_i for the samples of one chunk, (m, d) to (m, d), over a retained graph."""

    def __init__(self, attribution_map: AttributionMap, where: slice) -> None:
        self._x = attribution_map.subject.x[where].clone().requires_grad_(True)
        f = attribution_map.subject.forward(self._x).gather(1, attribution_map.target[where][:, None]).sum()
        (self._a,) = torch.autograd.grad(f, self._x, create_graph=True, materialize_grads=True)

    def __call__(self, v: Tensor) -> Tensor:
        if not self._a.requires_grad:
            return torch.zeros_like(v)
        (product,) = torch.autograd.grad(
            self._a, self._x, v.view_as(self._a), retain_graph=True, materialize_grads=True
        )
        return product.flatten(1)


def _start(direction: Tensor, generator: torch.Generator) -> Tensor:
    """The searched direction with a little noise, so that no eigenvector is missed by symmetry."""
    flat = direction.flatten(1)
    noise = torch.randn(flat.shape, generator=generator, dtype=torch.float64).to(flat)
    size = flat.norm(dim=1, keepdim=True)
    flat = flat / torch.where(size > 0, size, torch.ones_like(size))
    flat = flat + 0.1 * noise / noise.norm(dim=1, keepdim=True)
    return flat / flat.norm(dim=1, keepdim=True)


def _frobenius(product: _HessianProduct, krylov: BatchedRitz, generator: torch.Generator) -> Tensor:
    """‖A‖_F (m,): ‖AV‖_F² of the Krylov basis V exactly, and Hutchinson's E‖A(I − VVᵀ)z‖² for what it leaves."""
    samples, steps, d = krylov.basis.shape
    rest = torch.zeros_like(krylov.captured)
    for _ in range(_CURVATURE_PROBES if steps < d else 0):
        z = torch.randint(0, 2, (samples, d), generator=generator).to(krylov.basis) * 2 - 1
        z = z - ((krylov.basis @ z[:, :, None]).mT @ krylov.basis)[:, 0]
        rest += product(z).double().square().sum(1)
    return (krylov.captured + rest / _CURVATURE_PROBES).sqrt()


def _summary(moves: list[_Moved], alive: Tensor, *, classes: bool) -> Drift:
    """Statistics over samples (and draws); the interval of the mean is 1.96 standard errors over samples."""
    if not alive.any():
        return Drift(UNDEFINED, None, None, None, None, 0.0)
    drift = torch.stack([m.drift[alive] for m in moves]).double()
    per_sample = drift.mean(0)
    mean = float(per_sample.mean())
    half = 1.96 * float(per_sample.std()) / math.sqrt(len(per_sample)) if len(per_sample) > 1 else 0.0
    cosine = torch.stack([m.cosine[alive] for m in moves])
    cosine = cosine[cosine.isfinite()]
    return Drift(
        mean=Estimate(mean, max(0.0, mean - half), mean + half),
        p95=float(torch.quantile(drift.flatten(), 0.95)),
        maximum=float(drift.max()),
        cosine=float(cosine.mean()) if len(cosine) else None,
        top_k_overlap=float(torch.stack([m.overlap[alive] for m in moves]).mean()),
        flips=float(torch.stack([m.flipped[alive] for m in moves]).double().mean()) if classes else 0.0,
    )


def _median(values: Tensor) -> Estimate:
    """The median with the distribution-free interval of order statistics n/2 ± 0.98√n."""
    ordered = values.sort().values
    n = len(ordered)
    half = 0.98 * math.sqrt(n)
    low, high = max(0, math.floor(n / 2 - half)), min(n - 1, math.ceil(n / 2 + half))
    return Estimate(float(torch.quantile(ordered, 0.5)), float(ordered[low]), float(ordered[high]))
