"""What changed between two reports, as frozen plain values."""

from __future__ import annotations

from dataclasses import dataclass

SCHEMA = "spectral-audit/comparison/1"


@dataclass(frozen=True)
class Change:
    """How far a figure moved: `difference` new − old and `relative` new/old − 1, each with its 95 % interval.

    `paired` intervals are of the difference on the same resamples of the same samples; others put the two separate
    intervals together. `status` says why a change does not exist. `moved`: the interval of the difference excludes 0.
    """

    path: str
    old: float | None
    new: float | None
    difference: float | None
    low: float | None
    high: float | None
    relative: float | None
    relative_low: float | None
    relative_high: float | None
    paired: bool
    moved: bool
    status: str = "ok"


@dataclass(frozen=True)
class Difference:
    """A property in which two reports must agree to be comparable, and do not."""

    field: str
    old: str
    new: str


@dataclass(frozen=True)
class Comparison:
    """Two reports: what changed on the axes, the index and layer by layer.

    A layer's figure is its part of the typical weights axis, √(mean ‖G_iτ‖_F²)/M over this tensor alone; the squares of
    all parts sum to the square of the axis. `differences` are there when the comparison was forced.
    """

    schema: str
    old: str
    new: str
    old_sha256: str
    new_sha256: str
    differences: tuple[Difference, ...]
    paired: bool
    changes: tuple[Change, ...]
    layers: tuple[Change, ...]
    only_old: tuple[str, ...]
    only_new: tuple[str, ...]


def undefined_change(path: str, old: float | None, new: float | None, status: str) -> Change:
    """A change that does not exist."""
    return Change(path, old, new, None, None, None, None, None, None, False, False, status)
