"""`spectral-audit score`: one checkpoint, one report."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from spectral_audit.cli.choices import Format
from spectral_audit.cli.options import AuditOptions, with_audit_options
from spectral_audit.cli.running import guarded, with_progress
from spectral_audit.cli.together import together

if TYPE_CHECKING:
    from spectral_audit.opening import Request
    from spectral_audit.ranks import Ranks


@with_audit_options
def score(
    checkpoint: Annotated[Path, typer.Argument(help="The checkpoint to audit.", show_default=False)],
    options: AuditOptions,
    output_format: Annotated[Format, typer.Option("--format", "-f", help="What to print.")] = Format.rich,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Directory for the report in every format.")
    ] = None,
) -> None:
    """Audit a checkpoint on real data and print the report."""
    guarded(lambda: together(lambda ranks: _score(options.request(checkpoint), output_format, output, ranks)))


def _score(request: Request, output_format: Format, output: Path | None, ranks: Ranks) -> None:
    from rich.console import Console

    from spectral_audit.audit import audit
    from spectral_audit.explanations import Sheet
    from spectral_audit.reports import WRITERS, require_writable, write_all
    from spectral_audit.reports.look import Look
    from spectral_audit.reports.sheet import draw_sheet, without_picture
    from spectral_audit.reports.terminal import render_report

    if output and ranks.rank == 0:
        require_writable(output)
    sheets: list[Sheet] = []
    report = with_progress(lambda progress: audit(request, progress, sheets.append if output else None, ranks))
    if ranks.rank:
        return  # the first process says it all
    written: list[Path] = []
    if output:
        pictures, reason = draw_sheet(sheets, report.data.shape)
        report = without_picture(report, reason) if reason else report
        written = write_all(report, output, pictures)
    if output_format is Format.rich:
        typer.echo(render_report(report, Look.of(Console())), nl=False)
    else:
        typer.echo(WRITERS[output_format.value](report).rstrip("\n"))
    if written:
        typer.echo(f"wrote {', '.join(str(path) for path in written)}", err=True)
