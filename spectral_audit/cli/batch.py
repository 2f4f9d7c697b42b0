"""`spectral-audit batch`: many checkpoints into one ledger; `leaderboard` and `history` read it."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from spectral_audit.cli.choices import EngineName
from spectral_audit.cli.options import AuditOptions, with_audit_options
from spectral_audit.cli.running import guarded
from spectral_audit.errors import ExitCode

if TYPE_CHECKING:
    from spectral_audit.batch.jobs import Job
    from spectral_audit.batch.ledger import Entry, Ledger
    from spectral_audit.batch.run import Plan
    from spectral_audit.batch.work import Engine

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
    engine: Annotated[EngineName, typer.Option(help="Where to run: local processes, or a Ray cluster.")] = (
        EngineName.local
    ),
    ray_address: Annotated[
        str | None, typer.Option(help="Address of the Ray cluster; else RAY_ADDRESS, else one is started.")
    ] = None,
    retry_failed: Annotated[bool, typer.Option("--retry-failed", help="Audit again what failed before.")] = False,
) -> None:
    """Audit many checkpoints; what is in the ledger and unchanged is not done again. Exit 3 if a model failed."""

    def run() -> None:
        from spectral_audit.batch.jobs import Job, find_jobs
        from spectral_audit.batch.ledger import Ledger
        from spectral_audit.batch.run import plan

        settings = options.settings()
        found = find_jobs(targets, Job(path="", **settings | {"spec": str(options.spec) if options.spec else None}))
        with Ledger(ledger) as kept:
            planned = plan(found, kept, retry_failed=retry_failed)
            wanted = min(jobs, len(planned.missing)) if jobs and planned.missing else jobs
            if engine is EngineName.ray and planned.missing:
                workers = _on_ray(ray_address, wanted, timeout, options)
            else:
                workers = _here(wanted, timeout, options)
            _run(planned, kept, workers)
            failed = _summary(found, kept)
        raise typer.Exit(ExitCode.REFUSED if failed else ExitCode.OK)

    guarded(run)


def _here(jobs: int | None, timeout: float | None, options: AuditOptions) -> Engine:
    from spectral_audit.batch.work import Budget, Pool

    return Pool(Budget.of(jobs, timeout, device=options.device.value))


def _on_ray(address: str | None, jobs: int | None, timeout: float | None, options: AuditOptions) -> Engine:
    from spectral_audit.batch.cluster import RayCluster

    return RayCluster(address, jobs, timeout, device=options.device.value)


def _run(planned: Plan, kept: Ledger, engine: Engine) -> None:
    """Do what is missing, with a live table on a terminal and plain lines elsewhere."""
    from spectral_audit.batch.run import run

    done = len(planned.jobs) - len(planned.missing)
    workers = f", {engine.workers} processes of {engine.threads} threads" if planned.missing else ""
    typer.echo(f"{len(planned.jobs)} models, {done} unchanged{workers}", err=True)
    try:
        if planned.missing and sys.stderr.isatty():
            from spectral_audit.batch.live import live_table

            with live_table(len(planned.missing)) as report:
                run(planned, kept, engine, report)
        else:
            run(planned, kept, engine, _lines(len(planned.missing)))
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
