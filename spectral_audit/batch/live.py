"""The live table of a batch on a terminal's standard error."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from spectral_audit.batch.jobs import Job
from spectral_audit.batch.ledger import Entry
from spectral_audit.batch.pages import result_line
from spectral_audit.batch.table import shown
from spectral_audit.reports import words


@contextmanager
def live_table(total: int) -> Iterator[Callable[[Job, Entry | None], None]]:
    """Finished models as lines that stay, and below them how far the batch is and what is running."""
    columns = [
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    ]
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        overall = bar.add_task("models", total=total)
        running = {}

        def report(job: Job, entry: Entry | None) -> None:
            if entry is None:
                running[job.path] = bar.add_task(words.middle(shown(job.path), 40), total=None)
                return
            if job.path in running:
                bar.remove_task(running.pop(job.path))
            bar.advance(overall)
            bar.console.print(result_line(job.path, entry), markup=False, highlight=False)

        yield report
