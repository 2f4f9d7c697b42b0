"""`spectral-audit inspect`: what a checkpoint holds, running nothing from it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from spectral_audit.cli.running import guarded


def inspect(
    checkpoint: Annotated[Path, typer.Argument(help="The checkpoint to look into.", show_default=False)],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Show what a checkpoint holds, running nothing from it."""

    def run() -> None:
        from rich.console import Console

        from spectral_audit.inputs.checkpoints.inspection import inspect_checkpoint
        from spectral_audit.reports.artifact import to_json
        from spectral_audit.reports.inspection import render_inspection
        from spectral_audit.reports.look import Look

        found = inspect_checkpoint(checkpoint)
        typer.echo(to_json(found) if as_json else render_inspection(found, Look.of(Console())), nl=False)

    guarded(run)
