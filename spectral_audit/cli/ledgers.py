"""`spectral-audit leaderboard` and `history`: what a ledger holds."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from spectral_audit.cli.batch import DEFAULT, LedgerOption
from spectral_audit.cli.running import guarded

Paths = Annotated[list[str] | None, typer.Argument(metavar="[PATTERN]...", help="Models whose path fits.")]


def leaderboard(
    patterns: Paths = None,
    ledger: LedgerOption = DEFAULT,
    sort: Annotated[str, typer.Option(help="A figure such as gmsi.worst, or path.")] = "gmsi.typical",
    descending: Annotated[bool, typer.Option("--descending", help="Largest first.")] = False,
    top: Annotated[int | None, typer.Option(min=1, help="So many rows.")] = None,
    where: Annotated[
        list[str] | None, typer.Option("--filter", metavar="RULE", help="Rows that hold 'data.accuracy>=0.9'.")
    ] = None,
    export: Annotated[Path | None, typer.Option(help="Write .csv, .json or .parquet, every figure in it.")] = None,
) -> None:
    """Rank the models of a ledger."""

    def run() -> None:
        from rich.console import Console

        from spectral_audit.batch.export import export as write
        from spectral_audit.batch.ledger import Ledger
        from spectral_audit.batch.pages import render_leaderboard
        from spectral_audit.batch.table import matching, ranked, rows_of
        from spectral_audit.gate.rules import parse_rule
        from spectral_audit.reports.look import Look

        rules = [parse_rule(text, source="--filter") for text in where or []]
        with Ledger(ledger, create=False) as kept:
            rows = rows_of(kept.entries())
        rows = ranked(matching(rows, patterns or [], rules), sort, descending=descending)
        if export:
            write(rows[:top], export)
        typer.echo(render_leaderboard(rows, Look.of(Console()), by=sort, top=top), nl=False)

    guarded(run)


def history(
    patterns: Paths = None,
    ledger: LedgerOption = DEFAULT,
    figure: Annotated[str, typer.Option(help="Which figure.")] = "gmsi.typical",
) -> None:
    """Show one figure over the checkpoints of a training run, in their order."""

    def run() -> None:
        from rich.console import Console

        from spectral_audit.batch.ledger import Ledger
        from spectral_audit.batch.pages import render_history
        from spectral_audit.batch.table import matching, ranked, rows_of
        from spectral_audit.reports.look import Look

        with Ledger(ledger, create=False) as kept:
            rows = matching(rows_of(kept.entries()), patterns or [], [])
        ranked(rows, figure)  # says so where there is no such figure
        typer.echo(render_history(rows, figure, Look.of(Console())), nl=False)

    guarded(run)
