"""attribution-score/1: how little an explanation moves, in [0, 1].

κ_i(r) = (‖a(x_i+δ) − a(x_i)‖/‖a(x_i)‖) / (‖δ‖₂/X) is the relative change of the explanation per relative change of the
input at radius r: a condition number of the attribution map. The score at r is the mean over samples of 1/(1 + κ_i(r)),
and the score is the smallest over the radii, r → 0 among them where the map has a Jacobian: a map that jumps is judged
at the radius where it jumps, and one that only looks flat in the limit is not called stable.
"""

from __future__ import annotations

import torch
from torch import Tensor

from spectral_audit.estimates import UNDEFINED, Estimate

_RESAMPLES = 1000


def condition(drift: Tensor, delta: Tensor, input_scale: float) -> Tensor:
    """κ (n,) of relative drifts (n,) under `delta` (n, *shape)."""
    length = delta.flatten(1).norm(dim=1).double()
    return drift.double() * input_scale / length.clamp_min(torch.finfo(torch.float64).tiny)


def score(conditions: dict[float, Tensor], generator: torch.Generator) -> tuple[Estimate, float | None]:
    """min over r of mean_i 1/(1 + κ_i(r)) for `conditions` κ(r) (n,), with a 95 % bootstrap interval over samples, and
    the radius where it is; undefined where there are no samples."""
    radii = list(conditions)
    if not radii or not len(conditions[radii[0]]):
        return UNDEFINED, None
    values = torch.stack([1 / (1 + conditions[r].double().cpu()) for r in radii])  # (R, n)
    means = values.mean(1)
    n = values.shape[1]
    drawn = torch.randint(0, n, (_RESAMPLES, n), generator=generator)
    counts = torch.zeros(_RESAMPLES, n, dtype=torch.float64)
    counts.scatter_add_(1, drawn, torch.ones(1, dtype=torch.float64).expand_as(drawn))
    resampled = (values @ counts.T / n).amin(0)
    low, high = torch.quantile(resampled, torch.tensor([0.025, 0.975], dtype=torch.float64)).tolist()
    value = float(means.min())
    return Estimate(value, min(low, value), max(high, value)), radii[int(means.argmin())]
