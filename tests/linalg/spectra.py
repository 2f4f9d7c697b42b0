"""Symmetric matrices with chosen eigenvalues, and start vectors."""

from __future__ import annotations

import torch
from torch import Tensor


def matrix(eigenvalues: Tensor, seed: int = 0) -> Tensor:
    """Q diag(λ) Qᵀ (p, p) for a random orthogonal Q, float64."""
    q = torch.linalg.qr(normal(len(eigenvalues), len(eigenvalues), seed=seed)).Q
    return q @ torch.diag(eigenvalues) @ q.T


def normal(*shape: int, seed: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def even(low: float, high: float, count: int) -> Tensor:
    return torch.linspace(low, high, count, dtype=torch.float64)


def values(*eigenvalues: float) -> Tensor:
    return torch.tensor(eigenvalues, dtype=torch.float64)
