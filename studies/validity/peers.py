"""What others report about a trained network's weights, by their published definitions, in own short implementations.

Power-law exponents: Martin & Mahoney 2021 (WeightWatcher) fit the tail of the eigenvalues of WᵀW by maximum likelihood,
with the cut that minimises the Kolmogorov–Smirnov distance (Clauset, Shalizi & Newman 2009). Norms: Jiang et al. 2020.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

_FEWEST = 6
"""Eigenvalues in a tail that an exponent may be fitted to."""


def weight_figures(model: nn.Module) -> dict[str, float | None]:
    """Norms and exponents over all weight matrices; convolutions as (out, in·h·w)."""
    with torch.no_grad():
        singular = [torch.linalg.svdvals(p.flatten(1).double()).numpy() for p in model.parameters() if p.ndim >= 2]
    singular = [s[s > 0] for s in singular if len(s) > 1]
    fits = [(exponent(s**2), float(np.log10(s[0] ** 2))) for s in singular]
    known = [(alpha, top) for alpha, top in fits if alpha is not None]
    return {
        "weights.frobenius": float(np.sqrt(sum((s**2).sum() for s in singular))),
        "weights.log_frobenius": float(np.mean([np.log((s**2).sum()) for s in singular])),
        "weights.log_spectral": float(np.mean([np.log(s[0] ** 2) for s in singular])),
        "weights.stable_rank": float(np.mean([(s**2).sum() / s[0] ** 2 for s in singular])),
        "weights.alpha": float(np.mean([alpha for alpha, _ in known])) if known else None,
        "weights.alpha_weighted": float(np.mean([alpha * top for alpha, top in known])) if known else None,
    }


def exponent(eigenvalues: np.ndarray) -> float | None:
    """α of the power law λ^−α that the tail of the eigenvalues follows best; `None` for too few of them.

    For every cut λ_min, α = 1 + k / Σ log(λ/λ_min) over the k values above it.
    """
    values = np.sort(eigenvalues)
    best: tuple[float, float] | None = None
    for first in range(len(values) - _FEWEST + 1):
        tail = values[first:]
        total = np.log(tail / tail[0]).sum()
        if total <= 0:
            continue
        alpha = 1 + len(tail) / total
        expected = 1 - (tail / tail[0]) ** (1 - alpha)
        distance = float(np.abs(expected - np.arange(len(tail)) / len(tail)).max())
        if best is None or distance < best[0]:
            best = (distance, float(alpha))
    return best[1] if best else None
