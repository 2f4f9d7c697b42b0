"""Products with Jacobians that can be differentiated again, and the random vectors they are taken with."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

from spectral_audit.errors import UsageError


def pull_back(outputs: Tensor, x: Tensor, cotangents: Tensor) -> Tensor:
    """J_iᵀv_i of every sample, (n, d), for cotangents v (n, C); differentiable in weights, inputs and cotangents.

    Raises UsageError where `outputs` were not computed from an `x` that requires gradients.
    """
    if not x.requires_grad or not outputs.requires_grad:
        raise _no_graph("x.requires_grad is False" if not x.requires_grad else "outputs without a graph")
    (found,) = torch.autograd.grad(outputs, x, cotangents.view_as(outputs), create_graph=True, allow_unused=True)
    if found is None:
        raise _no_graph("outputs that do not depend on x")
    return found.flatten(1)


def _no_graph(found: str) -> UsageError:
    return UsageError(
        "the penalty cannot be differentiated with respect to the inputs",
        expected="outputs = model(x) after x.requires_grad_()",
        found=found,
        remedy="call x.requires_grad_() before the forward pass",
    )


def pull_to_parameters(
    outputs: Tensor, parameters: Iterable[Tensor], cotangents: Tensor
) -> list[tuple[Tensor, Tensor]]:
    """Σ_i G_iᵀv_i, tensor by tensor: the parameters that reach the outputs, each with its part."""
    kept = [p for p in parameters if p.requires_grad]
    found = torch.autograd.grad(outputs, kept, cotangents.view_as(outputs), create_graph=True, allow_unused=True)
    return [(p, gradient) for p, gradient in zip(kept, found, strict=True) if gradient is not None]


def centred(v: Tensor) -> Tensor:
    """The mean-zero part of every row: a softmax does not see the rest."""
    return v - v.mean(1, keepdim=True)


def unit(v: Tensor) -> Tensor:
    """Every row divided by its length; rows of zeros stay."""
    return torch.nn.functional.normalize(v, dim=1)


def gaussian(shape: torch.Size | tuple[int, ...], like: Tensor, generator: torch.Generator | None) -> Tensor:
    """Standard normal numbers, drawn on the CPU so that a seed means the same on every device."""
    return torch.randn(shape, generator=generator).to(like)
