"""The reference population of the package, from the raw table."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from spectral_audit.explanations import SCORE_DEFINITION
from spectral_audit.population.model import FIGURES, SCHEMA, Conditions, Population
from spectral_audit.reports.artifact import to_json
from spectral_audit.results import AXES
from studies.validity.table import Table

NAME = "reference/1"
_INDEX = "rss: " + ", ".join(f"{axis} 1" for axis in sorted(AXES))
_EXPLAINED = f"{SCORE_DEFINITION}, gradient, signed, kept, radius 0.1 X, l2, input space, 10 draws, 8 steps"
_DATA = {"mnist": "MNIST", "cifar10": "CIFAR-10", "digits": "digits", "breast_cancer": "breast cancer"}


def population(table: Table) -> Population:
    """Every model of the zoo, both halves."""
    columns = {name: table.known(name) for name in FIGURES}
    n = {int(v) for v in table.figures["n"]}
    (definition,) = set(table.text["definition"])
    return Population(
        schema=SCHEMA,
        name=NAME,
        made="the zoo of docs/validity.md: small models, trained briefly on subsets, half of them with penalties",
        models=len(table),
        n=n.pop(),
        data=tuple(_DATA[name] for name in sorted(set(table.text["data"]))),
        families=tuple(sorted(set(table.text["architecture"]))),
        conditions=Conditions(definition, "classification", _INDEX, _EXPLAINED),
        figures={name: tuple(np.sort(v[np.isfinite(v)]).tolist()) for name, v in columns.items()},
    )


def write_population(table: Table, path: Path) -> None:
    """Write it where the package looks for it."""
    path.write_text(to_json(population(table)), encoding="utf-8")
