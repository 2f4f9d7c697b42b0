"""Changes with intervals: on the same resamples where both reports keep their samples, else from two intervals."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

from spectral_audit.comparison.changes import Change, undefined_change
from spectral_audit.results import AXES, Estimate, Report

if TYPE_CHECKING:
    from spectral_audit.index import Aggregation, Array, Column, Columns

AXIS_PATHS = tuple(f"axes.{axis}.{column}" for axis in AXES for column in ("worst", "typical"))
INDEX_PATHS = ("gmsi.worst", "gmsi.typical")


@dataclass(frozen=True)
class _Side:
    """One report on the shared resamples: the point, the replicates and the statistics without each sample."""

    report: Report
    views: tuple[Columns, Columns, Columns]

    def figure(self, path: str) -> tuple[Array, Array, Array]:
        """The axis or index figure of a path in the three views."""
        from spectral_audit.index import combine

        parts = path.split(".")
        column = cast("Column", parts[-1])
        if parts[0] == "axes":
            found = [view.axes[parts[1], column] for view in self.views]  # type: ignore[index]  # an axis by its name
        else:
            index = self.report.gmsi
            found = [
                combine(view, column, index.weights, cast("Aggregation", index.aggregation)) for view in self.views
            ]
        return found[0], found[1], found[2]


@dataclass(frozen=True)
class Pairing:
    """Two reports on the same samples, every statistic of both on the same resamples."""

    old: _Side
    new: _Side
    seed: int
    same_model: bool

    @staticmethod
    def of(old: Report, new: Report) -> Pairing | None:
        """The pairing, or `None` where the samples differ or a report does not keep them."""
        same = old.data.probe_sha256 == new.data.probe_sha256 and old.data.n == new.data.n
        if not same or old.samples is None or new.samples is None or old.scales.output_kind != new.scales.output_kind:
            return None
        # One model audited twice shares its errors beyond sampling; those of two models are taken as independent.
        seed, same_model = new.data.seed, old.model.sha256 == new.model.sha256
        return Pairing(_side(old, seed, 0), _side(new, seed, 0 if same_model else 1), seed, same_model)

    def change(self, path: str) -> Change | None:
        """The change of an axis or of the index; `None` for other figures, which have no samples."""
        if path not in (*AXIS_PATHS, *INDEX_PATHS):
            return None
        ends = [_estimate(side.report, path) for side in (self.old, self.new)]
        if any(end.value is None or end.status != "ok" for end in ends):
            status = next(end.status for end in ends if end.value is None or end.status != "ok")
            return undefined_change(path, ends[0].value, ends[1].value, status)
        residual = 0.0
        if path == "axes.curvature.worst" and not self.same_model:
            residual = sum(_residual_width(side.report, path) for side in (self.old, self.new))
        return _change(path, self.old.figure(path), self.new.figure(path), residual)

    def layer(self, name: str) -> Change | None:
        """The change of a tensor's part of the typical weights axis; `None` where neither scale moves it."""
        sides = [_layer(side, name, self.seed) for side in (self.old, self.new)]
        return None if sides[0] is None or sides[1] is None else _change(name, sides[0], sides[1], 0.0)


def _side(report: Report, seed: int, stream: int) -> _Side:
    from spectral_audit.index import Figures

    assert report.samples is not None
    figures = Figures.of(report.samples, regression=report.scales.output_kind == "rms output")
    return _Side(report, (figures.everything(), figures.resampled(seed, stream), figures.leave_one_out()))


def _estimate(report: Report, path: str) -> Estimate:
    parts = path.split(".")
    owner = getattr(report.axes, parts[1]) if parts[0] == "axes" else report.gmsi
    return cast(Estimate, getattr(owner, parts[-1]))


def _residual_width(report: Report, path: str) -> float:
    """How far the eigenvalue's residual reaches in its square root: v − √(v² − residual)."""
    value = _estimate(report, path).value or 0.0
    residual = report.samples.curvature_worst_residual if report.samples else 0.0
    return value - math.sqrt(max(0.0, value**2 - residual))


def _layer(side: _Side, name: str, seed: int) -> tuple[Array, Array, Array] | None:
    """√(mean ‖G_i‖_F²) τ / M of one tensor in the three views."""
    import numpy as np

    from spectral_audit.index import resamples

    report = side.report
    layer = next((layer for layer in report.layers if layer.name == name), None)
    traces = report.samples.layers.get(name) if report.samples else None
    if layer is None or traces is None or len(layer.shape) < 2 or layer.norm == 0:
        return None
    energy = np.asarray(traces, dtype=np.float64)
    total, n = energy.sum(), len(energy)
    means = (
        energy.mean(keepdims=True),
        np.concatenate([energy[rows].mean(1) for rows in resamples(n, seed)]),
        (total - energy) / (n - 1),
    )
    tau = layer.norm / math.sqrt(layer.parameters)
    with np.errstate(divide="ignore", invalid="ignore"):
        found = [np.sqrt(m.clip(min=0)) * tau / view.output_scale for m, view in zip(means, side.views, strict=True)]
    return found[0], found[1], found[2]


def _change(path: str, old: tuple[Array, ...], new: tuple[Array, ...], widen: float) -> Change:
    """BCa intervals of new − old and of new/old − 1 on shared resamples, widened by an error of the values."""
    import numpy as np

    from spectral_audit.index import spread

    a, b = float(old[0][0]), float(new[0][0])
    point, replicates, without = (y - x for x, y in zip(old, new, strict=True))
    ends = spread(point, replicates, without)
    if ends is None:
        return undefined_change(path, a, b, "undefined")
    low, high = ends[0] - widen, ends[1] + widen
    share: tuple[float | None, float | None, float | None] = (None, None, None)
    if a > 0:
        with np.errstate(divide="ignore", invalid="ignore"):
            point, replicates, without = (y / x - 1 for x, y in zip(old, new, strict=True))
            around = spread(point, replicates, without)
        if around is not None:
            share = (b / a - 1, around[0] - widen / a, around[1] + widen / a)
    return Change(path, a, b, b - a, low, high, *share, paired=True, moved=low > 0 or high < 0)


def unpaired(path: str, old: Estimate, new: Estimate) -> Change:
    """The change of a figure from its two intervals, taken as independent.

    The deviations of the ends add in squares: d ± √((b − b_low)² + (a_high − a)²), on the logarithms for the relative
    change. On shared samples that is wider than need be.

    Source: Zou and Donner 2008, "Construction of confidence limits about effect measures".
    """
    for end in (old, new):
        if end.value is None or end.low is None or end.high is None or end.status != "ok":
            return undefined_change(path, old.value, new.value, end.status if end.status != "ok" else "undefined")
    a, b = _known(old), _known(new)
    low, high = _apart(a, b)
    share: tuple[float | None, float | None, float | None] = (None, None, None)
    if min(*a, *b) > 0:
        ends = _apart(_logs(a), _logs(b))
        share = (b[0] / a[0] - 1, math.expm1(ends[0]), math.expm1(ends[1]))
    elif a[0] > 0:
        share = (b[0] / a[0] - 1, low / a[0], high / a[0])
    return Change(path, a[0], b[0], b[0] - a[0], low, high, *share, paired=False, moved=low > 0 or high < 0)


def _known(estimate: Estimate) -> tuple[float, float, float]:
    assert estimate.value is not None and estimate.low is not None and estimate.high is not None
    return estimate.value, estimate.low, estimate.high


def _logs(figure: tuple[float, float, float]) -> tuple[float, float, float]:
    return math.log(figure[0]), math.log(figure[1]), math.log(figure[2])


def _apart(a: tuple[float, float, float], b: tuple[float, float, float]) -> tuple[float, float]:
    difference = b[0] - a[0]
    return difference - math.hypot(b[0] - b[1], a[2] - a[0]), difference + math.hypot(b[2] - b[0], a[0] - a[1])
