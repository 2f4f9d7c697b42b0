"""Two reports become one comparison."""

from __future__ import annotations

from spectral_audit.comparison.changes import SCHEMA, Change, Comparison, Difference
from spectral_audit.comparison.paired import AXIS_PATHS, INDEX_PATHS, Pairing, unpaired
from spectral_audit.results import Estimate, Report


def compare(old: Report, new: Report, differences: tuple[Difference, ...] = ()) -> Comparison:
    """What changed from one report to the other, on the axes, the index, the explanation and layer by layer."""
    pairing = Pairing.of(old, new)
    changes = []
    for path in (*INDEX_PATHS, *AXIS_PATHS):
        change = pairing.change(path) if pairing else None
        changes.append(change or unpaired(path, _estimate(old, path), _estimate(new, path)))
    names = [[layer.name for layer in report.layers] for report in (old, new)]
    layers = [pairing.layer(name) for name in names[0] if name in set(names[1])] if pairing else []
    return Comparison(
        schema=SCHEMA,
        old=old.model.path,
        new=new.model.path,
        old_sha256=old.model.sha256,
        new_sha256=new.model.sha256,
        differences=differences,
        paired=pairing is not None,
        changes=tuple(changes),
        layers=tuple(sorted(filter(None, layers), key=_size)),
        only_old=tuple(name for name in names[0] if name not in set(names[1])),
        only_new=tuple(name for name in names[1] if name not in set(names[0])),
    )


def _size(change: Change) -> float:
    """Largest change of the axis's square first: that is what a layer gives to the axis."""
    return -abs((change.new or 0.0) ** 2 - (change.old or 0.0) ** 2)


def _estimate(report: Report, path: str) -> Estimate:
    owner, column = path.rsplit(".", 1)
    found: object = report
    for name in owner.split("."):
        found = getattr(found, name)
    estimate = getattr(found, column)
    assert isinstance(estimate, Estimate)
    return estimate
