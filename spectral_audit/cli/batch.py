"""`spectral-audit batch`: many checkpoints into one ledger; `leaderboard` and `history` read it."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from spectral_audit.cli.options import AuditOptions, with_audit_options
from spectral_audit.cli.running import guarded
from spectral_audit.errors import ExitCode

if TYPE_CHECKING:
    from spectral_audit.batch.jobs import Job
    from spectral_audit.batch.ledger import Entry, Ledger
    from spectral_audit.batch.run import Plan
    from spectral_audit.batch.work import Budget

LedgerOption = Annotated[Path, typer.Option("--ledger", help="The file that keeps the results.")]
DEFAULT = Path("spectral-audit.db")


@with_audit_options
def batch(
    targets: Annotated[
        list[str], typer.Argument(metavar="TARGET...", help="Checkpoints, folders, patterns in quotes, manifests.")
    ],
    options: AuditOptions,
    ledger: LedgerOption = DEFAULT,
    jobs: Annotated[
        int | None, typer.Option(min=1, help="Processes; one for each GPU by default, else one for two cores.")
    ] = None,
    timeout: Annotated[float | None, typer.Option(min=0.001, help="Seconds that one model may take.")] = None,
    retry_failed: Annotated[bool, typer.Option("--retry-failed", help="Audit again what failed before.")] = False,
) -> None:
    """Audit many checkpoints; what is in the ledger and unchanged is not done again. Exit 3 if a model failed."""

    def run() -> None:
        from spectral_audit.batch.jobs import Job, find_jobs
        from spectral_audit.batch.ledger import Ledger
        from spectral_audit.batch.run import plan
        from spectral_audit.batch.work import Budget

        settings = options.settings()
        found = find_jobs(targets, Job(path="", **settings | {"spec": str(options.spec) if options.spec else None}))
        with Ledger(ledger) as kept:
            planned = plan(found, kept, retry_failed=retry_failed)
            workers = min(jobs, len(planned.missing)) if jobs and planned.missing else jobs
            budget = Budget.of(workers, timeout, device=options.device.value)
            _run(planned, kept, budget)
            failed = _summary(found, kept)
        raise typer.Exit(ExitCode.REFUSED if failed else ExitCode.OK)

    guarded(run)


def _run(planned: Plan, kept: Ledger, budget: Budget) -> None:
    """Do what is missing, with a live table on a terminal and plain lines elsewhere."""
    from spectral_audit.batch.run import run

    done = len(planned.jobs) - len(planned.missing)
    workers = f", {budget.workers} processes of {budget.threads} threads" if planned.missing else ""
    typer.echo(f"{len(planned.jobs)} models, {done} unchanged{workers}", err=True)
    try:
        if planned.missing and sys.stderr.isatty():
            from spectral_audit.batch.live import live_table

            with live_table(len(planned.missing)) as report:
                run(planned, kept, budget, report)
        else:
            run(planned, kept, budget, _lines(len(planned.missing)))
    except KeyboardInterrupt:
        typer.echo("stopped; what was finished is in the ledger: run the same command to go on", err=True)
        raise


def _lines(total: int) -> Callable[[Job, Entry | None], None]:
    from spectral_audit.batch.pages import result_line

    ended = 0

    def report(job: Job, entry: Entry | None) -> None:
        nonlocal ended
        if entry is not None:
            ended += 1
            typer.echo(f"[{ended}/{total}] {result_line(job.path, entry)}", err=True)

    return report


def _summary(found: list[Job], kept: Ledger) -> int:
    """Print the table of these models; return how many failed."""
    from rich.console import Console

    from spectral_audit.batch.pages import render_leaderboard
    from spectral_audit.batch.table import rows_of
    from spectral_audit.reports.look import Look

    entries = kept.entries()
    rows = rows_of({job.path: entries[job.path] for job in found if job.path in entries})
    typer.echo(render_leaderboard(rows, Look.of(Console())), nl=False)
    return sum(row.outcome != "ok" for row in rows)
