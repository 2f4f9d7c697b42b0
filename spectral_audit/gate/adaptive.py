"""Few samples first, more only while the verdict is open, and an error rate that holds over all the looks.

The schedule is fixed beforehand (n/8, n/4, n/2, n) and its k looks share the 5 % that the intervals may miss: each look
has intervals of level 1 − 0.05/k, so that by the union bound at most 5 % of the gates are ever misled, whichever look
they stop at.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import cast

from spectral_audit.errors import UsageError
from spectral_audit.gate.judge import judged
from spectral_audit.gate.paths import Figure, find_figure
from spectral_audit.gate.rules import Rule
from spectral_audit.gate.verdict import Judgement
from spectral_audit.results import AXES, Report

_DOUBLINGS = 3
# Fewer samples have no quantiles worth an interval.
_LEAST = 16
_ERROR = 0.05


@dataclass(frozen=True)
class Look:
    """One look at the data: so many samples, their report, and the figures with the intervals of this schedule."""

    n: int
    report: Report
    figure: Callable[[str], Figure]


def schedule(maximum: int) -> tuple[int, ...]:
    """The numbers of samples to look at: three doublings up to the maximum, none below 16 samples."""
    sizes = [maximum // 2**k for k in range(_DOUBLINGS, 0, -1)]
    return (*[size for size in sizes if size >= _LEAST], maximum)


def level_of(looks: int) -> float:
    """The level of each look's intervals."""
    return 1 - _ERROR / looks


def settle(looks: Iterable[Look], rules: Sequence[Rule]) -> tuple[Look, list[Judgement], tuple[int, ...]]:
    """Look until the verdict is decided or there is nothing more: the last look, its judgements, and all sizes."""
    sizes: list[int] = []
    for look in looks:
        sizes.append(look.n)
        judgements = [judged(rule, look.figure(rule.path)) for rule in rules]
        if _decided(judgements):
            break
    return look, judgements, tuple(sizes)


def _decided(judgements: Sequence[Judgement]) -> bool:
    """One rule that fails decides, and so do all that pass; without rules that count, the warnings have to be clear."""
    counting = [j for j in judgements if j.level == "error"] or judgements
    outcomes = {j.outcome for j in counting}
    return "fail" in outcomes or "inconclusive" not in outcomes


def look_at(report: Report, level: float) -> Look:
    """A report's figures with intervals of another level than its own 95 %.

    Axes and index are computed anew from the samples; other estimates are stretched by the ratio of normal quantiles.
    Raises UsageError for a report that keeps no samples.
    """
    if report.samples is None:
        raise UsageError(
            f"{report.model.path}: no figures of every sample",
            expected="a report with `samples`",
            found="none",
            remedy="audit the model again",
        )
    recomputed = _recomputed(report, level)
    stretch = NormalDist().inv_cdf((1 + level) / 2) / NormalDist().inv_cdf(0.975)

    def figure(path: str) -> Figure:
        found = find_figure(report, path)
        if path in recomputed and found.value is not None:
            low, high = recomputed[path]
            return Figure(found.value, low, high, found.status, True)
        if not found.estimated or found.value is None or found.low is None or found.high is None:
            return found
        low, high = (found.value + stretch * (end - found.value) for end in (found.low, found.high))
        return Figure(found.value, low, high, found.status, True)

    return Look(report.data.n, report, figure)


def _recomputed(report: Report, level: float) -> dict[str, tuple[float, float]]:
    """The intervals of axes and index at a level, by path."""
    from spectral_audit.index import COLUMNS, Aggregation, Figures, combine, spread, widened

    assert report.samples is not None
    figures = Figures.of(report.samples, regression=report.scales.output_kind == "rms output")
    views = (figures.everything(), figures.resampled(report.data.seed), figures.leave_one_out())
    found: dict[str, tuple[float, float]] = {}
    for column in COLUMNS:
        named = {f"axes.{axis}.{column}": [view.axes[axis, column] for view in views] for axis in AXES}
        how = cast(Aggregation, report.gmsi.aggregation)
        named[f"gmsi.{column}"] = [combine(view, column, report.gmsi.weights, how) for view in views]
        for path, (value, replicates, without) in named.items():
            ends = spread(value, replicates, without, level)
            if ends is not None:
                found[path] = ends
    if "axes.curvature.worst" in found:
        found["axes.curvature.worst"] = widened(*found["axes.curvature.worst"], report.samples.curvature_worst_residual)
    return found
