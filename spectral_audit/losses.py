"""The losses an audit knows: value, gradient and Hessian with respect to the outputs, and the output basis Q."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

Loss = Literal["cross_entropy", "bce", "mse"]


def per_sample_loss(loss: Loss, outputs: Tensor, y: Tensor) -> Tensor:
    """torch's cross_entropy, bce-with-logits or mse without the mean over samples: (n,) for `outputs` (n, C)."""
    if loss == "cross_entropy":
        return F.cross_entropy(outputs, y, reduction="none")
    if loss == "bce":
        return F.binary_cross_entropy_with_logits(outputs[:, 0], y.to(outputs.dtype), reduction="none")
    return (outputs - y).square().mean(1)


def output_gradient(loss: Loss, outputs: Tensor, y: Tensor) -> Tensor:
    """∂ℓ/∂f (n, C): p − onehot(y) for cross_entropy, σ(f) − y for bce, 2(f − y)/C for mse."""
    if loss == "cross_entropy":
        return outputs.softmax(1) - F.one_hot(y, outputs.shape[1]).to(outputs)
    if loss == "bce":
        return outputs.sigmoid() - y[:, None].to(outputs)
    return 2 * (outputs - y) / outputs.shape[1]


def output_hessian(loss: Loss, outputs: Tensor) -> Tensor:
    """S = ∂²ℓ/∂f² (n, C, C): diag(p) − ppᵀ for cross_entropy, p(1 − p) for bce, 2/C·I for mse."""
    if loss == "cross_entropy":
        p = outputs.softmax(1)
        return torch.diag_embed(p) - p[:, :, None] * p[:, None, :]
    if loss == "bce":
        p = outputs.sigmoid()
        return (p * (1 - p))[:, :, None]
    n, c = outputs.shape
    return (2.0 / c) * torch.eye(c, dtype=outputs.dtype, device=outputs.device).expand(n, c, c)


def output_basis(outputs: int, loss: Loss) -> tuple[Tensor, int]:
    """An orthogonal float64 basis (C, C) and the number C' of its leading columns that form Q.

    For softmax heads Q spans the mean-zero vectors (Helmert's contrasts) and the last column is 1/√C; otherwise Q is
    the identity.
    """
    if loss != "cross_entropy":
        return torch.eye(outputs, dtype=torch.float64), outputs
    basis = torch.zeros(outputs, outputs, dtype=torch.float64)
    for k in range(1, outputs):
        basis[:k, k - 1] = 1.0
        basis[k, k - 1] = -float(k)
    basis[:, -1] = 1.0
    return basis / basis.norm(dim=0), outputs - 1
