"""References in float64, each by the plainest way: per-sample Jacobians of torch.func, Hessian products of autograd."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call, jacrev, vmap

from benchmarks.core import CLASSES, Problem

CHUNK = 16
Product = Callable[[Tensor], Tensor]


class Gates(nn.Module):
    """A ReLU whose gates are given: x ↦ x · gate."""

    gate: Tensor

    def __init__(self, gate: Tensor) -> None:
        super().__init__()
        self.register_buffer("gate", gate)

    def forward(self, x: Tensor) -> Tensor:
        return x * self.gate


def double(p: Problem, gates: bool = False) -> tuple[nn.Module, Tensor, dict[str, Tensor]]:
    """The net and its inputs in float64, and per-sample buffers: the float32 run's ReLU gates, if `gates`."""
    model, held = p.model, {}
    if gates:
        held = {f"{name}.gate": gate.double()[:, None] for name, gate in _record(model, p.x).items()}
        for name in held:
            model.set_submodule(name.removesuffix(".gate"), Gates(held[name][0]))
    return model.double(), p.x.double(), held


def _record(model: nn.Module, x: Tensor) -> dict[str, Tensor]:
    """Which units of every ReLU are open, by module name, in one float32 forward pass over all samples."""
    found: dict[str, Tensor] = {}
    hooks = [
        module.register_forward_hook(lambda _m, _i, out, name=name: found.__setitem__(name, out > 0))
        for name, module in model.named_modules()
        if isinstance(module, nn.ReLU)
    ]
    with torch.no_grad():
        model(x)
    for hook in hooks:
        hook.remove()
    return found


def weight_jacobians(p: Problem, gates: bool = False) -> Iterator[tuple[slice, dict[str, Tensor]]]:
    """∂f/∂θ in float64 by parameter, (m, C, *shape), for chunks of m samples."""
    model, x, held = double(p, gates)
    parameters = {k: v.detach() for k, v in model.named_parameters()}

    def single(theta: dict[str, Tensor], one: Tensor, own: dict[str, Tensor]) -> Tensor:
        return functional_call(model, {**theta, **own}, (one[None],))[0]

    each = vmap(jacrev(single), (None, 0, 0))
    for first in range(0, len(x), CHUNK):
        where = slice(first, first + CHUNK)
        yield where, each(parameters, x[where], {k: v[where] for k, v in held.items()})


def kernel(p: Problem, gates: bool = False) -> Tensor:
    """The neural tangent kernel (nC, nC)."""
    total, rows = 0, list(weight_jacobians(p, gates))
    for name in rows[0][1]:
        j = torch.cat([part[name].flatten(2) for _, part in rows]).flatten(0, 1)
        total = total + j @ j.T
    return total


def input_singular_values(p: Problem, gates: bool = False) -> Tensor:
    """Singular values (n, C−1) of the input Jacobian of the mean-free outputs."""
    model, x, held = double(p, gates)

    def single(one: Tensor, own: dict[str, Tensor]) -> Tensor:
        return functional_call(model, own, (one[None],))[0]

    j = vmap(jacrev(single), chunk_size=CHUNK)(x, held).flatten(2)
    return torch.linalg.svdvals(j - j.mean(1, keepdim=True))[:, : CLASSES - 1]


def gauss_newton_trace(p: Problem) -> Tensor:
    """tr H = mean_i tr(G_iᵀ S_i G_i), S_i = diag(p_i) − p_i p_iᵀ, which holds for piecewise-linear nets."""
    total = torch.zeros((), dtype=torch.float64)
    for where, jacobian in weight_jacobians(p):
        with torch.no_grad():
            prob = p.model(p.x[where].double()).softmax(1)
        s = torch.diag_embed(prob) - prob[:, :, None] * prob[:, None]
        for j in jacobian.values():
            total += torch.einsum("icp,idp,icd->", j.flatten(2), j.flatten(2), s)
    return total / len(p.x)


def products(p: Problem, dtype: torch.dtype, batch: int = 64) -> tuple[Product, int]:
    """v ↦ Hv over all samples by double backward through retained graphs, and the number of parameters."""
    model = p.model.to(dtype)
    chosen, graphs = list(model.parameters()), []
    for x, y in p.batches(batch):
        loss = nn.functional.cross_entropy(model(x.to(dtype)), y, reduction="sum") / len(p.x)
        graphs.append(torch.autograd.grad(loss, chosen, create_graph=True))
    sizes = [c.numel() for c in chosen]

    def product(v: Tensor) -> Tensor:
        pieces = [piece.view_as(c) for piece, c in zip(v.to(dtype).split(sizes), chosen, strict=True)]
        parts = [torch.autograd.grad(g, chosen, pieces, retain_graph=True) for g in graphs]
        return torch.stack([torch.cat([h.flatten() for h in part]) for part in parts]).sum(0).double()

    return product, sum(sizes)


def top_eigenvalues(p: Problem) -> dict[str, Tensor]:
    """The five largest eigenvalues (LA) and the five of largest modulus (LM), descending in their own sense."""
    from scipy.sparse.linalg import LinearOperator, eigsh

    product, size = products(p, torch.float64)
    operator = LinearOperator(
        (size, size), matvec=lambda v: product(torch.from_numpy(v).flatten()).numpy(), dtype=float
    )

    def solve(which: str, count: int) -> Tensor:
        # A residual of 1e-5 leaves errors of its square over the gap in the values.
        return torch.from_numpy(eigsh(operator, k=count, which=which, tol=1e-5, return_eigenvectors=False).copy())

    near = solve("LM", 12)
    positive = near[near > 0].sort(descending=True).values
    largest = positive[:5] if len(positive) >= 5 else solve("LA", 5).sort(descending=True).values
    return {"LA": largest, "LM": near[near.abs().argsort(descending=True)][:5]}


def density(p: Problem, probes: int, steps: int) -> dict[str, Any]:
    """A long stochastic Lanczos quadrature: nodes and weights, and the |λ| below which lies all but 15 outliers."""
    product, size = products(p, torch.float32)
    generator = torch.Generator().manual_seed(12345)
    runs = [_quadrature(product, size, steps, generator) for _ in range(probes)]
    moduli = runs[0][0].abs().sort(descending=True).values
    return {
        "nodes": torch.cat([nodes for nodes, _ in runs]),
        "weights": torch.cat([weights for _, weights in runs]) / probes,
        "cut": float(moduli[14] + moduli[15]) / 2,
    }


def _quadrature(product: Product, size: int, steps: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Lanczos in float64 with full reorthogonalisation from a random start; the Ritz values and their weights."""
    v = torch.randn(size, generator=generator, dtype=torch.float64)
    basis, alpha, beta = [v / v.norm()], [], []
    for _ in range(steps):
        w = product(basis[-1])
        alpha.append(float(w @ basis[-1]))
        q = torch.stack(basis)
        for _twice in range(2):
            w = w - q.T @ (q @ w)
        beta.append(float(w.norm()))
        basis.append(w / beta[-1])
    t = torch.diag(torch.tensor(alpha, dtype=torch.float64))
    off = torch.tensor(beta[:-1], dtype=torch.float64)
    values, vectors = torch.linalg.eigh(t + torch.diag(off, 1) + torch.diag(off, -1))
    return values, vectors[0].square()
