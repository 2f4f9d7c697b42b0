"""Measures of one spectrum: trace, entropy, ranks, condition number.

For singular values σ the weights are p_k = σ_k²/Σσ², for eigenvalues λ = σ² they are λ_k/Σλ, and for an indefinite
spectrum |λ_k|/Σ|λ|. Entropy S = −Σ p log p in nats; the effective rank e^S is that of Roy & Vetterli 2007; the stable
rank is Σσ²/σ₁².
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Measures:
    """Scalars of one spectrum; `None` where a zero spectrum, or one below its error, leaves them undefined."""

    trace: float
    frobenius: float
    entropy: float | None
    normalized_entropy: float | None
    effective_rank: float | None
    stable_rank: float | None
    condition: float | None


def entropy(weights: Tensor) -> Tensor:
    """−Σ p log p in nats along the last axis of nonnegative `weights`, normalised first; NaN where they sum to zero."""
    p = weights / weights.sum(-1, keepdim=True)
    return torch.special.entr(p).sum(-1)


def measures(eigenvalues: Tensor, error: float = 0.0) -> Measures:
    """Measures of a positive semidefinite spectrum, `eigenvalues` (r,) in any order, each known to `error`·λmax.

    What is not above its error, and not above r·eps·λmax in float64, counts as zero for the condition number.
    """
    values = eigenvalues.double().flatten()
    top = float(values.max())
    trace = float(values.sum())
    frobenius = float(values.norm())
    if not top > 0:
        return Measures(trace, frobenius, None, None, None, None, None)
    s = float(entropy(values.clamp_min(0)))
    positive = values[values > max(error, len(values) * torch.finfo(torch.float64).eps) * top]
    return Measures(
        trace=trace,
        frobenius=frobenius,
        entropy=s,
        normalized_entropy=s / math.log(len(values)) if len(values) > 1 else None,
        effective_rank=math.exp(s),
        stable_rank=trace / top,
        condition=top / float(positive.min()) if len(positive) else None,
    )
