"""`spectral-audit gate`: rules about a model or a saved report, and one exit code."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from spectral_audit.cli.choices import Inconclusive, VerdictFormat
from spectral_audit.cli.options import AuditOptions, with_audit_options
from spectral_audit.cli.running import append_summary, guarded, with_progress
from spectral_audit.cli.subjects import is_report, report_of
from spectral_audit.errors import UsageError, nearest

if TYPE_CHECKING:
    from spectral_audit.gate.policy import Policy
    from spectral_audit.gate.verdict import Verdict
    from spectral_audit.results import Report


@with_audit_options
def gate(
    subject: Annotated[
        Path, typer.Argument(metavar="MODEL|REPORT", help="A checkpoint, or its report in JSON or YAML.")
    ],
    options: AuditOptions,
    require: Annotated[
        list[str] | None, typer.Option(metavar="RULE", help="A rule, such as 'gmsi.typical<=2.5'; may be repeated.")
    ] = None,
    baseline: Annotated[
        Path | None, typer.Option(help="A saved report that --max-increase compares with.", show_default=False)
    ] = None,
    max_increase: Annotated[
        list[str] | None,
        typer.Option(metavar="RULE", help="How much a figure may grow over the baseline: 'gmsi.typical:5%'."),
    ] = None,
    adaptive: Annotated[
        bool, typer.Option("--adaptive", help="Begin with an eighth of the samples, and draw more while undecided.")
    ] = False,
    force: Annotated[bool, typer.Option("--force", help="Compare reports that are not comparable.")] = False,
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
) -> None:
    """Judge a checkpoint or a saved report by rules; exit 0 passed, 1 failed, 4 undecided."""

    def run() -> None:
        rules = _policy(require or [], max_increase or [], baseline, policy, preset, inconclusive)
        _require_outputs(output or [])

        old = _baseline(rules)
        if adaptive:
            verdict = _adaptive(subject, options, rules)
        else:
            verdict = _judge(report_of(subject, options.request), old, rules, subject, force)
        _announce(verdict, output_format, output or [])
        raise typer.Exit(verdict.exit_code)

    guarded(run)


def _baseline(rules: Policy) -> Report | None:
    """The report that limits of growth compare with, read before an audit."""
    from spectral_audit.reports.artifact import load_report

    return load_report(rules.baseline) if rules.increases and rules.baseline else None


def _judge(report: Report, old: Report | None, rules: Policy, subject: Path, force: bool) -> Verdict:
    from spectral_audit.gate.judge import caps, conclude, judge_rule

    judgements = [judge_rule(report, rule) for rule in rules.rules]
    capped = list(caps(report))
    if old is not None:
        from spectral_audit.comparison.comparable import require_comparable
        from spectral_audit.gate.increase import judge_increases

        explained = any(rule.path.startswith("attribution") for rule in rules.increases)
        require_comparable(old, report, (str(rules.baseline), str(subject)), attribution=explained, force=force)
        judgements += judge_increases(old, report, rules.increases)
        capped += [f"{reason} (baseline)" for reason in caps(old)]
    return conclude(
        report,
        judgements,
        on_inconclusive=rules.on_inconclusive or "report",
        baseline=str(rules.baseline) if rules.increases else None,
        capped=capped,
    )


def _adaptive(checkpoint: Path, options: AuditOptions, rules: Policy) -> Verdict:
    """Audits of more and more samples until the rules are decided."""
    from spectral_audit.audit import audit
    from spectral_audit.gate.adaptive import level_of, look_at, schedule, settle
    from spectral_audit.gate.judge import caps, conclude
    from spectral_audit.inputs.spec import SampleSpec, find_spec, load_spec

    if is_report(checkpoint) or rules.increases:
        raise UsageError(
            "--adaptive draws new samples",
            expected="a checkpoint, and rules about it alone",
            found="a saved report" if is_report(checkpoint) else "--max-increase, whose baseline has its own samples",
            remedy="leave out --adaptive",
        )
    path = options.spec or find_spec(checkpoint)
    maximum = options.n or (load_spec(path).sample.n if path else SampleSpec().n)
    sizes = schedule(maximum)
    level = level_of(len(sizes))
    requests = (replace(options, n=size).request(checkpoint) for size in sizes)
    reports = (with_progress(partial(audit, request)) for request in requests)
    look, judgements, looks = settle((look_at(report, level) for report in reports), rules.rules)
    return conclude(
        look.report,
        judgements,
        on_inconclusive=rules.on_inconclusive or "report",
        capped=caps(look.report),
        level=level,
        looks=looks,
    )


def _policy(
    require: list[str],
    increases: list[str],
    baseline: Path | None,
    path: Path | None,
    name: str | None,
    inconclusive: Inconclusive | None,
) -> Policy:
    """The rules of the files, below those of a preset that was asked for, below those of the command line."""
    from spectral_audit.gate.judge import require_some
    from spectral_audit.gate.paths import check_path
    from spectral_audit.gate.policy import Policy, find_policy, load_policy, preset
    from spectral_audit.gate.rules import parse_increase, parse_rule

    found = load_policy(path) if path else find_policy(Path.cwd())
    if name:
        found = preset(name).over(found)
    own = Policy(
        tuple(map(parse_rule, require)),
        tuple(map(parse_increase, increases)),
        baseline,
        inconclusive.value if inconclusive else None,
    )
    found = own.over(found)
    for named in [*(rule.path for rule in found.rules), *(rule.path for rule in found.increases)]:
        check_path(named)
    require_some([*found.rules, *found.increases])
    if found.increases and found.baseline is None:
        raise UsageError(
            "--max-increase: nothing to compare with",
            expected="--baseline REPORT, or `baseline` in the policy",
            found="neither",
            remedy="save a report with `spectral-audit score MODEL -o DIR` and name its report.json",
        )
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
