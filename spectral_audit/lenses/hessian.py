"""The loss Hessian H over the whole probe set: both ends of its spectrum, trace, density, and its relative forms."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from spectral_audit.errors import RefusedError
from spectral_audit.lenses.directional import QuadraticForms
from spectral_audit.lenses.kernel import KernelReading
from spectral_audit.lenses.space import Advance, HessianProducts, ParameterSpace, parameter_space
from spectral_audit.lenses.traces import DIRECTIONS, probe_error, residual_trace
from spectral_audit.linalg.density import density, quadratures, settled_sums
from spectral_audit.linalg.lanczos import Ritz, dominant_converged, ends_converged, lanczos, without_vectors
from spectral_audit.results import Finding, Spectrum
from spectral_audit.subject import Subject
from spectral_audit.sweep import Study

# Share of noise in a warm start.
_NOISE = 0.02
# The density needs a certain number of quadrature nodes; beyond the limit, what has not converged is said.
_MIN_STEPS, _MAX_STEPS = 16, 96
# Vectors without which a restarted run cannot go on.
_LEAST_BASIS = 8
# Random starts times parameters: below it, one start's quadrature is too noisy.
_QUADRATURE_WEIGHT = 10_000


@dataclass(frozen=True)
class HessianReading:
    """Per-sample figures (n,) float64, the spectrum of H, and what it cost.

    `worst` are vᵀ(T∇²ℓ_iT)v at the eigenvector v of T H T with the largest modulus, whose mean is that eigenvalue;
    `typical` are tr(τ∇²ℓ_iτ), with `typical_stderr` of their mean where it had to be estimated. `top` is ‖H‖₂.
    """

    worst: Tensor
    worst_residual: float
    typical: Tensor
    typical_stderr: float
    top: float
    gradient_norm: float
    loss: float
    spectrum: Spectrum
    products: int
    findings: tuple[Finding, ...]


def read_hessian(
    subject: Subject,
    plan: Study,
    kernel: KernelReading,
    generator: torch.Generator,
    *,
    tolerance: float = 1e-3,
    advance: Advance = lambda products: None,
) -> HessianReading:
    """Lanczos on H from a random start (both ends, density) and on T H T from the top Gauss–Newton vector (worst)."""
    with parameter_space(subject, [*plan.structured, *plan.generic]) as space:
        products = HessianProducts(space, advance)
        ends, runs = _raw_runs(space, products, generator, tolerance)
        _require_symmetry([ends, *runs], kernel.raw_ntk, subject)
        forms = QuadraticForms(space, 1 if plan.multilinear else DIRECTIONS)
        worst, residual, settled = _worst(space, products, forms, kernel.top_worst, generator, tolerance)
        remainder = remainder_typical = None
        if not plan.multilinear:
            remainder = residual_trace(products, forms, subject.x.new_ones(space.size), generator)
            remainder_typical = residual_trace(products, forms, space.typical_scale(), generator)
    trace = kernel.gauss_newton_trace if remainder is None else kernel.gauss_newton_trace + remainder.mean(0)
    typical = kernel.gauss_newton_trace_typical
    typical = typical if remainder_typical is None else typical + remainder_typical.mean(0)
    size = sum(p.numel() for p in subject.parameters().values())
    spectrum = _spectrum(size, ends, runs, float(trace.mean()), probe_error(remainder), tolerance)
    return HessianReading(
        worst=worst,
        worst_residual=residual,
        typical=typical,
        typical_stderr=probe_error(remainder_typical),
        top=max(abs(v) for v in spectrum.values),
        gradient_norm=products.gradient_norm,
        loss=products.loss,
        spectrum=spectrum,
        products=products.count,
        findings=_findings(spectrum, settled, tolerance),
    )


def _raw_runs(
    space: ParameterSpace, products: HessianProducts, generator: torch.Generator, tolerance: float
) -> tuple[Ritz, list[Ritz]]:
    """The run that settles both ends, and runs from random starts, whose quadratures make the density.

    One run is both, with more random starts where so few parameters leave a single one's quadrature noisy. Where memory
    holds too few vectors to settle the ends, a restarted run goes on from what the first one found.
    """
    rule = ends_converged(tolerance)
    count = max(1, min(8, round(_QUADRATURE_WEIGHT / space.size)))
    room = space.max_basis(_LEAST_BASIS)
    runs = []
    for run in range(count):
        steps = min(_MAX_STEPS if run == 0 else _MIN_STEPS, room)
        start = space.random_vector(generator)
        found = lanczos(products, start, steps=steps, converged=lambda r: len(r.values) >= _MIN_STEPS and rule(r))
        if run == 0:
            settled = room >= _MAX_STEPS or found.exhausted or rule(found)
            again = None if settled else found.vector(0, -1)
        runs.append(without_vectors(found))
        del found  # its memory is needed
    if again is None:
        return runs[0], runs
    return without_vectors(lanczos(products, again, steps=_MAX_STEPS, converged=rule, max_basis=room)), runs


def _require_symmetry(runs: list[Ritz], ntk: float, subject: Subject) -> None:
    """Refuse second derivatives that contradict themselves: some of torch's own formulas are wrong (weight_norm's).

    Probabilities are known to eps, hence H = GᵀSG + … to about eps·λmax(Θ): all there is when the softmax is saturated.
    """
    eps = torch.finfo(subject.x.dtype).eps
    limit = max(1e-6, 1e4 * eps)
    largest = max(float(run.values.abs().max()) for run in runs)
    asymmetry = max(run.asymmetry for run in runs)
    if asymmetry * largest > limit * largest + 100 * eps * ntk:
        raise RefusedError(
            "torch's second derivatives of this model are not symmetric, so its Hessian cannot be trusted",
            expected=f"an asymmetry of at most {limit:.2g} relative to the largest eigenvalue",
            found=f"{asymmetry:.2g}",
            remedy="fold reparametrisations such as weight_norm into plain weights before saving",
        )


def _worst(
    space: ParameterSpace,
    products: HessianProducts,
    forms: QuadraticForms,
    cotangent: Tensor,
    generator: torch.Generator,
    tolerance: float,
) -> tuple[Tensor, float, bool]:
    """Per-sample quadratic forms at the dominant eigenvector of T H T, its residual, and whether it converged."""
    t = space.worst_scale()
    if not t.any():
        return torch.zeros(space.subject.n, dtype=torch.float64, device=t.device), 0.0, True
    rule = dominant_converged(tolerance)
    ritz = lanczos(
        lambda v: products(t * v).mul_(t),
        _warm_start(space, t, cotangent, generator),
        steps=_MAX_STEPS,
        converged=rule,
        max_basis=space.max_basis(_LEAST_BASIS),
    )
    k = int(ritz.values.abs().argmax())
    residual, settled = float(ritz.residuals[k]), ritz.exhausted or rule(ritz)
    direction = ritz.vector(k).mul_(t)
    del ritz  # its memory is needed
    first, second = forms(direction)
    return first + second, residual, settled


def _warm_start(space: ParameterSpace, t: Tensor, cotangent: Tensor, generator: torch.Generator) -> Tensor:
    """T Gᵀc with a trace of noise, which keeps any eigenvector from being orthogonal to it, hence from being missed.

    Where the softmax is saturated to the last digit, noise is all there is.
    """
    noise = space.random_vector(generator).mul_(t)
    start = space.pull_back(cotangent).mul_(t)
    start = start.div_(start.norm()).add_(noise.div_(noise.norm()), alpha=_NOISE) if start.any() else noise
    if not start.isfinite().all() or not start.any():
        raise OverflowError("the weights are so large that their norm is not finite")
    return start


def _spectrum(size: int, ritz: Ritz, runs: list[Ritz], trace: float, trace_stderr: float, tolerance: float) -> Spectrum:
    largest = float(ritz.values.abs().max())
    settled = [k for k in range(len(ritz.values)) if float(ritz.residuals[k]) <= tolerance * largest]
    ends = [k for k in settled if _at_end(k, settled, len(ritz.values))] or [len(ritz.values) - 1]
    ends = (
        sorted({0, len(ritz.values) - 1, *ends}, reverse=True)
        if not ritz.exhausted
        else [*range(len(ritz.values))][::-1]
    )
    sums = settled_sums(runs, size)
    rule = ends_converged(tolerance)
    undefined = largest == 0
    return Spectrum(
        operator="H = (1/n) Σ ∇²_θ ℓ_i",
        kind="eigenvalues",
        dimension=size,
        values=tuple(float(ritz.values[k]) for k in ends),
        residuals=tuple(float(ritz.residuals[k]) for k in ends),
        exact=False,
        entropy=None if undefined else sums.entropy,
        normalized_entropy=None if undefined or size < 2 else sums.entropy / math.log(size),
        effective_rank=None if undefined else math.exp(sums.entropy),
        stable_rank=None if undefined else sums.squares / largest**2,
        condition=None,
        trace=trace,
        frobenius=math.sqrt(sums.squares),
        trace_stderr=trace_stderr,
        entropy_stderr=0.0 if undefined else sums.entropy_stderr,
        density=None if undefined else density(quadratures(runs)),
        status="undefined" if undefined else "ok" if ritz.exhausted or rule(ritz) else "unconverged",
    )


def _at_end(k: int, settled: list[int], count: int) -> bool:
    """True for a settled value with only settled ones between it and one end of the spectrum."""
    return all(j in settled for j in range(k)) or all(j in settled for j in range(k, count))


def _findings(spectrum: Spectrum, settled: bool, tolerance: float) -> tuple[Finding, ...]:
    out = []
    if spectrum.status == "unconverged":
        out.append(
            Finding(
                "hessian.unconverged",
                "warning",
                f"an end of the Hessian's spectrum is not known to {tolerance:g} after {_MAX_STEPS} products: "
                "read it with its residual",
            )
        )
    if not settled:
        out.append(
            Finding(
                "curvature.unconverged", "warning", f"the worst curvature is not known to {tolerance:g}: a lower bound"
            )
        )
    return tuple(out)
