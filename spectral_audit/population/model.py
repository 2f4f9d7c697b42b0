"""A population of models: the figures of all of them, and how they were measured."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from pathlib import Path

from spectral_audit.errors import RefusedError
from spectral_audit.reports.artifact import decode_as
from spectral_audit.results import AXES, Attribution, Estimate, Report

SCHEMA = "spectral-audit/population/1"
SHIPPED = Path(__file__).with_name("reference.json")
_REMEDY = "write one with spectral-audit calibrate reports/*.json -o population.json"

AXIS_FIGURES = tuple(f"{axis}.{column}" for axis in AXES for column in ("worst", "typical"))
INDEX_FIGURES = ("gmsi.worst", "gmsi.typical")
SCORE_FIGURES = ("attribution.score", "attribution.score_worst")
FIGURES = (*AXIS_FIGURES, *INDEX_FIGURES, *SCORE_FIGURES)


@dataclass(frozen=True)
class Conditions:
    """What has to be equal before two figures may be compared.

    `index` is the aggregation with its weights, `explained` the attribution's method and perturbation, '' without one.
    """

    definition: str
    task: str
    index: str
    explained: str


@dataclass(frozen=True)
class Population:
    """Sorted figures of `models` audits by name, of `n` samples each, and how they came about.

    Undefined figures are left out, so that a list may be shorter than the population.
    """

    schema: str
    name: str
    made: str
    models: int
    n: int
    data: tuple[str, ...]
    families: tuple[str, ...]
    conditions: Conditions
    figures: dict[str, tuple[float, ...]]


def conditions_of(report: Report) -> Conditions:
    """How the figures of a report were measured."""
    index = report.gmsi
    weights = ", ".join(f"{name} {weight:g}" for name, weight in sorted(index.weights.items()))
    explained = "" if report.attribution is None else _explained(report.attribution)
    return Conditions(index.definition, report.task.type, f"{index.aggregation}: {weights}", explained)


def _explained(a: Attribution) -> str:
    radius = f"{a.radius:g} X" if a.radius is not None else f"{a.radius_absolute:g}"
    parts = [a.score_definition, a.method, a.sign, a.channels, f"radius {radius}", a.norm, f"{a.space} space"]
    return ", ".join([*parts, f"{a.draws} draws", f"{a.search_steps} steps"])


def figures_of(report: Report) -> dict[str, float | None]:
    """The figures that a population is about, by name; `None` where one is undefined."""
    found: dict[str, Estimate] = {}
    for name in AXES:
        axis = getattr(report.axes, name)
        found |= {f"{name}.worst": axis.worst, f"{name}.typical": axis.typical}
    found |= {"gmsi.worst": report.gmsi.worst, "gmsi.typical": report.gmsi.typical}
    if report.attribution is not None:
        found |= {name: getattr(report.attribution, name.partition(".")[2]) for name in SCORE_FIGURES}
    values = {name: estimate.value if estimate.status == "ok" else None for name, estimate in found.items()}
    return {name: values.get(name) for name in FIGURES}


@cache
def shipped() -> Population:
    """The population that comes with the package."""
    return load_population(SHIPPED)


def load_population(path: Path) -> Population:
    """The population saved in a JSON file. Raises RefusedError for a file that cannot be read or holds none."""
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        found = getattr(error, "strerror", None) or (str(error).splitlines() or [""])[0]
        raise _refused(path, "cannot be read as JSON", found) from error
    schema = document.get("schema") if isinstance(document, dict) else None
    if schema != SCHEMA:
        raise _refused(path, "is no population this version reads", f"schema {schema!r}"[:80])
    population = decode_as(Population, document, source=str(path))
    problem = _problem(population)
    if problem:
        raise _refused(path, "contradicts itself", problem)
    return population


def _problem(population: Population) -> str:
    """What is wrong with the figures, '' for nothing."""
    for name, values in population.figures.items():
        if name not in FIGURES:
            return f"the unknown figure {name}"[:80]
        if len(values) > population.models:
            return f"{len(values)} models with {name}, of {population.models}"
        if any(b < a for a, b in pairwise(values)) or not all(map(math.isfinite, values)):
            return f"{name} is not in ascending order"
    return "" if population.figures else "no figures"


def _refused(path: Path, problem: str, found: str) -> RefusedError:
    return RefusedError(f"{path}: {problem}", expected=f"a population ({SCHEMA})", found=found, remedy=_REMEDY)
