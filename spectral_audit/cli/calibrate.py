"""`spectral-audit calibrate`: a population of one's own from saved reports."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from spectral_audit.cli.running import guarded


def calibrate(
    reports: Annotated[list[Path], typer.Argument(metavar="REPORT...", help="Saved reports, one for each model.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="The population to write, a .json file.")],
    name: Annotated[str | None, typer.Option(help="What reports call it; the file's name by default.")] = None,
) -> None:
    """Make a population from your own reports, for `score --reference`."""

    def run() -> None:
        from spectral_audit.population import calibrate as calibrated
        from spectral_audit.reports.artifact import load_report, to_json
        from spectral_audit.reports.files import write_file

        population = calibrated([(str(path), load_report(path)) for path in reports], name=name or output.stem)
        write_file(output, to_json(population))
        lacking = "" if population.conditions.explained else "; explanations left out, measured in different ways"
        typer.echo(f"wrote {output}: {population.models} models, n = {population.n}{lacking}", err=True)

    guarded(run)
