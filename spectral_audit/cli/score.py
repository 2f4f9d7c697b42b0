"""`spectral-audit score`: one checkpoint, one report."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from spectral_audit.cli.choices import Aggregation, Device, DType, Format, Regime, TrustLevel
from spectral_audit.cli.options import key_values
from spectral_audit.cli.running import guarded, with_progress

if TYPE_CHECKING:
    from spectral_audit.opening import Request


def score(
    checkpoint: Annotated[Path, typer.Argument(help="The checkpoint to audit.", show_default=False)],
    spec: Annotated[Path | None, typer.Option(help="audit.yaml; by default the one beside the checkpoint.")] = None,
    data: Annotated[
        str | None, typer.Option(help="Data file, folder, python:file.py:function or synthetic; overrides the spec.")
    ] = None,
    output_format: Annotated[Format, typer.Option("--format", "-f", help="What to print.")] = Format.rich,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Directory for the report in every format.")
    ] = None,
    arch: Annotated[
        str | None, typer.Option(help="Who builds the model: file.py:function, module:function or a family.")
    ] = None,
    arch_kwargs: Annotated[
        list[str] | None, typer.Option(metavar="KEY=VALUE", help="An argument of the builder, in YAML.")
    ] = None,
    weights: Annotated[str | None, typer.Option(help="Which state dict, when the checkpoint holds several.")] = None,
    trust: Annotated[TrustLevel, typer.Option(help="What files may run.")] = TrustLevel.none,
    allow_partial: Annotated[
        bool, typer.Option("--allow-partial", help="Load what fits; no verdict is then more than inconclusive.")
    ] = False,
    n: Annotated[int | None, typer.Option("--n", min=2, help="Probe samples; overrides the spec.")] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="Seed of every draw; overrides the spec.")] = None,
    device: Annotated[Device, typer.Option(help="Where to compute.")] = Device.auto,
    dtype: Annotated[DType, typer.Option(help="Precision of the passes.")] = DType.float32,
    chunk: Annotated[int | None, typer.Option(min=1, help="Samples per pass; chosen by default.")] = None,
    memory: Annotated[
        str | None, typer.Option(help="Memory to use: 8GB, 500MiB, or a share of what is free; 0.6 by default.")
    ] = None,
    aggregation: Annotated[Aggregation, typer.Option(help="How the axes become the index.")] = Aggregation.rss,
    attribution: Annotated[
        list[str] | None,
        typer.Option(
            metavar="METHOD", help="An explanation: gradient, smoothgrad, …, or file.py:function; repeatable."
        ),
    ] = None,
    regime: Annotated[Regime, typer.Option(help="Kernels exact or by products; chosen by size.")] = Regime.auto,
) -> None:
    """Audit a checkpoint on real data and print the report."""

    def run() -> None:
        from spectral_audit.opening import Request

        request = Request(
            checkpoint=checkpoint,
            spec=spec,
            data=data,
            arch=arch,
            arch_kwargs=key_values(arch_kwargs or []),
            weights=weights,
            trust=trust.value,
            allow_partial=allow_partial,
            n=n,
            seed=seed,
            device=device.value,
            dtype=dtype.value,
            chunk=chunk,
            memory=memory,
            aggregation=aggregation.value,
            regime=regime.value,
            attribution=tuple(attribution or ()),
        )
        _score(request, output_format, output)

    guarded(run)


def _score(request: Request, output_format: Format, output: Path | None) -> None:
    from rich.console import Console

    from spectral_audit.audit import audit
    from spectral_audit.explanations import Sheet
    from spectral_audit.reports import WRITERS, require_writable, write_all
    from spectral_audit.reports.look import Look
    from spectral_audit.reports.sheet import draw_sheet, without_picture
    from spectral_audit.reports.terminal import render_report

    if output:
        require_writable(output)
    sheets: list[Sheet] = []
    report = with_progress(lambda progress: audit(request, progress, sheets.append if output else None))
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
