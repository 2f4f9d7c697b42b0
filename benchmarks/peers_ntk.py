"""The neural tangent kernel and the input Jacobian by torch.func, plain autograd, BackPACK and NNGeometry."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.func import functional_call, jacrev, jvp, vjp, vmap

from benchmarks.core import CLASSES, Outcome, Problem, Run

Values = Callable[[Tensor], Tensor]


def _parameters(p: Problem) -> dict[str, Tensor]:
    return {k: v.detach() for k, v in p.model.named_parameters()}


def torch_func_ntk(p: Problem, chunk: int) -> Run:
    """vmap(jacrev) in chunks, then one product per parameter tensor: the Jacobian serves both sides."""
    parameters = _parameters(p)

    def single(theta: dict[str, Tensor], one: Tensor) -> Tensor:
        return functional_call(p.model, theta, (one[None],))[0]

    def run() -> Any:
        jacobian = vmap(jacrev(single), (None, 0), chunk_size=chunk)(parameters, p.x)
        kernel = sum(j.flatten(2).flatten(0, 1) @ j.flatten(2).flatten(0, 1).T for j in jacobian.values())
        return lambda: Outcome(kernel.double())

    return run


def torch_func_products(p: Problem, chunk: int) -> Run:
    """NTK-vector products on all nC basis vectors: v ↦ J (Jᵀ v) by vjp and jvp over the batch, `chunk` at a time."""
    parameters = _parameters(p)
    n = len(p.x)

    def outputs(theta: dict[str, Tensor]) -> Tensor:
        return functional_call(p.model, theta, (p.x,)).flatten()

    def run() -> Any:
        _, pull = vjp(outputs, parameters)

        def product(v: Tensor) -> Tensor:
            return jvp(outputs, (parameters,), (pull(v)[0],))[1]

        with torch.no_grad():
            rows = vmap(product, chunk_size=chunk)(torch.eye(n * CLASSES))
        return lambda: Outcome(rows.double(), {"products": n * CLASSES})

    return run


def backpack_ntk(p: Problem) -> Run:
    """One forward pass, then a backward pass with BatchGrad for each output, then one product per parameter tensor."""
    from backpack import backpack, extend
    from backpack.extensions import BatchGrad

    # Residual connections only pass after BackPACK's own conversion of the module.
    model = extend(p.model, use_converter=p.net.startswith("ResNet"))
    model.eval()
    parameters = [q for q in model.parameters() if q.requires_grad]

    def run() -> Any:
        f = model(p.x)
        parts: list[list[Tensor]] = []
        for c in range(CLASSES):
            model.zero_grad()
            with backpack(BatchGrad(), retain_graph=c < CLASSES - 1):
                f[:, c].sum().backward(retain_graph=c < CLASSES - 1)
            parts.append([q.grad_batch.flatten(1) for q in parameters])
            for q in parameters:
                del q.grad_batch
        kernel = torch.zeros(len(p.x) * CLASSES, len(p.x) * CLASSES)
        for columns in zip(*parts, strict=True):
            j = torch.stack(columns, 1).flatten(0, 1)
            kernel += j @ j.T
        return lambda: Outcome(kernel.double())

    return run


def nngeometry_gram(p: Problem, batch: int) -> Run:
    """GramMatrix: layer kernels by hooks, one pair of backward passes for each pair of outputs."""
    from nngeometry.gram import GramMatrix
    from torch.utils.data import DataLoader, TensorDataset

    loader = DataLoader(TensorDataset(p.x, p.y), batch_size=batch)

    def run() -> Any:
        gram = GramMatrix(p.model, loader, function=lambda *d: p.model(d[0])).to_torch()
        return lambda: Outcome(_sample_major(gram))

    return run


def _sample_major(gram: Tensor) -> Tensor:
    """(C, n, C, n) → (nC, nC) with the outputs of a sample side by side."""
    return gram.permute(1, 0, 3, 2).reshape(gram.shape[0] * gram.shape[1], -1).double()


def nngeometry_jacobian(p: Problem, batch: int) -> Run:
    """The dense Jacobian (C, n, p) of NNGeometry, then one product."""
    from nngeometry.jacobian import Jacobian
    from torch.utils.data import DataLoader, TensorDataset

    loader = DataLoader(TensorDataset(p.x, p.y), batch_size=batch)

    def run() -> Any:
        j = Jacobian(p.model, loader, function=lambda *d: p.model(d[0])).to_torch().flatten(0, 1)
        kernel = j @ j.T
        n = len(p.x)
        return lambda: Outcome(_sample_major(kernel.view(CLASSES, n, CLASSES, n)))

    return run


def svd(j: Tensor) -> Tensor:
    """Singular values of (n, C, d) by svdvals."""
    return torch.linalg.svdvals(j)


def gram(j: Tensor) -> Tensor:
    """Singular values of (n, C, d) as roots of the eigenvalues of the small (C, C) products, in float64."""
    j = j.double()
    return torch.linalg.eigvalsh(j @ j.mT).clamp(min=0).sqrt().flip(1)


def torch_func_jacobian(p: Problem, chunk: int, values: Values) -> Run:
    """vmap(jacrev) of single samples in chunks; singular values of the mean-free outputs' Jacobian."""

    def single(one: Tensor) -> Tensor:
        f = p.model(one[None])[0]
        return f - f.mean()

    p.model.requires_grad_(False)

    def run() -> Any:
        found = values(vmap(jacrev(single), chunk_size=chunk)(p.x).flatten(2))
        return lambda: Outcome(found[:, : CLASSES - 1].double())

    return run


def loop_jacobian(p: Problem, batch: int, values: Values) -> Run:
    """A backward pass of Σ_i f_k(x_i) for each output k, `batch` samples at a time."""
    p.model.requires_grad_(False)

    def run() -> Any:
        parts = []
        for part in p.x.split(batch):
            x = part.clone().requires_grad_()
            f = p.model(x)
            f = f - f.mean(1, keepdim=True)
            rows = [torch.autograd.grad(f[:, k].sum(), x, retain_graph=True)[0].flatten(1) for k in range(CLASSES)]
            parts.append(values(torch.stack(rows, 1)))
        found = torch.cat(parts)
        return lambda: Outcome(found[:, : CLASSES - 1].double())

    return run
