"""How a command runs: progress on standard error, and one message and one exit code for every way it can end."""

from __future__ import annotations

import os
import sys
import traceback
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import typer

from spectral_audit.errors import AuditError, ExitCode, UsageError

if TYPE_CHECKING:
    from rich.progress import Progress as Bar
    from rich.progress import TaskID

_Result = TypeVar("_Result")


def with_progress(work: Callable[[Callable[[str, int, int | None], None]], _Result]) -> _Result:
    """Run `work` with a progress bar on a terminal's standard error, and silently elsewhere."""
    if not sys.stderr.isatty():
        return work(lambda stage, done, total: None)
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    columns = [
        TextColumn("{task.description:<12}"),
        BarColumn(),
        TextColumn("{task.fields[count]:>9}"),
        TimeElapsedColumn(),
    ]
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        tasks: dict[str, TaskID] = {}

        def show(stage: str, done: int, total: int | None) -> None:
            count = f"{done}/{total}" if total else str(done or "")
            if stage not in tasks:
                _finish(bar, tasks)
                tasks[stage] = bar.add_task(stage, total=total, count=count)
            bar.update(tasks[stage], completed=done, count=count)

        return work(show)


def append_summary(markdown: str) -> None:
    """Add a text to the summary of a GitHub step, where there is one; a summary that fails changes no exit code."""
    path = os.environ.get("GITHUB_STEP_SUMMARY")
    if not path:
        return
    try:
        with Path(path).open("a", encoding="utf-8", errors="backslashreplace") as file:
            file.write(markdown + "\n")
    except OSError as error:
        typer.echo(f"warning: GITHUB_STEP_SUMMARY {path}: {error.strerror or error}", err=True)


def _finish(bar: Bar, tasks: dict[str, TaskID]) -> None:
    for task in tasks.values():
        bar.remove_task(task)
    tasks.clear()


def guarded(command: Callable[[], None]) -> None:
    """Run a command; every way it can end becomes one message and one exit code."""
    try:
        with warnings.catch_warnings():
            if not os.environ.get("SPECTRAL_AUDIT_DEBUG"):
                # Libraries announce their own future here, which the user of this command cannot act on.
                for category in (FutureWarning, DeprecationWarning):
                    warnings.simplefilter("ignore", category)
            command()
    except typer.Exit:
        raise
    except BrokenPipeError:
        # The reader of our output left; nobody is there to be told.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise typer.Exit(ExitCode.OK) from None
    except (Exception, SystemExit, KeyboardInterrupt) as error:  # noqa: BLE001 — the last line of defence: other exit codes mean a verdict
        message, code = ending(error)
        typer.echo(message, err=True)
        raise typer.Exit(code) from None


def ending(error: BaseException) -> tuple[str, ExitCode]:
    """What to say of the error that ends a command, and its exit code."""
    if isinstance(error, AuditError):
        return f"error: {error}", error.exit_code
    if isinstance(error, KeyboardInterrupt):
        return "interrupted", ExitCode.INTERRUPTED
    if "allocate memory" in str(error) or "out of memory" in str(error).lower() or isinstance(error, MemoryError):
        shortage = UsageError(
            "out of memory",
            expected="memory for the passes and for kernels of (samples × outputs)² float64 numbers",
            found=" ".join(str(error).split())[:120] or type(error).__name__,
            remedy="lower --memory or --chunk, then --n",
        )
        return f"error: {shortage}", ExitCode.REFUSED
    if os.environ.get("SPECTRAL_AUDIT_DEBUG"):
        traceback.print_exception(error)
    summary = " ".join(str(error).split())[:300]
    said = (
        f"internal error: {type(error).__name__}: {summary}\n"
        "  this is a defect of spectral-audit, not of your files\n"
        "  remedy    set SPECTRAL_AUDIT_DEBUG=1 for the details and report them"
    )
    return said, ExitCode.INTERNAL
