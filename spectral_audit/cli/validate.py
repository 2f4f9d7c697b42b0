"""`spectral-audit validate`: whether a spec, its data and its model fit together."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from spectral_audit.cli import options
from spectral_audit.cli.choices import TextFormat, TrustLevel
from spectral_audit.cli.running import guarded

if TYPE_CHECKING:
    from spectral_audit.opening import Request


def validate(
    spec: Annotated[Path, typer.Argument(help="The audit.yaml to check.", show_default=False)],
    checkpoint: Annotated[
        Path | None,
        typer.Argument(metavar="[MODEL]", help="The checkpoint; by default the one the spec is named after."),
    ] = None,
    output_format: Annotated[TextFormat, typer.Option("--format", "-f", help="What to print.")] = TextFormat.rich,
    arch: options.Arch = None,
    arch_kwargs: options.ArchKwargs = None,
    weights: options.Weights = None,
    trust: options.Trust = TrustLevel.none,
    n: options.Samples = None,
) -> None:
    """Check a spec: draw its data, run the model on it once, and show shapes, ranges, classes and accuracy."""

    def run() -> None:
        from rich.console import Console

        from spectral_audit.opening import Request
        from spectral_audit.reports.artifact import to_json
        from spectral_audit.reports.look import Look
        from spectral_audit.reports.validation import render_validation
        from spectral_audit.validation import model_beside, validate

        model = checkpoint or model_beside(spec)
        request: Request | None = None
        if model is not None:
            request = Request(
                checkpoint=model,
                spec=spec,
                arch=arch,
                arch_kwargs=options.key_values(arch_kwargs or []),
                weights=weights,
                trust=trust.value,
                n=n,
            )
        found = validate(request, spec, consent=trust is not TrustLevel.none)
        as_json = output_format is TextFormat.json
        typer.echo(to_json(found) if as_json else render_validation(found, Look.of(Console())), nl=False)

    guarded(run)
