"""Why claims fail or hold: the same correlations level by level, within data sets, and by kind of model."""

from __future__ import annotations

import numpy as np

from studies.validity.analysis import correlation, defined, rising
from studies.validity.damages.explanations import RADII
from studies.validity.damages.inputs import NOISE
from studies.validity.damages.weights import SHAKEN
from studies.validity.names import CLAIMS
from studies.validity.statistics import Array, Interval, interval, pearson, ranks, resamples
from studies.validity.table import Table
from studies.validity.words import shown


def within(table: Table, quantity: str, damage: str, mask: Array) -> Interval:
    """ρ of ranks taken within each data set, centred there: what is left when data sets are not compared."""
    x, y = rising(table, quantity), table.damage(damage)
    kept = mask & defined(x, y)
    columns = [np.zeros(len(table)), np.zeros(len(table))]
    for data in set(table.text["data"]):
        part = kept & table.where(data=data)
        for column, values in zip(columns, (x, y), strict=True):
            found = ranks(values[part], np.ones((1, int(part.sum()))))[0]
            column[part] = found - found.mean()
    n = int(kept.sum())
    return interval(pearson(columns[0][kept][None], columns[1][kept][None], resamples(n)), n)


def why(table: Table) -> list[str]:
    """Blocks of the page."""
    held = table.where(half="held-out")
    levels = {
        "noise": [f"noise.{level:g}" for level in NOISE],
        "shaken": [f"shaken.{level:g}" for level in SHAKEN],
        "attacked.0.1": [f"attacked.{radius:g}{kind}" for radius in RADII for kind in ("", ".median")],
    }
    rows = []
    for claim in CLAIMS:
        inside = within(table, claim.quantity, claim.damage, held)
        by_level = [(d, correlation(table, claim.quantity, d, held)) for d in levels[claim.damage]]
        cells = ", ".join(f"`{d}` {found.value:.2f}" for d, found in by_level if found)
        whole = correlation(table, claim.quantity, claim.damage, held)
        rows.append(f"| {claim.title} | {shown(whole)} | {shown(inside)} | {cells} |")
    head = ["| claim | ρ | ρ within data sets | level by level |", "|---|---|---|---|"]
    return ["## Looking closer", "\n".join([*head, *rows])]
