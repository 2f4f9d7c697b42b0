"""`spectral-audit baseline`: the report that later models are compared with."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from spectral_audit.cli.options import AuditOptions, with_audit_options
from spectral_audit.cli.running import guarded
from spectral_audit.cli.subjects import is_report, report_of
from spectral_audit.errors import RefusedError, UsageError

baseline = typer.Typer(help="Keep the report that later models are compared with.", no_args_is_help=True)


@baseline.callback()
def _root() -> None:
    pass


@baseline.command()
@with_audit_options
def update(
    subject: Annotated[Path, typer.Argument(metavar="MODEL|REPORT", help="What becomes the baseline.")],
    target: Annotated[Path, typer.Argument(metavar="BASELINE", help="The .json or .yaml file to write.")],
    options: AuditOptions,
) -> None:
    """Write a model's report, audited now or saved before, as the baseline."""

    def run() -> None:
        from spectral_audit.gate.judge import caps
        from spectral_audit.reports import require_writable
        from spectral_audit.reports.artifact import to_json, to_yaml
        from spectral_audit.reports.files import write_file

        if not is_report(target):
            raise UsageError(
                f"{target}: not the name of a report",
                expected=".json, .yaml or .yml",
                found=target.suffix or "no suffix",
                remedy="name the baseline as in baseline.json",
            )
        require_writable(target.parent)
        report = report_of(subject, options.request)
        if caps(report):
            raise RefusedError(
                f"{subject}: cannot be a baseline",
                expected="an audit of the whole model on real data",
                found="; ".join(caps(report)),
                remedy="audit the whole model on its data",
            )
        write_file(target, to_json(report) if target.suffix.lower() == ".json" else to_yaml(report))
        typer.echo(f"baseline {target}: {report.model.path}, sha256 {report.model.sha256[:12]}", err=True)

    guarded(run)
