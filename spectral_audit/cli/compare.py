"""`spectral-audit compare`: what changed from one model or report to another."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from spectral_audit.cli.choices import ComparisonFormat
from spectral_audit.cli.options import AuditOptions, with_audit_options
from spectral_audit.cli.running import append_summary, guarded
from spectral_audit.cli.subjects import report_of


@with_audit_options
def compare(
    old: Annotated[Path, typer.Argument(metavar="OLD", help="A checkpoint, or a saved report.")],
    new: Annotated[Path, typer.Argument(metavar="NEW", help="A checkpoint, or a saved report.")],
    options: AuditOptions,
    output_format: Annotated[
        ComparisonFormat, typer.Option("--format", "-f", help="What to print.")
    ] = ComparisonFormat.rich,
    force: Annotated[bool, typer.Option("--force", help="Compare reports that are not comparable.")] = False,
) -> None:
    """Compare two models or reports: changes with intervals, by axis and by layer."""

    def run() -> None:
        from rich.console import Console

        from spectral_audit.comparison.comparable import require_comparable
        from spectral_audit.comparison.compare import compare as compared
        from spectral_audit.reports.artifact import to_json
        from spectral_audit.reports.comparison import comparison_markdown, render_comparison
        from spectral_audit.reports.look import Look

        reports = [report_of(path, options.request) for path in (old, new)]
        differences = require_comparable(reports[0], reports[1], (str(old), str(new)), force=force)
        found = compared(reports[0], reports[1], differences)
        if output_format is ComparisonFormat.rich:
            typer.echo(render_comparison(found, Look.of(Console())), nl=False)
        else:
            typer.echo(
                to_json(found) if output_format is ComparisonFormat.json else comparison_markdown(found), nl=False
            )
        append_summary(comparison_markdown(found))

    guarded(run)
