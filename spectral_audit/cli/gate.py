"""`spectral-audit gate`: rules about a model or a saved report, and one exit code."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from spectral_audit.cli import options
from spectral_audit.cli.choices import Aggregation, Device, DType, Inconclusive, TrustLevel, VerdictFormat
from spectral_audit.cli.running import append_summary, guarded
from spectral_audit.cli.subjects import report_of
from spectral_audit.errors import UsageError, nearest

if TYPE_CHECKING:
    from spectral_audit.gate.policy import Policy
    from spectral_audit.gate.verdict import Verdict


def gate(
    subject: Annotated[
        Path, typer.Argument(metavar="MODEL|REPORT", help="A checkpoint, or its report in JSON or YAML.")
    ],
    require: Annotated[
        list[str] | None, typer.Option(metavar="RULE", help="A rule, such as 'gmsi.typical<=2.5'; may be repeated.")
    ] = None,
    policy: Annotated[
        Path | None, typer.Option(help="Rules in YAML; by default those of the nearest pyproject.toml.")
    ] = None,
    preset: Annotated[str | None, typer.Option(help="Ready rules: lenient, standard or strict.")] = None,
    inconclusive: Annotated[
        Inconclusive | None, typer.Option(help="What an undecided rule means: exit code 4 (report), pass or fail.")
    ] = None,
    output_format: Annotated[VerdictFormat, typer.Option("--format", "-f", help="What to print.")] = VerdictFormat.rich,
    output: Annotated[
        list[Path] | None,
        typer.Option("--output", "-o", help="Also write .json, .md, .txt, .xml (JUnit) or .sarif; may be repeated."),
    ] = None,
    spec: options.Spec = None,
    arch: options.Arch = None,
    arch_kwargs: options.ArchKwargs = None,
    trust: options.Trust = TrustLevel.none,
    n: options.Samples = None,
    seed: options.Seed = None,
    device: options.DeviceOption = Device.auto,
    dtype: options.DTypeOption = DType.float32,
    memory: options.Memory = None,
    aggregation: options.AggregationOption = Aggregation.rss,
) -> None:
    """Judge a checkpoint or a saved report by rules: exit 0 passed, 1 failed, 4 undecided."""

    def run() -> None:
        from spectral_audit.gate.judge import caps, conclude, judge_rule

        rules = _policy(require or [], policy, preset, inconclusive)
        _require_outputs(output or [])
        report = report_of(
            subject,
            lambda: options.request_for(
                subject,
                spec=spec,
                arch=arch,
                arch_kwargs=arch_kwargs,
                trust=trust,
                n=n,
                seed=seed,
                device=device,
                dtype=dtype,
                memory=memory,
                aggregation=aggregation,
            ),
        )
        judgements = [judge_rule(report, rule) for rule in rules.rules]
        verdict = conclude(report, judgements, on_inconclusive=rules.on_inconclusive or "report", capped=caps(report))
        _announce(verdict, output_format, output or [])
        raise typer.Exit(verdict.exit_code)

    guarded(run)


def _policy(require: list[str], path: Path | None, name: str | None, inconclusive: Inconclusive | None) -> Policy:
    """The rules of the files, below those of a preset that was asked for, below those of the command line."""
    from spectral_audit.gate.paths import check_path
    from spectral_audit.gate.policy import Policy, find_policy, load_policy, preset
    from spectral_audit.gate.rules import parse_rule

    found = load_policy(path) if path else find_policy(Path.cwd())
    if name:
        found = preset(name).over(found)
    own = Policy(tuple(map(parse_rule, require)), on_inconclusive=inconclusive.value if inconclusive else None)
    found = own.over(found)
    for rule in found.rules:
        check_path(rule.path)
    return found


def _require_outputs(files: list[Path]) -> None:
    """Say before an audit that a file cannot be written, or that nobody knows in which format."""
    from spectral_audit.reports import require_writable
    from spectral_audit.reports.verdict import SUFFIXES

    for file in files:
        if file.suffix.lower() not in SUFFIXES:
            raise UsageError(
                f"--output {file}: no known format",
                expected=nearest(file.suffix, SUFFIXES),
                found=file.suffix or "no suffix",
                remedy="end the name with the suffix of a format",
            )
        require_writable(file.parent)


def _announce(verdict: Verdict, output_format: VerdictFormat, files: list[Path]) -> None:
    """Print the verdict, write its files, and add it to the summary of a GitHub step."""
    from rich.console import Console

    from spectral_audit.reports.files import write_file
    from spectral_audit.reports.look import Look
    from spectral_audit.reports.verdict import SUFFIXES, VERDICT_WRITERS, render_verdict, to_markdown

    if output_format is VerdictFormat.rich:
        typer.echo(render_verdict(verdict, Look.of(Console())), nl=False)
    else:
        typer.echo(VERDICT_WRITERS[output_format.value](verdict), nl=False)
    append_summary(to_markdown(verdict))
    for file in files:
        write_file(file, VERDICT_WRITERS[SUFFIXES[file.suffix.lower()]](verdict))
