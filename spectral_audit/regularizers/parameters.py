"""Penalties on derivatives with respect to the weights, G_i = ∂f/∂θ at x_i: axes `weights`, `kernel`, `curvature`."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

from spectral_audit.regularizers.pulling import centred, gaussian, pull_to_parameters


def gradient_norm(loss: Tensor, parameters: Iterable[Tensor]) -> Tensor:
    """‖∇_θ L‖² of the batch's loss.

    One backward pass with a graph, besides that of the training step. To first order a step of gradient descent with
    rate η penalises η/4 of it by itself. Source: Barrett, Dherin 2021, arXiv 2009.11162.

        value = loss(model(x), y)
        (value + 0.1 * gradient_norm(value, model.parameters())).backward()
    """
    kept = [p for p in parameters if p.requires_grad]
    found = torch.autograd.grad(loss, kept, create_graph=True, allow_unused=True)
    return torch.stack([gradient.square().sum() for gradient in found if gradient is not None]).sum()


def ntk_trace(
    outputs: Tensor,
    parameters: Iterable[Tensor],
    *,
    generator: torch.Generator | None = None,
    relative: bool = False,
    softmax: bool = False,
) -> Tensor:
    """An unbiased estimate of mean_i ‖G_i‖_F², the trace of the tangent kernel over n.

    For independent standard normal v_i, E‖Σ_i G_iᵀv_i‖² = Σ_i ‖G_i‖_F²: between samples the products cancel on average.
    With `relative`, every tensor's part is multiplied by ‖θ_l‖²/size_l, and those with fewer than two axes count
    nothing: G_iτ, as in the typical figures of the audit. One backward pass, besides that of the training step.
    Source: Hutchinson 1990.

        outputs = model(x)
        (loss(outputs, y) + 1e-4 * ntk_trace(outputs, model.parameters(), softmax=True)).backward()
    """
    flat = outputs.flatten(1)
    v = gaussian(flat.shape, flat, generator)
    return _squares(outputs, parameters, centred(v) if softmax else v, relative) / len(flat)


def gauss_newton_trace(
    outputs: Tensor,
    parameters: Iterable[Tensor],
    *,
    generator: torch.Generator | None = None,
    relative: bool = False,
) -> Tensor:
    """An unbiased estimate of mean_i tr(G_iᵀS_iG_i), S = diag(p) − ppᵀ: cross-entropy's Gauss–Newton trace.

    For piecewise-linear models this is tr H. With v = √p∘z − p(√p·z) and z standard normal, E vvᵀ = S; the labels play
    no part. `relative` as in `ntk_trace`. One backward pass, besides that of the training step. Source: the Fisher
    penalty of Jastrzębski et al. 2021 (arXiv 2012.14193), with a square root of S in place of sampled labels.

        outputs = model(x)
        (loss(outputs, y) + 1e-3 * gauss_newton_trace(outputs, model.parameters())).backward()
    """
    # √p from log p: the square root of a probability that underflows has no gradient.
    root = (0.5 * torch.log_softmax(outputs, 1)).exp()
    z = gaussian(outputs.shape, outputs, generator)
    v = root * z - root.square() * (root * z).sum(1, keepdim=True)
    return _squares(outputs, parameters, v, relative) / len(outputs)


def _squares(outputs: Tensor, parameters: Iterable[Tensor], v: Tensor, relative: bool) -> Tensor:
    """‖Σ_i G_iᵀv_i‖², or ‖Σ_i τG_iᵀv_i‖²."""
    parts = pull_to_parameters(outputs, parameters, v)
    if not relative:
        return torch.stack([gradient.square().sum() for _, gradient in parts]).sum()
    scaled = [gradient.square().sum() * p.square().mean() for p, gradient in parts if p.ndim >= 2]
    return torch.stack(scaled).sum()
