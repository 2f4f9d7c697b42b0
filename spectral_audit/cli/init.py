"""`spectral-audit init`: the first draft of an audit.yaml."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from spectral_audit.cli.choices import TrustLevel
from spectral_audit.cli.options import key_values
from spectral_audit.cli.running import guarded
from spectral_audit.errors import UsageError


def init(
    checkpoint: Annotated[Path, typer.Argument(help="The checkpoint the spec is for.", show_default=False)],
    data: Annotated[str | None, typer.Option(help="Data file, folder, python:file.py:function or synthetic.")] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="The file to write; <stem>.audit.yaml beside the model.")
    ] = None,
    arch: Annotated[str | None, typer.Option(help="Who builds the model, as for score.")] = None,
    arch_kwargs: Annotated[
        list[str] | None, typer.Option(metavar="KEY=VALUE", help="An argument of the builder.")
    ] = None,
    weights: Annotated[str | None, typer.Option(help="Which state dict, when the checkpoint holds several.")] = None,
    trust: Annotated[TrustLevel, typer.Option(help="What files may run.")] = TrustLevel.none,
    force: Annotated[bool, typer.Option("--force", help="Replace the file.")] = False,
) -> None:
    """Write a commented audit.yaml from what a checkpoint and its data tell."""

    def run() -> None:
        from spectral_audit.drafting import draft
        from spectral_audit.opening import Request

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
            arch_kwargs=key_values(arch_kwargs or []),
            weights=weights,
            trust=trust.value,
        )
        text = draft(request, target)
        try:
            target.write_text(text, encoding="utf-8")
        except OSError as error:
            raise UsageError(
                f"{target}: cannot be written",
                expected="a file in a folder that exists",
                found=error.strerror or str(error),
                remedy="name another one with -o.",
            ) from None
        typer.echo(f"wrote {target}", err=True)

    guarded(run)
