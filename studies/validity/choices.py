"""Other aggregations and normalisations, chosen on the half `tuning` and judged on the half `held-out`."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np

from spectral_audit.results import AXES
from studies.validity.analysis import defined
from studies.validity.statistics import Array, Interval, interval, ranks, resamples, spearman
from studies.validity.table import Table

OVERALL = ("noise", "pgd", "shaken", "rounded.3", "pruned.0.6")
"""Damages to decisions whose mean rank the index as a whole is judged by."""
_DIRECTIONS = {"breast_cancer": 1}
"""C − 1 where it is not 9."""


@dataclass(frozen=True)
class Choice:
    """What ranked best on the tuning half, beside what gmsi/1 has; `ahead` is the paired difference held out."""

    target: str
    current: str
    chosen: str
    candidates: int
    tuned: tuple[float, float]
    held_out: tuple[Interval, Interval]
    ahead: Interval


def choices(table: Table) -> list[Choice]:
    """One choice for each axis that per-sample figures were kept of, and one for each column of the index."""
    found = [
        _choose(table, target, table.damage(target), axis, _normalisations(table, axis))
        for target, axis in (
            ("noise", "input.typical"),
            ("pgd", "input.worst"),
            ("shaken", "weights.typical"),
        )
    ]
    target = overall(table)
    for column in ("typical", "worst"):
        found.append(
            _choose(table, "all decisions (mean rank)", target, f"gmsi.{column}", _aggregations(table, column))
        )
    return found


def overall(table: Table) -> Array:
    """The mean over damages of a model's rank in each, within the whole zoo."""
    one = np.ones((1, len(table)))
    return np.mean([ranks(table.damage(name), one)[0] for name in OVERALL], axis=0)


def _normalisations(table: Table, axis: str) -> dict[str, Array]:
    """The axis, its other normalisations, and each of them over √C', the rms change in one direction of the outputs."""
    found = {name: table.known(name) for name in (axis, *(f"{kind}.{axis}" for kind in ("ratio", "quartile")))}
    directions = np.sqrt([_DIRECTIONS.get(data, 9) for data in table.text["data"]])
    found |= {f"{name} / √(C − 1)": values / directions for name, values in found.items()}
    return found | {f"predicted.{axis}": table.known(f"predicted.{axis}")}


def _aggregations(table: Table, column: str) -> dict[str, Array]:
    """Every root of a sum of squares over some of the axes, the largest, the sum, and the geometric mean."""
    axes = np.stack([table.known(f"{axis}.{column}") for axis in AXES])
    found = {f"gmsi.{column}": table.known(f"gmsi.{column}")}
    for size in (1, 2, 3):
        for some in itertools.combinations(range(len(AXES)), size):
            name = " + ".join(AXES[k] for k in some)
            found[f"rss of {name}" if size > 1 else f"{name} alone"] = np.sqrt((axes[list(some)] ** 2).sum(0))
    logs = np.log(np.maximum(axes, np.finfo(float).tiny))
    return found | {"largest axis": axes.max(0), "sum": axes.sum(0), "geometric mean": np.exp(logs.mean(0))}


def _choose(table: Table, title: str, target: Array, current: str, candidates: dict[str, Array]) -> Choice:
    tuning, held = table.where(half="tuning"), table.where(half="held-out")
    whole = defined(target, *candidates.values())

    def on(mask: Array, values: Array) -> Array:
        kept = mask & whole
        return spearman(values[kept], target[kept], resamples(int(kept.sum())))

    tuned = {name: float(on(tuning, values)[0]) for name, values in candidates.items()}
    chosen = max(tuned, key=lambda name: tuned[name])
    n = int((held & whole).sum())
    ours, best = (on(held, candidates[name]) for name in (current, chosen))
    return Choice(
        target=title,
        current=current,
        chosen=chosen,
        candidates=len(candidates),
        tuned=(tuned[current], tuned[chosen]),
        held_out=(interval(ours, n), interval(best, n)),
        ahead=interval(best - ours, n),
    )
