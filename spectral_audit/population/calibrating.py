"""A population from saved reports."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import PurePath

from spectral_audit.errors import RefusedError, UsageError
from spectral_audit.population.model import (
    FIGURES,
    SCHEMA,
    SCORE_FIGURES,
    Conditions,
    Population,
    conditions_of,
    figures_of,
)
from spectral_audit.results import Report

FEWEST = 10
"""Models below which a share says little: one model more or less is a tenth."""


def calibrate(reports: Sequence[tuple[str, Report]], *, name: str) -> Population:
    """The population of these reports, each with the name of its file.

    Raises UsageError for fewer than ten models or the same one twice, and RefusedError for reports whose definition,
    task, aggregation or n differ or that are about noise. Explanations measured in different ways are left out.
    """
    _require_enough(reports)
    first, base = reports[0]
    own = conditions_of(base)
    for path, report in reports:
        _require_same(path, report, first, base, own)
    explained = {conditions_of(report).explained for _, report in reports}
    kept = FIGURES if len(explained) == 1 else tuple(f for f in FIGURES if f not in SCORE_FIGURES)
    columns = {figure: [figures_of(report)[figure] for _, report in reports] for figure in kept}
    figures = {figure: tuple(sorted(v for v in column if v is not None)) for figure, column in columns.items()}
    return Population(
        schema=SCHEMA,
        name=name,
        made=f"spectral-audit {base.engine.version} from {len(reports)} reports",
        models=len(reports),
        n=base.data.n,
        data=tuple(sorted({PurePath(report.data.path).name for _, report in reports})),
        families=tuple(sorted({report.model.architecture.partition("(")[0] for _, report in reports})),
        conditions=Conditions(own.definition, own.task, own.index, explained.pop() if len(explained) == 1 else ""),
        figures={figure: values for figure, values in figures.items() if values},
    )


def _require_enough(reports: Sequence[tuple[str, Report]]) -> None:
    seen: dict[tuple[str, str], str] = {}
    for path, report in reports:
        key = (report.model.sha256, report.data.probe_sha256)
        if key in seen:
            raise UsageError(
                f"{path}: the model of {seen[key]} once more, on the same samples",
                expected="every model once",
                found=f"sha256 {report.model.sha256[:12]} twice",
                remedy="name each report once",
            )
        seen[key] = path
    if len(reports) < FEWEST:
        raise UsageError(
            "too few reports for a population",
            expected=f"at least {FEWEST} models",
            found=f"{len(reports)}",
            remedy="audit more models first, for instance with spectral-audit score MODEL -o FOLDER",
        )


def _require_same(path: str, report: Report, first: str, base: Report, own: Conditions) -> None:
    mine = conditions_of(report)
    pairs = [(name, str(getattr(mine, name)), str(getattr(own, name))) for name in ("definition", "task", "index")]
    pairs.append(("n", str(report.data.n), str(base.data.n)))
    for name, found, wanted in pairs:
        if found != wanted:
            raise RefusedError(
                f"{path}: its {name} is not that of {first}",
                expected=wanted,
                found=found,
                remedy="audit all models of a population in the same way",
            )
    if report.data.synthetic:
        raise RefusedError(
            f"{path}: was audited on noise",
            expected="audits on real data",
            found="synthetic data",
            remedy="audit the model on its data, with --data or a spec",
        )
