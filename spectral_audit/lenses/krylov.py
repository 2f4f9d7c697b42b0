"""The Krylov regime: the same readings as the exact sweep gives, by products and probes, for any number of outputs.

Extremes come from Lanczos (per sample for J_iJ_iᵀ and G_iT²G_iᵀ, over the whole probe set for the kernels), Frobenius
norms and traces from Rademacher cotangents: E‖G_iᵀQz‖² = ‖G_i‖_F². Probes are drawn anew for every sample, so that
their noise is part of the spread over samples from which the intervals come.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from spectral_audit.lenses.jacobian import JacobianReading
from spectral_audit.lenses.kernel import KernelReading
from spectral_audit.lenses.outputspace import InputProducts, KernelProducts, OutputFactor, WeightProducts
from spectral_audit.lenses.space import ParameterSpace, parameter_space
from spectral_audit.linalg.batched import batched_lanczos
from spectral_audit.linalg.density import Quadrature, spectral_sums
from spectral_audit.linalg.lanczos import Ritz, lanczos
from spectral_audit.results import Spectrum
from spectral_audit.subject import Subject
from spectral_audit.sweep import Study, TensorShare, gradient_norms, relative_scale

_PROBES = 24
_SAMPLE_STEPS = 12
_MAX_STEPS = 48
# Nodes for the entropy of a kernel's spectrum.
_MIN_STEPS = 16
_TOLERANCE = 1e-3

Advance = Callable[[int], None]


@dataclass(frozen=True)
class FirstOrder:
    """What the exact regime reads from its sweep: outputs (n, C) float64, both readings, and every tensor's share."""

    outputs: Tensor
    jacobian: JacobianReading
    kernel: KernelReading
    tensors: tuple[TensorShare, ...]
    passes: int


@dataclass(frozen=True)
class _Traces:
    """Means over probes, per sample (n,): ‖J_i‖_F², ‖G_i‖_F², ‖G_iτ‖_F², tr(S_iG_iG_iᵀ), the same with τ.

    `tensors` are ‖G_i‖_F² (n,) of every tensor; the standard errors are those over probes of the means over
    samples of ‖J_i‖_F², ‖G_i‖_F² and tr(S_iG_iG_iᵀ).
    """

    jacobian: Tensor
    raw: Tensor
    typical: Tensor
    gauss_newton: Tensor
    gauss_newton_typical: Tensor
    tensors: dict[str, Tensor]
    jacobian_stderr: float
    stderr: float
    gauss_newton_stderr: float


def read_krylov(subject: Subject, plan: Study, generator: torch.Generator, advance: Advance) -> FirstOrder:
    """All readings; `advance(1)` is told about every probe, sample and kernel product."""
    outputs = subject.all_outputs()
    q = subject.basis[:, : subject.rank]
    factor = OutputFactor(subject.loss, outputs)
    traces = _traces(subject, plan, q, factor, generator, advance)
    with parameter_space(subject, [*plan.structured, *plan.generic]) as space:
        jacobian = _jacobian(space, q, traces, generator)
        kernel, passes = _kernel(space, q, factor, traces, generator, advance)
    shares = tuple(
        TensorShare(name, tuple(p.shape), "probes", float(p.double().norm()), relative_scale(p), traces.tensors[name])
        for name, p in subject.parameters().items()
        if name in traces.tensors
    )
    return FirstOrder(outputs, jacobian, kernel, shares, passes + 2 * _PROBES)


def _traces(
    subject: Subject, plan: Study, q: Tensor, factor: OutputFactor, generator: torch.Generator, advance: Advance
) -> _Traces:
    parameters = subject.parameters()
    typical = {name: relative_scale(p) ** 2 / p.numel() for name, p in parameters.items()}
    kept: dict[str, list[Tensor]] = {key: [] for key in ("jacobian", "raw", "typical", "gn", "gn_typical")}
    nothing = subject.x.new_zeros(subject.n, dtype=torch.float64)
    tensors = dict.fromkeys((*plan.structured, *plan.generic), nothing)
    for _ in range(_PROBES):
        plain = gradient_norms(subject, plan, (_signs(subject.n, q.shape[1], subject.x, generator) @ q.T)[:, None])
        signs = _signs(subject.n, subject.outputs, subject.x, generator)
        curved = gradient_norms(subject, plan, factor.transposed(signs)[:, None])
        kept["jacobian"].append(plain.input)
        kept["raw"].append(torch.stack(list(plain.parameters.values())).sum(0))
        kept["typical"].append(torch.stack([typical[k] * v for k, v in plain.parameters.items()]).sum(0))
        kept["gn"].append(torch.stack(list(curved.parameters.values())).sum(0))
        kept["gn_typical"].append(torch.stack([typical[k] * v for k, v in curved.parameters.items()]).sum(0))
        for name, norms in plain.parameters.items():
            tensors[name] = tensors[name] + norms.double() / _PROBES
        advance(1)
    stacked = {key: torch.stack(parts) for key, parts in kept.items()}
    stderr = {key: float(rows.mean(1).std()) / math.sqrt(_PROBES) for key, rows in stacked.items()}
    means = {key: rows.mean(0) for key, rows in stacked.items()}
    return _Traces(
        means["jacobian"], means["raw"], means["typical"], means["gn"], means["gn_typical"],
        tensors, stderr["jacobian"], stderr["raw"], stderr["gn"],
    )  # fmt: skip


def _signs(n: int, width: int, like: Tensor, generator: torch.Generator) -> Tensor:
    return torch.randint(0, 2, (n, width), generator=generator).to(like) * 2 - 1


def _unit(n: int, width: int, like: Tensor, generator: torch.Generator) -> Tensor:
    rows = torch.randn(n, width, generator=generator, dtype=torch.float64).to(like)
    return rows / rows.norm(dim=1, keepdim=True)


def _jacobian(space: ParameterSpace, q: Tensor, traces: _Traces, generator: torch.Generator) -> JacobianReading:
    subject = space.subject
    start, start_raw = (_unit(subject.n, c, subject.x, generator) for c in (q.shape[1], subject.outputs))

    def extremes(where: slice) -> tuple[Tensor, Tensor, Tensor]:
        ritz = batched_lanczos(InputProducts(space, where, q), start[where], _SAMPLE_STEPS)
        everything = batched_lanczos(InputProducts(space, where, subject.basis), start_raw[where], _SAMPLE_STEPS)
        return ritz.top.clamp_min(0), ritz.residual, everything.top.clamp_min(0)

    top, residual, raw = subject.over_samples(extremes)
    alive = bool((top > 0).any())
    value = float(top.mean().sqrt())
    spectrum = Spectrum(
        operator="J_i = Qᵀ ∂f/∂x, root mean square over samples",
        kind="singular values",
        dimension=subject.x[0].numel(),
        values=(value,),
        residuals=(float(residual.mean()) / (2 * value) if alive else 0.0,),
        exact=False,
        entropy=None,
        normalized_entropy=None,
        effective_rank=None,
        stable_rank=float((traces.jacobian[top > 0] / top[top > 0]).mean()) if alive else None,
        condition=None,
        trace=float(traces.jacobian.mean()),
        frobenius=float(traces.jacobian.mean().sqrt()),
        trace_stderr=traces.jacobian_stderr,
        status="ok" if alive else "undefined",
    )
    return JacobianReading(top.sqrt(), traces.jacobian, float(raw.sqrt().mean()), spectrum)


def _kernel(
    space: ParameterSpace,
    q: Tensor,
    factor: OutputFactor,
    traces: _Traces,
    generator: torch.Generator,
    advance: Advance,
) -> tuple[KernelReading, int]:
    subject = space.subject
    worst_scale, ones = space.worst_scale(), subject.x.new_ones(space.size)
    weights, raw_norms = _weights(space, q, worst_scale, ones, generator, advance)
    raw = _run(KernelProducts(space, q), generator, advance, steps=_MIN_STEPS)
    start = raw.vector(-1)
    worst = _run(KernelProducts(space, q, scale=worst_scale), generator, advance, start=start)
    typical = _run(KernelProducts(space, q, scale=space.typical_scale()), generator, advance, start=start)
    everything = (start.view(subject.n, -1) @ q.T @ subject.basis).flatten()
    full = _run(KernelProducts(space, subject.basis), generator, advance, start=everything)
    gauss_newton = _run(KernelProducts(space, q, factor=factor), generator, advance, steps=_MIN_STEPS)
    reading = KernelReading(
        weights_worst=weights,
        weights_typical=traces.typical,
        worst=_contributions(worst, subject.n),
        typical=_contributions(typical, subject.n),
        gauss_newton_trace=traces.gauss_newton,
        gauss_newton_trace_typical=traces.gauss_newton_typical,
        top_worst=worst.vector(-1).view(subject.n, -1) @ q.T,
        weights_effective_rank=None,
        raw_parameter_jacobian=raw_norms,
        raw_ntk=float(full.values[-1]),
        raw_ntk_trace=None,
        ntk=_spectrum("Θ = [G_i G_jᵀ]/n", raw, subject.n * q.shape[1], float(traces.raw.mean()), traces.stderr),
        gauss_newton=_spectrum(
            "(1/n) Σ G_iᵀ S_i G_i, through B Θ Bᵀ with S = BᵀB", gauss_newton, subject.n * subject.outputs,
            float(traces.gauss_newton.mean()), traces.gauss_newton_stderr,
        ),
    )  # fmt: skip
    return reading, 2 * sum(run.products for run in (raw, worst, typical, full, gauss_newton))


def _run(
    product: KernelProducts,
    generator: torch.Generator,
    advance: Advance,
    *,
    start: Tensor | None = None,
    steps: int = 2,
) -> Ritz:
    """The top of a kernel to the tolerance, after at least `steps` products."""
    noise = product.random_vector(generator)
    if start is not None:
        noise = start / start.norm() + 0.05 * noise / noise.norm()

    def matvec(u: Tensor) -> Tensor:
        advance(1)
        return product(u)

    def converged(ritz: Ritz) -> bool:
        return len(ritz.values) >= steps and bool(ritz.residuals[-1] <= _TOLERANCE * ritz.values[-1])

    return lanczos(matvec, noise, steps=_MAX_STEPS, converged=converged)


def _weights(
    space: ParameterSpace, q: Tensor, scale: Tensor, ones: Tensor, generator: torch.Generator, advance: Advance
) -> tuple[Tensor, float]:
    """‖G_iT‖₂ (n,), and the mean of the raw ‖∂f/∂θ‖₂."""
    subject = space.subject
    kinds = [(basis, d, _unit(subject.n, basis.shape[1], subject.x, generator))
             for basis, d in ((q, scale), (subject.basis, ones))]  # fmt: skip

    def tops(where: slice) -> list[Tensor]:
        advance(1)
        return [
            batched_lanczos(WeightProducts(space, where.start, basis, d), start[where], _SAMPLE_STEPS).top
            for basis, d, start in kinds
        ]

    relative, raw = (top.clamp_min(0).sqrt() for top in replace(subject, chunk=1).over_samples(tops))
    return relative, float(raw.mean())


def _contributions(ritz: Ritz, n: int) -> Tensor:
    """‖G_iv‖² (n,) at the top direction: nλ‖u_i‖², whose mean is λ."""
    rows = ritz.vector(-1).double().view(n, -1).square().sum(1)
    return n * float(ritz.values[-1].clamp_min(0)) * rows


def _spectrum(operator: str, ritz: Ritz, size: int, trace: float, stderr: float) -> Spectrum:
    top = float(ritz.values[-1])
    settled = [k for k in range(len(ritz.values)) if float(ritz.residuals[k]) <= _TOLERANCE * top]
    head: list[int] = []
    for k in reversed(range(len(ritz.values))):
        if k not in settled and head:
            break
        head.append(k)
    assert ritz.weights is not None  # one start vector, no restart
    sums = spectral_sums([Quadrature(ritz.values.clamp_min(0), ritz.weights)], size)
    alive = top > 0
    return Spectrum(
        operator=operator,
        kind="eigenvalues",
        dimension=size,
        values=tuple(float(ritz.values[k]) for k in head),
        residuals=tuple(float(ritz.residuals[k]) for k in head),
        exact=False,
        entropy=sums.entropy if alive else None,
        normalized_entropy=sums.entropy / math.log(size) if alive and size > 1 else None,
        effective_rank=math.exp(sums.entropy) if alive else None,
        stable_rank=trace / top if alive else None,
        condition=None,
        trace=trace,
        frobenius=math.sqrt(sums.squares),
        trace_stderr=stderr,
        entropy_stderr=sums.entropy_stderr,
        status="undefined" if not alive else "ok" if float(ritz.residuals[-1]) <= _TOLERANCE * top else "unconverged",
    )
