"""The Hessian's top eigenvalues, trace and density by hessian-eigenthings, curvlinops with SciPy, and PyHessian."""

from __future__ import annotations

import importlib
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.core import Outcome, Problem, Run

SAMPLES = 99  # products for a stochastic trace: a multiple of three, which Hutch++ asks for


def _eigenthings(p: Problem, batch: int) -> Any:
    from hessian_eigenthings import HessianOperator, supervised_loss

    return HessianOperator(p.model, p.batches(batch), supervised_loss(nn.functional.cross_entropy))


def _curvlinops(p: Problem, batch: int) -> Any:
    from curvlinops import HessianLinearOperator

    parameters = list(p.model.parameters())
    loss = nn.CrossEntropyLoss()
    return HessianLinearOperator(
        p.model, loss, parameters, p.batches(batch), check_deterministic=False, num_data=len(p.x)
    )


def _pyhessian(p: Problem, batch: int) -> Any:
    """PyHessian's object: over one batch, whose graph it retains, or over a loader of smaller ones."""
    from pyhessian import hessian

    loss = nn.CrossEntropyLoss()
    if batch >= len(p.x):
        return hessian(p.model, loss, data=(p.x, p.y), cuda=False)
    return hessian(p.model, loss, dataloader=p.batches(batch), cuda=False)


def eigenthings_top(p: Problem, batch: int, steps: int | None) -> Run:
    """Lanczos for five values; `None` steps: as many as the package takes by itself.

    Reorthogonalisation is asked for: beyond 50 steps it is off by default, and copies of found values appear.
    """
    from hessian_eigenthings import lanczos

    def run() -> Any:
        found = lanczos(_eigenthings(p, batch), k=5, max_iter=steps, which="LA", reorthogonalize=True, seed=p.seed)
        value = {"values": found.eigenvalues.double(), "by": "LA"}
        return lambda: Outcome(value, {"products": found.iterations})

    return run


def curvlinops_top(p: Problem, batch: int, tolerance: float) -> Run:
    """SciPy's eigsh (ARPACK) on curvlinops' operator."""
    import numpy as np
    from scipy.sparse.linalg import LinearOperator, eigsh

    def run() -> Any:
        hessian = _curvlinops(p, batch).to_scipy()
        count = 0

        def matvec(v: Any) -> Any:
            nonlocal count
            count += 1
            return hessian.matvec(v)

        operator = LinearOperator(hessian.shape, matvec=matvec, dtype=np.float64)
        start = np.random.default_rng(p.seed).standard_normal(hessian.shape[0])
        values = eigsh(operator, k=5, which="LA", tol=tolerance, v0=start, return_eigenvectors=False)
        value = {"values": torch.from_numpy(values.copy()).sort(descending=True).values, "by": "LA"}
        return lambda: Outcome(value, {"products": count})

    return run


def pyhessian_top(p: Problem, batch: int) -> Run:
    """Power iteration with deflation, tolerance 1e-3: it finds the values of largest modulus."""
    module: Any = importlib.import_module("pyhessian.hessian")  # the package hides it behind a class
    torch.manual_seed(p.seed)
    count = 0
    plain, over_loader = module.hessian_vector_product, module.hessian.dataloader_hv_product

    def counted(inner: Any) -> Any:
        def product(*arguments: Any) -> Any:
            nonlocal count
            count += 1
            return inner(*arguments)

        return product

    module.hessian_vector_product = counted(plain)
    module.hessian.dataloader_hv_product = counted(over_loader)

    def run() -> Any:
        values, _ = _pyhessian(p, batch).eigenvalues(top_n=5, tol=1e-3)
        value = {"values": torch.tensor(values, dtype=torch.float64), "by": "LM"}
        return lambda: Outcome(value, {"products": count})

    return run


def eigenthings_trace(p: Problem, batch: int, method: str) -> Run:
    """Its `trace`: Hutch++ or Hutchinson."""
    from hessian_eigenthings import trace

    def run() -> Any:
        found = trace(_eigenthings(p, batch), num_matvecs=SAMPLES, method=method, seed=p.seed)
        return lambda: Outcome(found.estimate, {"products": SAMPLES, "stderr": found.stderr})

    return run


def curvlinops_trace(p: Problem, batch: int, method: str, at_once: int) -> Run:
    """Its Hutchinson (`at_once` probes in one vectorised product) or Hutch++ (a third of all probes at once)."""
    from curvlinops import hutchinson_trace, hutchpp_trace

    torch.manual_seed(p.seed)

    def run() -> Any:
        operator = _curvlinops(p, batch)
        if method == "hutch++":
            found = float(hutchpp_trace(operator, SAMPLES))
        else:
            calls = [float(hutchinson_trace(operator, at_once)) for _ in range(SAMPLES // at_once)]
            found = sum(calls) / len(calls)
        return lambda: Outcome(found, {"products": SAMPLES})

    return run


def pyhessian_trace(p: Problem, batch: int) -> Run:
    """Its Monte-Carlo trace with its own stopping rule: until the mean moves by less than 1e-3, at most 100 probes."""
    torch.manual_seed(p.seed)

    def run() -> Any:
        found = _pyhessian(p, batch).trace()
        return lambda: Outcome(sum(found) / len(found), {"products": len(found)})

    return run


def eigenthings_density(p: Problem, batch: int, steps: int) -> Run:
    """Its `spectral_density` with one run; the quadrature behind the smoothed density is compared."""
    from hessian_eigenthings import spectral_density

    def run() -> Any:
        found = spectral_density(_eigenthings(p, batch), num_runs=1, lanczos_steps=steps, seed=p.seed)
        return lambda: Outcome(_quadrature(found.raw_eigenvalues[0], found.raw_weights[0]), {"products": steps})

    return run


def curvlinops_density(p: Problem, batch: int, steps: int) -> Run:
    """Its Lanczos without reorthogonalisation; the search for the spectrum's bounds and the smoothing are spared."""
    from curvlinops.papyan2020traces.spectrum import fast_lanczos

    torch.manual_seed(p.seed)

    def run() -> Any:
        values, vectors = fast_lanczos(_curvlinops(p, batch), steps)
        return lambda: Outcome(_quadrature(values, vectors[0].square()), {"products": steps})

    return run


def pyhessian_density(p: Problem, batch: int, steps: int) -> Run:
    """Its `density`, which calls torch.eig: torch has dropped that, so it is given back for the run."""
    torch.manual_seed(p.seed)

    def eig(matrix: Tensor, eigenvectors: bool = False) -> tuple[Tensor, Tensor]:
        values, vectors = torch.linalg.eigh(matrix)
        return torch.stack([values, torch.zeros_like(values)], 1), vectors

    torch.eig = eig

    def run() -> Any:
        nodes, weights = _pyhessian(p, batch).density(iter=steps, n_v=1)
        value = _quadrature(torch.tensor(nodes[0]), torch.tensor(weights[0]))
        return lambda: Outcome(value, {"products": steps})

    return run


def _quadrature(nodes: Tensor, weights: Tensor) -> dict[str, Tensor]:
    return {"nodes": nodes.double(), "weights": weights.double()}
