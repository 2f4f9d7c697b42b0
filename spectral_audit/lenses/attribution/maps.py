"""The attribution map of a subject by one method, and what a perturbation does to its values."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from spectral_audit.errors import UsageError
from spectral_audit.lenses.attribution import measures
from spectral_audit.lenses.attribution.methods import Net, make_method
from spectral_audit.lenses.attribution.settings import AttributionSettings
from spectral_audit.subject import Subject

_TOP_SHARE = 0.1
# Entries of attributions compared at a time: ranks and sorted copies take many times their memory.
_BLOCK = 2**21


@dataclass(frozen=True)
class Move:
    """Attributions a(x+δ) and outputs f(x+δ) for one perturbation `delta` (n, *shape) of every sample."""

    delta: Tensor
    a: Tensor
    outputs: Tensor
    drift: Tensor

    def where(self, better: Tensor, other: Move) -> Move:
        """Sample by sample: `other` where `better` (n,), else this one."""
        return Move(
            torch.where(_like(better, self.delta), other.delta, self.delta),
            torch.where(_like(better, self.a), other.a, self.a),
            torch.where(better[:, None], other.outputs, self.outputs),
            torch.where(better, other.drift, self.drift),
        )


@dataclass(frozen=True)
class Moved:
    """How far the attribution moved, each (n,); see `measures`."""

    drift: Tensor
    cosine: Tensor
    spearman: Tensor
    overlap: Tensor
    flipped: Tensor
    lipschitz: Tensor
    input_stability: Tensor
    output_stability: Tensor


class AttributionMap:
    """The attribution map of a subject, and distances from its value at the unperturbed samples."""

    def __init__(
        self,
        subject: Subject,
        settings: AttributionSettings,
        method: str = "gradient",
        generator: torch.Generator | None = None,
    ) -> None:
        self.subject, self.settings, self.method = subject, settings, method
        self.target = targets(subject, settings)
        self.net = Net(subject)
        self._explain = make_method(method, self.net, settings, generator or torch.Generator().manual_seed(0))
        self.base, self.outputs = self(subject.x)
        self.flat = self.base.flatten(1)
        self.norm = self.flat.norm(dim=1)
        self.predicted = predictions(self.outputs)
        self.top_k = max(1, round(_TOP_SHARE * self.flat.shape[1]))
        self._ranks: NDArray[np.float32] | None = None

    @property
    def gradients(self) -> int:
        """Per-sample gradients spent so far, by all processes: as many on each sample."""
        own = self.subject.shard
        return self.net.gradients * self.subject.n // (own.stop - own.start)

    def __call__(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Attributions of `x` (n, *shape), channels pooled to length 1 where asked for, and outputs (n, C)."""

        def explain(where: slice) -> tuple[Tensor, Tensor]:
            a, f = self._explain(x[where], self.target[where])
            return shaped(a, self.settings), f

        attributions, outputs = self.subject.over_samples(explain)
        return attributions, outputs

    def move(self, delta: Tensor) -> Move:
        """What `delta` (n, *shape) does to the attribution."""
        a, f = self(self.subject.x + delta)
        return Move(delta, a, f, measures.relative_drift(a.flatten(1), self.flat))

    def measured(self, move: Move, *, ranked: bool = True) -> Moved:
        """Every distance of one move; rank correlations, which cost a sort, are NaN unless `ranked`."""
        if ranked and self._ranks is None:
            self._ranks = np.concatenate([measures.ranks(self.flat[where]) for where in self._blocks()])
        parts = [self._measured(move, where, ranked=ranked) for where in self._blocks()]
        return Moved(**{f.name: torch.cat([getattr(part, f.name) for part in parts]) for f in fields(Moved)})

    def _measured(self, move: Move, where: slice, *, ranked: bool) -> Moved:
        """Every distance for the samples in `where`."""
        a, delta, x = (t[where].flatten(1) for t in (move.a, move.delta, self.subject.x))
        base, drift, outputs = self.flat[where], move.drift[where], move.outputs[where]
        spearman = torch.full_like(drift, torch.nan)
        if ranked and self._ranks is not None:
            spearman = measures.spearman(measures.ranks(a), self._ranks[where]).to(a)
        return Moved(
            drift=drift,
            cosine=measures.cosine(a, base),
            spearman=spearman,
            overlap=measures.top_k_overlap(measures.top_set(a, self.top_k), measures.top_set(base, self.top_k)),
            flipped=predictions(outputs) != self.predicted[where],
            lipschitz=measures.lipschitz(a, base, delta),
            input_stability=measures.relative_stability(a, base, measures.relative_change(x + delta, x)),
            output_stability=measures.relative_stability(a, base, (outputs - self.outputs[where]).norm(dim=1)),
        )

    def _blocks(self) -> Iterator[slice]:
        step = max(1, _BLOCK // self.flat.shape[1])
        for first in range(0, len(self.flat), step):
            yield slice(first, first + step)


def shaped(a: Tensor, settings: AttributionSettings) -> Tensor:
    """Attributions (m, *shape) with the sign and the channels asked for."""
    a = a.abs() if settings.sign == "absolute" else a
    return a.sum(1, keepdim=True) if settings.channels == "pooled" and a.ndim >= 3 else a


def first(subject: Subject, count: int) -> Subject:
    """The same subject with its first samples only, all of them in this process."""
    return replace(subject.alone(), x=subject.x[:count], y=subject.y[:count])


def targets(subject: Subject, settings: AttributionSettings) -> Tensor:
    """The explained output (n,) of every sample."""
    if isinstance(settings.target, int) or subject.outputs == 1 or subject.loss == "mse":
        index = settings.target if isinstance(settings.target, int) else 0
        if not 0 <= index < subject.outputs:
            raise UsageError(
                "attribution.target does not fit the model",
                expected=f"predicted, label, or an output from 0 to {subject.outputs - 1}",
                found=str(index),
                remedy="correct attribution.target in the spec",
            )
        return torch.full((subject.n,), index, dtype=torch.long, device=subject.x.device)
    if settings.target == "label":
        return subject.y
    with torch.no_grad():
        return subject.over_samples(lambda where: [subject.forward(subject.x[where]).argmax(1)])[0]


def target_name(subject: Subject, settings: AttributionSettings) -> str:
    """The explained output in words."""
    if isinstance(settings.target, int) or subject.loss == "mse":
        return f"output {settings.target if isinstance(settings.target, int) else 0}"
    return settings.target


def predictions(f: Tensor) -> Tensor:
    """Predicted classes (m,) of outputs (m, C); for one logit its sign."""
    return f.argmax(1) if f.shape[1] > 1 else (f[:, 0] > 0).long()


def _like(rows: Tensor, t: Tensor) -> Tensor:
    return rows.view(-1, *[1] * (t.ndim - 1))
