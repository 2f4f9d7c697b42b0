"""Distances between two attributions of the same samples, one figure per sample.

Attributions are flat, `a` and `base` (n, d); results are (n,). A zero attribution gives NaN or infinity here: who calls
leaves those samples out and counts them.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


def relative_drift(a: Tensor, base: Tensor) -> Tensor:
    """‖a − base‖/‖base‖.

    Its maximum over draws is max-sensitivity as captum and Quantus compute it (Yeh et al. 2019, arXiv 1901.09392, who
    do not divide), its mean avg-sensitivity (Bhatt et al. 2020, arXiv 2005.00631).
    """
    return (a - base).norm(dim=1) / base.norm(dim=1)


def lipschitz(a: Tensor, base: Tensor, delta: Tensor) -> Tensor:
    """‖a − base‖/‖δ‖ for `delta` (n, d'); its maximum over draws is the local Lipschitz estimate (Alvarez-Melis &
    Jaakkola 2018, arXiv 1806.08049)."""
    return (a - base).norm(dim=1) / delta.norm(dim=1)


def cosine(a: Tensor, base: Tensor) -> Tensor:
    """⟨a, base⟩/(‖a‖‖base‖)."""
    return (a * base).sum(1) / (a.norm(dim=1) * base.norm(dim=1))


def ranks(a: Tensor) -> NDArray[np.float32]:
    """Ranks (n, d) from 0 of each row's entries, equal entries sharing their mean rank."""
    values = a.detach().cpu().numpy()
    order = np.argsort(values, axis=1)
    ascending = np.take_along_axis(values, order, axis=1)
    d = values.shape[1]
    places = np.broadcast_to(np.arange(d), values.shape)
    rises = np.diff(ascending, axis=1) > 0
    edge = np.ones((len(values), 1), dtype=bool)
    first = np.maximum.accumulate(np.where(np.hstack([edge, rises]), places, 0), axis=1)
    last = np.minimum.accumulate(np.where(np.hstack([rises, edge]), places, d - 1)[:, ::-1], axis=1)[:, ::-1]
    shared = np.empty(values.shape, dtype=np.float32)
    np.put_along_axis(shared, order, ((first + last) / 2).astype(np.float32), axis=1)
    return shared


def spearman(one: NDArray[np.float32], other: NDArray[np.float32]) -> Tensor:
    """Spearman's rank correlation (n,) float64 from the `ranks` of both: Pearson's of the ranks."""
    u, v = (r.astype(np.float64) - r.mean(axis=1, keepdims=True, dtype=np.float64) for r in (one, other))
    with np.errstate(invalid="ignore", divide="ignore"):
        return torch.from_numpy((u * v).sum(1) / np.sqrt((u * u).sum(1) * (v * v).sum(1)))


def top_set(a: Tensor, k: int) -> Tensor:
    """Where (n, d) the k entries of largest modulus are."""
    chosen = torch.zeros_like(a, dtype=torch.bool)
    return chosen.scatter_(1, a.abs().topk(k, dim=1).indices, True)


def top_k_overlap(one: Tensor, other: Tensor) -> Tensor:
    """Share of the entries of one `top_set` that are in the other (Ghorbani et al. 2019, arXiv 1710.10547)."""
    return (one & other).sum(1) / one.sum(1)


def relative_change(new: Tensor, old: Tensor) -> Tensor:
    """‖(new − old)/old‖ over the entries where `old` is not zero: a percent change has no meaning in the others."""
    there = old != 0
    return torch.where(there, (new - old) / torch.where(there, old, 1), 0).norm(dim=1)


def relative_stability(a: Tensor, base: Tensor, moved: Tensor) -> Tensor:
    """log10 of ‖(a − base)/base‖ / `moved`, entry by entry (Agarwal et al. 2022, arXiv 2203.06877).

    For input stability `moved` (n,) is ‖δ/x‖, for output stability ‖f(x+δ) − f(x)‖ of the logits.
    """
    return (relative_change(a, base) / moved).log10()
