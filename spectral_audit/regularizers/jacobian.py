"""Penalties on the input Jacobian J_i = ∂f/∂x at x_i: they act on the axis `input`.

`softmax=True` takes the Jacobian of the mean-zero part of the outputs, as the audit does for classifiers.
"""

from __future__ import annotations

import torch
from torch import Tensor

from spectral_audit.regularizers.pulling import centred, gaussian, pull_back, unit


def jacobian_frobenius(
    outputs: Tensor,
    x: Tensor,
    *,
    generator: torch.Generator | None = None,
    projections: int = 1,
    softmax: bool = False,
) -> Tensor:
    """An unbiased estimate of mean_i ‖J_i‖_F² from random projections of the outputs.

    For v uniform on the unit sphere of ℝ^C, E‖Jᵀv‖² = ‖J‖_F²/C. One backward pass per projection, besides that of the
    training step through it. Source: Hoffman, Roberts, Yaida 2019, arXiv 1908.02729.

        outputs = model(x.requires_grad_())
        (loss(outputs, y) + 0.01 * jacobian_frobenius(outputs, x, softmax=True)).backward()
    """
    flat = outputs.flatten(1)
    rank = flat.shape[1] - softmax
    values = []
    for _ in range(projections):
        v = gaussian(flat.shape, flat, generator)
        pulled = pull_back(outputs, x, unit(centred(v) if softmax else v))
        values.append(rank * pulled.square().sum(1).mean())
    return torch.stack(values).mean()


def random_directions(samples: int, outputs: int, *, generator: torch.Generator | None = None) -> Tensor:
    """Random unit vectors (samples, outputs): what `jacobian_spectral` starts from."""
    return unit(torch.randn(samples, outputs, generator=generator))


def jacobian_spectral(
    outputs: Tensor, x: Tensor, directions: Tensor, *, steps: int = 1, softmax: bool = False
) -> tuple[Tensor, Tensor]:
    """mean_i ‖J_iᵀu_i‖² and the directions u (n, C) after `steps` power steps u ← JJᵀu/‖JJᵀu‖.

    At most mean_i ‖J_i‖₂², and equal to it once the steps have converged. The directions are the state: keep one for
    every training sample, and each epoch goes on where the last one stopped. u is held fixed in the gradient, which is
    exact at convergence. Two backward passes per step and one more, besides that of the training step. Source:
    Yoshida, Miyato 2017 (arXiv 1705.10941) for weights; for Jacobians the same iteration through autograd.

        value, new = jacobian_spectral(model(x.requires_grad_()), x, directions[index], softmax=True)
        directions[index] = new
    """
    u = directions.to(outputs)
    u = unit(centred(u) if softmax else u)
    for _ in range(steps):
        probe = u.detach().requires_grad_()
        pulled = pull_back(outputs, x, probe)
        (pushed,) = torch.autograd.grad(pulled, probe, pulled.detach(), retain_graph=True)
        pushed = unit(centred(pushed) if softmax else pushed)
        # Where the Jacobian is zero there is no direction to follow: the old one stays for the next time.
        u = torch.where(pushed.any(1, keepdim=True), pushed, u)
    return pull_back(outputs, x, u.detach()).square().sum(1).mean(), u.detach()


def jacobian_entropy(outputs: Tensor, x: Tensor, *, softmax: bool = False) -> Tensor:
    """The mean spectral entropy of J_i in nats: −Σ p_k log p_k, p_k = σ_k²/Σσ².

    Added to a loss it concentrates the spectrum, subtracted it evens it out, at the same ‖J‖_F; neither is better by
    itself. A zero Jacobian counts as 0. C backward passes, besides those of the training step. Source: Roy, Vetterli
    2007 (effective rank).

        outputs = model(x.requires_grad_())
        (loss(outputs, y) - 0.01 * jacobian_entropy(outputs, x, softmax=True)).backward()
    """
    flat = outputs.flatten(1)
    n, c = flat.shape
    units = torch.eye(c, dtype=flat.dtype, device=flat.device)
    units = centred(units) if softmax else units
    rows = torch.stack([pull_back(outputs, x, unit_k.expand(n, c)) for unit_k in units], 1)
    # Mean-zero cotangents leave one zero eigenvalue, the smallest, which is none of the C − 1 that count.
    return gram_entropy(rows @ rows.mT)[:, int(softmax) :].sum(1).mean()


def gram_entropy(gram: Tensor) -> Tensor:
    """−p_k log p_k of the eigenvalues of Gram matrices (n, r, r), ascending: p_k = λ_k/Σλ.

    Those below the rounding level of their sum count as zero.
    """
    values = torch.linalg.eigvalsh(gram)
    info = torch.finfo(values.dtype)
    shares = values / values.sum(-1, keepdim=True).clamp_min(info.tiny)
    return torch.where(shares > info.eps, torch.special.entr(shares.clamp_min(info.eps)), 0.0)
