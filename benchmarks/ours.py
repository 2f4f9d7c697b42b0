"""Every call into spectral-audit that a benchmark makes. `study` is timed; making the subject is not."""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from typing import Any

import torch

from benchmarks.core import Outcome, Problem, Run
from benchmarks.peers_attribution import SEED


def _need(module: str, name: str) -> Any:
    """An attribute of the package, or an error that says which one this version lacks."""
    found = getattr(importlib.import_module(f"spectral_audit.{module}"), name, None)
    if found is None:
        raise AttributeError(f"this spectral-audit has no {module}.{name}, which the benchmark calls")
    return found


def _subject(p: Problem) -> Any:
    return _need("admission", "make_subject")(p.model, p.x, p.y, loss="cross_entropy")


def ntk(p: Problem) -> Run:
    """The (nC, nC) kernel of all outputs, turned to the basis of the raw outputs once the clock has stopped."""
    subject, study, raw = _subject(p), _need("sweep", "study"), _need("sweep", "raw_kernel")

    def run() -> Any:
        plan = study(subject, torch.Generator().manual_seed(p.seed))
        kernel = raw(subject, plan, subject.outputs)
        return lambda: Outcome(_raw_outputs(kernel, subject.basis.double(), subject.n))

    return run


def ntk_in_basis(p: Problem) -> Run:
    """The (nC', nC') kernel of the axes, in the basis of the mean-free outputs, C' = C − 1."""
    subject, study, kernel = _subject(p), _need("sweep", "study"), _need("lenses.standalone", "ntk")

    def run() -> Any:
        found = kernel(subject, study(subject, torch.Generator().manual_seed(p.seed)))
        return lambda: Outcome(Projected(found, subject.basis.double()[:, : subject.rank]))

    return run


@dataclass(frozen=True)
class Projected:
    """A kernel of outputs in the columns of `basis` (C, C'): Qᵀ of every (C, C) block times Q."""

    kernel: torch.Tensor
    basis: torch.Tensor

    def project(self, kernel: torch.Tensor) -> torch.Tensor:
        """The same of a kernel of the raw outputs."""
        c, rank = self.basis.shape
        n = len(kernel) // c
        turned = torch.einsum("ck,icjd,dl->ikjl", self.basis, kernel.double().view(n, c, n, c), self.basis)
        return turned.reshape(n * rank, n * rank)


def _raw_outputs(kernel: torch.Tensor, basis: torch.Tensor, n: int) -> torch.Tensor:
    c = len(basis)
    turned = torch.einsum("ck,ikjl,dl->icjd", basis, kernel.double().view(n, c, n, c), basis)
    return turned.reshape(n * c, n * c)


def jacobian(p: Problem) -> Run:
    """Singular values (n, C−1) of Qᵀ∂f/∂x."""
    subject, values = _subject(p), _need("lenses.standalone", "input_spectra")

    def run() -> Any:
        found = values(subject)
        return lambda: Outcome(found.double())

    return run


def max_sensitivity(p: Problem) -> Run:
    """max-sensitivity (n,) of |∇f_c| by captum's definition, for the predicted classes."""
    lens = importlib.import_module("spectral_audit.lenses.attribution")
    subject = _need("admission", "make_subject")(p.model, p.x, None, loss="cross_entropy")
    settings = lens.AttributionSettings(target="label")  # the predicted ones: no labels were given

    def run() -> Any:
        found = lens.max_sensitivity(subject, "captum", settings=settings, seed=SEED + p.seed)
        return lambda: Outcome(found.double())

    return run


def top_eigenvalues(p: Problem) -> Run:
    """The five largest eigenvalues of the Hessian to 1e-3."""
    subject, function = _subject(p), _need("lenses.standalone", "top_eigenvalues")

    def run() -> Any:
        found = function(subject, count=5, tolerance=1e-3, generator=torch.Generator().manual_seed(p.seed))
        values = torch.as_tensor(found.values, dtype=torch.float64)
        return lambda: Outcome({"values": values, "by": "LA"}, {"products": found.products})

    return run


def trace(p: Problem) -> Run:
    """The trace of the Hessian with its standard error."""
    subject, study, function = _subject(p), _need("sweep", "study"), _need("lenses.standalone", "hessian_trace")

    def run() -> Any:
        generator = torch.Generator().manual_seed(p.seed)
        found = function(subject, study(subject, generator), generator=generator)
        return lambda: Outcome(float(found.trace), {"stderr": float(found.stderr)})

    return run


def density(p: Problem, steps: int) -> Run:
    """Nodes and weights of one probe's quadrature."""
    subject, function = _subject(p), _need("lenses.standalone", "hessian_density")

    def run() -> Any:
        found = function(subject, steps=steps, probes=1, generator=torch.Generator().manual_seed(p.seed))
        nodes = torch.cat([run.nodes for run in found.runs])
        weights = torch.cat([run.weights for run in found.runs]) / len(found.runs)
        return lambda: Outcome({"nodes": nodes, "weights": weights}, {"products": found.products})

    return run


def score(p: Problem) -> Run:
    """The whole measurement: four spectra, the index, attributions and intervals."""
    measure = _need("measure", "measure")

    def run() -> Any:
        cost = measure(p.model, p.x, p.y, loss="cross_entropy").cost
        facts = {
            "backward passes": cost.backward_passes,
            "products": cost.hessian_products,
            "gradients": cost.attribution_gradients,
            **{f"stage {name}": seconds for name, seconds in cost.stages.items()},
        }
        return lambda: Outcome(None, facts)

    return run
