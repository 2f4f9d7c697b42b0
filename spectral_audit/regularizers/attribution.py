"""Penalties on how fast the gradient attribution a_i = ∇_x f_c turns: what explanations are stable by.

c is the predicted class of each sample unless `target` (n,) names others; it is held fixed.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from spectral_audit.errors import UsageError
from spectral_audit.regularizers.pulling import gaussian, pull_back, unit


def attribution_curvature(
    outputs: Tensor, x: Tensor, *, generator: torch.Generator | None = None, target: Tensor | None = None
) -> Tensor:
    """An unbiased estimate of mean_i ‖A_i‖_F², A = ∇²_x f_c the input Hessian: E‖Av‖² for standard normal v.

    For smooth models. Two backward passes, besides that of the training step, which differentiates a third time.
    Raises UsageError for piecewise-linear models, whose A is zero almost everywhere. Source: Dombrowski et al. 2022
    (Pattern Recognition 121) penalise the same norm.

        outputs = model(x.requires_grad_())
        (loss(outputs, y) + 0.01 * attribution_curvature(outputs, x)).backward()
    """
    explained = pull_back(outputs, x, _chosen(outputs, target))
    v = gaussian(explained.shape, explained, generator)
    turned = None
    if explained.requires_grad:
        (turned,) = torch.autograd.grad(explained, x, v, create_graph=True, allow_unused=True)
    if turned is None or not turned.any():
        raise UsageError(
            "the input Hessian of this model is zero at every sample",
            expected="a model with a smooth activation",
            found="a gradient that is constant around the inputs",
            remedy="use attribution_drift, which compares gradients at a finite distance",
        )
    return turned.flatten(1).square().sum(1).mean()


def attribution_drift(
    model: Callable[[Tensor], Tensor],
    outputs: Tensor,
    x: Tensor,
    *,
    radius: float,
    generator: torch.Generator | None = None,
    target: Tensor | None = None,
) -> Tensor:
    """mean_i ‖a(x_i + δ_i) − a(x_i)‖²/‖a(x_i)‖² for random δ of length `radius` (L2, in units of x): the squared drift.

    For any model. In a piecewise-linear one gates that open or close make it jump, and its gradient sees only the
    weights behind the gates. One forward and two backward passes, besides those of the training step. Source: secants
    in place of derivatives, as the audit's drifts are.

        outputs = model(x.requires_grad_())
        (loss(outputs, y) + 0.1 * attribution_drift(model, outputs, x, radius=1.0)).backward()
    """
    chosen = _chosen(outputs, target)
    here = pull_back(outputs, x, chosen)
    delta = radius * unit(gaussian((len(x), x[0].numel()), x, generator))
    moved = (x.detach() + delta.view_as(x)).requires_grad_()
    there = pull_back(model(moved), moved, chosen)
    floor = torch.finfo(here.dtype).tiny
    return ((there - here).square().sum(1) / here.square().sum(1).clamp_min(floor)).mean()


def _chosen(outputs: Tensor, target: Tensor | None) -> Tensor:
    """One row for each sample that picks its explained output, (n, C); a single output is explained as it is."""
    classes = outputs.detach().argmax(1) if target is None else target
    return torch.nn.functional.one_hot(classes, outputs.shape[1]).to(outputs)
