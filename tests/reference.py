"""Every figure of the audit, computed the plainest way: dense matrices in float64, one sample and one output at a time.

It shares no code with the package: it is the judge of it. Slow on purpose, and only for models of a few hundred
parameters.
"""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.attention import SDPBackend, sdpa_kernel


@dataclass(frozen=True)
class Tensors:
    """One parameter tensor: its slice of the flattened parameters, and its share of tr(Θ) in the three scalings."""

    name: str
    shape: tuple[int, ...]
    where: slice
    norm: float
    share: float
    share_worst: float
    share_typical: float


@dataclass(frozen=True)
class Raw:
    """The operators without output basis and scales: all C outputs, all parameters."""

    jacobian: float
    parameter_jacobian: float
    ntk: float
    ntk_trace: float
    hessian: float


@dataclass(frozen=True)
class Reference:
    """All figures of one model on one probe set; axes are `nan` where the output scale M is zero.

    Shapes: `f` (n, C), `Q` (C, C'), `J` (n, C', d), `G` (n, C', p), `S` (n, C', C') the loss's output Hessian, `H`
    (p, p), `T` and `tau` (p,), `saliency` (n, d) and `A` (n, d, d) of the explained output. Eigenvalues descend.
    """

    f: Tensor
    loss: float
    accuracy: float | None
    gradient_norm: float
    X: float
    M: float
    Q: Tensor
    J: Tensor
    G: Tensor
    S: Tensor
    T: Tensor
    tau: Tensor
    H: Tensor
    ntk: Tensor
    gauss_newton: Tensor
    hessian: Tensor
    hessian_worst: Tensor
    hessian_typical_trace: float
    input: tuple[float, float]
    weights: tuple[float, float]
    kernel: tuple[float, float]
    curvature: tuple[float, float]
    gmsi: tuple[float, float]
    raw: Raw
    tensors: tuple[Tensors, ...]
    saliency: Tensor
    A: Tensor


def reference(model: nn.Module, x: Tensor, y: Tensor, loss: str) -> Reference:
    """Measure `model` (left untouched) on x (n, ...) and y with loss `cross_entropy`, `bce` or `mse`."""
    model = copy.deepcopy(model).double().eval().requires_grad_(True)
    x, y = x.double(), y.double() if loss != "cross_entropy" else y
    n, d = len(x), x[0].numel()
    with sdpa_kernel(SDPBackend.MATH):  # the other attention kernels cannot be differentiated twice
        f, Jall, Gall = jacobians(model, x)
        H, gradient, value = loss_hessian(model, x, y, loss)
        saliency, A = explained_output(model, x, f.argmax(dim=1))
    Q = output_basis(f.shape[1], loss)
    J, G, S = Q.T @ Jall, Q.T @ Gall, Q.T @ output_hessian(f, loss) @ Q
    X = rms((x - x.mean(dim=0)).flatten(1).norm(dim=1))
    M = output_scale(f, loss)
    named = list(model.named_parameters())
    T, tau = parameter_scales(named)
    worst_H = T[:, None] * H * T
    typical_trace = (tau * H.diagonal() * tau).sum().item()
    eigH, eigTHT = descending(H), descending(worst_H)

    input_axis = (
        ratio(q95(spectral(J)) * X, M),
        ratio(rms(frobenius(J)) * X, math.sqrt(d) * M),
    )
    weights_axis = (ratio(q95(spectral(G * T)), M), ratio(rms(frobenius(G * tau)), M))
    kernel_axis = tuple(ratio(math.sqrt(kernel_eigenvalues(G * scale)[0].clamp(min=0)), M) for scale in (T, tau))
    curvature_axis = (math.sqrt(eigTHT.abs().max().item()), math.sqrt(max(0.0, typical_trace)))
    axes = (input_axis, weights_axis, kernel_axis, curvature_axis)
    return Reference(
        f=f,
        loss=value,
        accuracy=accuracy(f, y, loss),
        gradient_norm=gradient.norm().item(),
        X=X,
        M=M,
        Q=Q,
        J=J,
        G=G,
        S=S,
        T=T,
        tau=tau,
        H=H,
        ntk=kernel_eigenvalues(G),
        gauss_newton=descending(sum(Gi.T @ Si @ Gi for Gi, Si in zip(G, S, strict=True)) / n),
        hessian=eigH,
        hessian_worst=eigTHT,
        hessian_typical_trace=typical_trace,
        input=input_axis,
        weights=weights_axis,
        kernel=(kernel_axis[0], kernel_axis[1]),
        curvature=curvature_axis,
        gmsi=(math.sqrt(sum(a[0] ** 2 for a in axes)), math.sqrt(sum(a[1] ** 2 for a in axes))),
        raw=raw_figures(Jall, Gall, eigH),
        tensors=tensor_shares(named, G, T, tau),
        saliency=saliency,
        A=A,
    )


# ---- derivatives --------------------------------------------------------------------------------------------------


def outputs(model: nn.Module, x: Tensor) -> Tensor:
    """f (n, C): a model that returns (n,) has one output."""
    return model(x).reshape(len(x), -1)


def jacobians(model: nn.Module, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """f (n, C), ∂f/∂x (n, C, d) and ∂f/∂θ (n, C, p): a parameter that does not reach the output has derivative 0."""
    parameters = list(model.parameters())
    f, J, G = [], [], []
    for sample in x:
        xi = sample[None].clone().requires_grad_(True)
        fi = outputs(model, xi)[0]
        rows_J, rows_G = [], []
        for output in fi:
            dx, *dtheta = torch.autograd.grad(output, [xi, *parameters], retain_graph=True, materialize_grads=True)
            rows_J.append(dx.flatten())
            rows_G.append(flat(dtheta))
        f.append(fi.detach())
        J.append(torch.stack(rows_J))
        G.append(torch.stack(rows_G))
    return torch.stack(f), torch.stack(J), torch.stack(G)


def loss_hessian(model: nn.Module, x: Tensor, y: Tensor, loss: str) -> tuple[Tensor, Tensor, float]:
    """∇²_θ L (p, p), ∇_θ L (p,) and L: the mean loss over the whole probe set."""
    parameters = list(model.parameters())
    value = mean_loss(outputs(model, x), y, loss)
    gradient = flat(torch.autograd.grad(value, parameters, create_graph=True, materialize_grads=True))
    rows = [flat(torch.autograd.grad(g, parameters, retain_graph=True, materialize_grads=True)) for g in gradient]
    return torch.stack(rows), gradient.detach(), value.item()


def explained_output(model: nn.Module, x: Tensor, which: Tensor) -> tuple[Tensor, Tensor]:
    """∇_x f_c (n, d) and ∇²_x f_c (n, d, d) of the output c = which[i] of every sample."""
    gradients, hessians = [], []
    for sample, c in zip(x, which.tolist(), strict=True):
        xi = sample[None].clone().requires_grad_(True)
        (g,) = torch.autograd.grad(outputs(model, xi)[0, c], xi, create_graph=True, materialize_grads=True)
        g = g.flatten() + 0 * xi.flatten()  # a linear output's gradient is a constant: keep it differentiable
        rows = [torch.autograd.grad(gk, xi, retain_graph=True)[0].flatten() for gk in g]
        gradients.append(g.detach())
        hessians.append(torch.stack(rows))
    return torch.stack(gradients), torch.stack(hessians)


# ---- the loss -----------------------------------------------------------------------------------------------------


def mean_loss(f: Tensor, y: Tensor, loss: str) -> Tensor:
    """torch's own means: over samples, and for mse over outputs too."""
    if loss == "cross_entropy":
        return functional.cross_entropy(f, y)
    if loss == "bce":
        return functional.binary_cross_entropy_with_logits(f[:, 0], y.reshape(-1))
    return functional.mse_loss(f, y.reshape(f.shape))


def output_hessian(f: Tensor, loss: str) -> Tensor:
    """∇²_f ℓ (n, C, C): diag(p) − ppᵀ, p(1 − p), or (2/C) I."""
    n, C = f.shape
    if loss == "cross_entropy":
        p = f.softmax(dim=1)
        return torch.diag_embed(p) - p[:, :, None] * p[:, None, :]
    if loss == "bce":
        p = f.sigmoid()
        return (p * (1 - p))[:, :, None]
    return (2 / C * torch.eye(C, dtype=f.dtype)).expand(n, C, C)


def output_basis(C: int, loss: str) -> Tensor:
    """Q (C, C'): orthonormal columns orthogonal to (1, ..., 1) under softmax, else the identity."""
    if loss != "cross_entropy":
        return torch.eye(C, dtype=torch.float64)
    centring = torch.eye(C, dtype=torch.float64) - 1 / C
    return torch.linalg.svd(centring).U[:, : C - 1]


def output_scale(f: Tensor, loss: str) -> float:
    """M: median margin over √2, median |logit|, or the rms distance of the outputs from their mean."""
    if loss == "cross_entropy":
        top = f.sort(dim=1, descending=True).values
        return float(np.median((top[:, 0] - top[:, 1]).numpy())) / math.sqrt(2)
    if loss == "bce":
        return float(np.median(f.abs().numpy()))
    return rms((f - f.mean(dim=0)).norm(dim=1))


def accuracy(f: Tensor, y: Tensor, loss: str) -> float | None:
    """Share of right decisions, or nothing for a regression."""
    if loss == "mse":
        return None
    decision = f.argmax(dim=1) if loss == "cross_entropy" else (f[:, 0] > 0).long()
    return (decision == y.reshape(-1)).double().mean().item()


# ---- parameters ---------------------------------------------------------------------------------------------------


def parameter_scales(named: list[tuple[str, nn.Parameter]]) -> tuple[Tensor, Tensor]:
    """T and τ as vectors over the flattened parameters: ‖θ_l‖_F, and that over √entries; 0 below two axes."""
    T, tau = [], []
    for _, parameter in named:
        norm = parameter.detach().norm().item() if parameter.ndim >= 2 else 0.0
        ones = torch.ones(parameter.numel(), dtype=torch.float64)
        T.append(norm * ones)
        tau.append(norm / math.sqrt(parameter.numel()) * ones)
    return torch.cat(T), torch.cat(tau)


def tensor_shares(named: list[tuple[str, nn.Parameter]], G: Tensor, T: Tensor, tau: Tensor) -> tuple[Tensors, ...]:
    """tr(Θ of that tensor)/tr(Θ) for every tensor, raw and scaled by T and τ."""
    totals = [(G * scale).square().sum() for scale in (1.0, T, tau)]
    found, start = [], 0
    for name, parameter in named:
        where = slice(start, start + parameter.numel())
        parts = [(G * scale)[:, :, where].square().sum() for scale in (1.0, T, tau)]
        shares = [(part / total).item() for part, total in zip(parts, totals, strict=True)]
        found.append(Tensors(name, tuple(parameter.shape), where, parameter.detach().norm().item(), *shares))
        start = where.stop
    return tuple(found)


def raw_figures(J: Tensor, G: Tensor, hessian: Tensor) -> Raw:
    """Means of ‖∂f/∂x‖₂ and ‖∂f/∂θ‖₂; λmax over n of the full kernel and of K_ij = tr(G_i G_jᵀ); ‖H‖₂."""
    n = len(J)
    trace_style = torch.einsum("icp,jcp->ij", G, G)
    return Raw(
        jacobian=spectral(J).mean().item(),
        parameter_jacobian=spectral(G).mean().item(),
        ntk=kernel_eigenvalues(G)[0].item(),
        ntk_trace=descending(trace_style)[0].item() / n,
        hessian=hessian.abs().max().item(),
    )


# ---- small words --------------------------------------------------------------------------------------------------


def kernel_eigenvalues(G: Tensor) -> Tensor:
    """All nC' eigenvalues of Θ = [G_i G_jᵀ]/n, descending."""
    rows = G.flatten(0, 1)
    return descending(rows @ rows.T / len(G))


def descending(symmetric: Tensor) -> Tensor:
    """Eigenvalues, largest first."""
    return torch.linalg.eigvalsh((symmetric + symmetric.T) / 2).flip(0)


def spectral(matrices: Tensor) -> Tensor:
    """‖·‖₂ of each."""
    return torch.linalg.matrix_norm(matrices, 2)


def frobenius(matrices: Tensor) -> Tensor:
    """‖·‖_F of each."""
    return torch.linalg.matrix_norm(matrices)


def flat(tensors: list[Tensor] | tuple[Tensor, ...]) -> Tensor:
    """All entries in one vector."""
    return torch.cat([t.reshape(-1) for t in tensors])


def rms(values: Tensor) -> float:
    """Root mean square."""
    return values.square().mean().sqrt().item()


def q95(values: Tensor) -> float:
    """The 95 % quantile, linear between order statistics."""
    return float(np.quantile(values.numpy(), 0.95))


def ratio(numerator: float, denominator: float) -> float:
    """A quotient that is `nan` where it is undefined."""
    return numerator / denominator if denominator > 0 else math.nan


def spectrum_measures(squares: Tensor) -> tuple[float, float, float]:
    """Entropy, effective rank and stable rank of a spectrum given as its σ² (or eigenvalues λ = σ²)."""
    squares = squares.clamp(min=0)
    p = squares / squares.sum()
    entropy = -torch.special.xlogy(p, p).sum().item()
    return entropy, math.exp(entropy), (squares.sum() / squares.max()).item()
