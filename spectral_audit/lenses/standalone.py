"""One figure at a time, without an audit: what otherwise takes a library each.

Every function takes a subject (`make_subject`), and its `study` where single layers are told apart.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from spectral_audit.lenses.directional import QuadraticForms
from spectral_audit.lenses.outputspace import OutputFactor
from spectral_audit.lenses.space import HessianProducts, ParameterSpace, parameter_space
from spectral_audit.lenses.traces import DIRECTIONS, probe_error, residual_trace
from spectral_audit.linalg.density import Quadrature, quadratures
from spectral_audit.linalg.lanczos import errors, lanczos, top_converged
from spectral_audit.subject import Subject
from spectral_audit.sweep import Study, gradient_norms, input_singular_values, raw_kernel

# Share of noise in a start: it keeps any eigenvector from being orthogonal to it, hence from being missed.
_NOISE = 0.05
_MAX_STEPS = 200


def ntk(subject: Subject, plan: Study) -> Tensor:
    """The empirical kernel nΘ = [QᵀG_iG_jᵀQ] (nC', nC') float64, rows sample-major, in the output basis Q."""
    return raw_kernel(subject, plan, subject.rank)


def input_spectra(subject: Subject) -> Tensor:
    """Singular values of J_i = Qᵀ∂f/∂x at every sample, (n, min(C', d)) float64, descending."""
    return input_singular_values(subject, subject.basis[:, : subject.rank])


@dataclass(frozen=True)
class Eigenvalues:
    """The largest eigenvalues of a Hessian, descending; a true one lies within each residual.

    `errors` bounds the distance to it more sharply where neighbours are known: min(r, r²/gap). `converged` says that
    every error is within the tolerance asked for.
    """

    values: tuple[float, ...]
    residuals: tuple[float, ...]
    errors: tuple[float, ...]
    products: int
    converged: bool


def top_eigenvalues(
    subject: Subject, *, count: int = 5, tolerance: float = 1e-3, generator: torch.Generator
) -> Eigenvalues:
    """The `count` largest eigenvalues of H, each to an error bound of `tolerance` times itself.

    Lanczos starts from Σ_i G_iᵀS_iα for one random α: the sum over samples stands out along the few directions that
    carry the largest eigenvalues, for the price of one gradient.
    """
    with parameter_space(subject, list(subject.parameters())) as space:
        products = HessianProducts(space)
        rule = top_converged(count, tolerance)
        ritz = lanczos(
            products,
            _coherent_start(space, generator),
            steps=_MAX_STEPS,
            converged=rule,
            wanted=(0, count),
            max_basis=space.max_basis(count + 4),
        )
    order = list(range(len(ritz.values)))[::-1][:count]
    bounds = errors(ritz)
    return Eigenvalues(
        tuple(float(ritz.values[k]) for k in order),
        tuple(float(ritz.residuals[k]) for k in order),
        tuple(float(bounds[k]) for k in order),
        products.count,
        ritz.exhausted or rule(ritz),
    )


def _coherent_start(space: ParameterSpace, generator: torch.Generator) -> Tensor:
    subject = space.subject
    factor = OutputFactor(subject.loss, subject.all_outputs())
    alpha = torch.randn(subject.outputs, generator=generator, dtype=torch.float64).to(subject.x)
    start = space.pull_back(factor.transposed(factor(alpha.expand(subject.n, -1))))
    noise = space.random_vector(generator)
    return start / start.norm() + _NOISE * noise / noise.norm() if start.any() else noise


@dataclass(frozen=True)
class HessianTrace:
    """tr H and its standard error over probes, zero where none were needed."""

    trace: float
    stderr: float


def hessian_trace(subject: Subject, plan: Study, *, generator: torch.Generator) -> HessianTrace:
    """tr H of the mean loss over the probe set.

    The Gauss–Newton part is (1/n) Σ_ik ‖G_iᵀB_iᵀe_k‖² with S_i = B_iᵀB_i the loss's output Hessian: C backward passes.
    """
    factor, c = OutputFactor(subject.loss, subject.all_outputs()), subject.outputs
    units = torch.eye(c, dtype=torch.float64, device=subject.x.device)
    cotangents = torch.stack([factor.transposed(unit.expand(subject.n, c)) for unit in units], 1)
    norms = gradient_norms(subject, plan, cotangents)
    gauss_newton = float(torch.stack(list(norms.parameters.values())).sum(0).mean())
    if plan.multilinear:
        return HessianTrace(gauss_newton, 0.0)
    with parameter_space(subject, [*plan.structured, *plan.generic]) as space:
        rest = residual_trace(
            HessianProducts(space), QuadraticForms(space, DIRECTIONS), subject.x.new_ones(space.size), generator
        )
    return HessianTrace(gauss_newton + float(rest.mean()), probe_error(rest))


@dataclass(frozen=True)
class HessianDensity:
    """Quadratures of the spectrum, one for each probe: tr f(H) ≈ p Σ_k w_k f(λ_k), averaged over probes."""

    runs: tuple[Quadrature, ...]
    products: int


def hessian_density(subject: Subject, *, steps: int, probes: int = 1, generator: torch.Generator) -> HessianDensity:
    """Stochastic Lanczos quadrature of H with `steps` nodes for each of `probes` random starts."""
    with parameter_space(subject, list(subject.parameters())) as space:
        products = HessianProducts(space)
        runs = [lanczos(products, space.random_vector(generator), steps=steps) for _ in range(probes)]
        return HessianDensity(tuple(quadratures(runs)), products.count)
