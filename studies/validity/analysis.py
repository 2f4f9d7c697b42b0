"""Every correlation of the study, from the raw table alone."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from studies.validity.names import BAR, CLAIMS, FALLING, PEERS, RAW, Claim
from studies.validity.statistics import Array, Interval, interval, partial, resamples, spearman
from studies.validity.table import Table


def rising(table: Table, name: str) -> Array:
    """A quantity with its sign turned so that more is expected to be worse."""
    return -table.known(name) if name in FALLING else table.known(name)


def defined(*columns: Array) -> Array:
    """The models that have all of these figures."""
    return np.logical_and.reduce([np.isfinite(column) for column in columns])


def correlation(table: Table, quantity: str, damage: str, mask: Array) -> Interval | None:
    """ρ over the models of a mask that have both figures; `None` for fewer than eight."""
    x, y = rising(table, quantity), table.damage(damage)
    kept = mask & defined(x, y)
    n = int(kept.sum())
    return interval(spearman(x[kept], y[kept], resamples(n)), n) if n >= 8 else None


def given_accuracy(table: Table, quantity: str, damage: str, mask: Array) -> Interval | None:
    """Partial ρ given the accuracy on the probe set."""
    x, y, z = rising(table, quantity), table.damage(damage), rising(table, "accuracy")
    kept = mask & defined(x, y, z)
    n = int(kept.sum())
    return interval(partial(x[kept], y[kept], z[kept], resamples(n)), n) if n >= 8 else None


def difference(table: Table, first: str, second: str, damage: str, mask: Array) -> Interval:
    """|ρ| of the first quantity less |ρ| of the second, over the models that have both."""
    x, other, y = rising(table, first), rising(table, second), table.damage(damage)
    kept = mask & defined(x, other, y)
    counts = resamples(int(kept.sum()))
    parts = [np.abs(spearman(v[kept], y[kept], counts)) for v in (x, other)]
    return interval(parts[0] - parts[1], int(kept.sum()))


@dataclass(frozen=True)
class Finding:
    """A claim as it came out: its correlation, the best other quantity, and the paired difference to that."""

    claim: Claim
    found: Interval
    partial: Interval
    rival: str
    rival_found: Interval
    ahead: Interval

    @property
    def reaches(self) -> bool:
        """Whether the correlation is at least 0.9."""
        return self.found.value >= BAR

    @property
    def leads(self) -> bool:
        """Whether it is above the best other quantity with an interval that excludes equality."""
        return self.ahead.low > 0


def finding(table: Table, claim: Claim, mask: Array) -> Finding:
    """One claim on the models of a mask; its rival is whichever raw norm or peer has the largest |ρ| there."""
    found = {name: correlation(table, name, claim.damage, mask) for name in (*RAW, *PEERS)}
    known = {name: value for name, value in found.items() if value is not None}
    rival = max(known, key=lambda name: abs(known[name].value))
    own = correlation(table, claim.quantity, claim.damage, mask)
    rest = given_accuracy(table, claim.quantity, claim.damage, mask)
    assert own is not None and rest is not None
    ahead = difference(table, claim.quantity, rival, claim.damage, mask)
    return Finding(claim, own, rest, rival, known[rival], ahead)


def findings(table: Table) -> list[Finding]:
    """The claims on the held-out half."""
    mask = table.where(half="held-out")
    return [finding(table, claim, mask) for claim in CLAIMS]
