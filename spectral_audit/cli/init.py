"""`spectral-audit init`: the first draft of an audit.yaml."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from spectral_audit.cli import options
from spectral_audit.cli.choices import TrustLevel
from spectral_audit.cli.running import guarded
from spectral_audit.errors import UsageError


def init(
    checkpoint: Annotated[Path, typer.Argument(help="The checkpoint the spec is for.", show_default=False)],
    data: Annotated[str | None, typer.Option(help="Data file, folder, python:file.py:function or synthetic.")] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="The file to write; <stem>.audit.yaml beside the model.")
    ] = None,
    arch: options.Arch = None,
    arch_kwargs: options.ArchKwargs = None,
    weights: options.Weights = None,
    trust: options.Trust = TrustLevel.none,
    force: Annotated[bool, typer.Option("--force", help="Replace the file.")] = False,
) -> None:
    """Write a commented audit.yaml from what a checkpoint and its data tell."""

    def run() -> None:
        from spectral_audit.drafting import draft
        from spectral_audit.opening import Request
        from spectral_audit.reports.files import write_file

        target = output or checkpoint.with_name(f"{checkpoint.stem}.audit.yaml")
        if target.exists() and not force:
            raise UsageError(
                f"{target}: exists already",
                expected="a file that is not there yet",
                found="a directory" if target.is_dir() else f"{target.stat().st_size} bytes",
                remedy="add --force to replace it, or name another one with -o.",
            )
        request = Request(
            checkpoint=checkpoint,
            data=data,
            arch=arch,
            arch_kwargs=options.key_values(arch_kwargs or []),
            weights=weights,
            trust=trust.value,
        )
        text = draft(request, target)
        if not target.parent.is_dir():
            raise UsageError(
                f"{target}: cannot be written",
                expected="a file in a folder that exists",
                found="no such folder",
                remedy="name another one with -o.",
            )
        write_file(target, text)
        typer.echo(f"wrote {target}", err=True)

    guarded(run)
