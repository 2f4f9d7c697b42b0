"""Decided by the interval: all of it inside the limit passes, all of it outside fails, and else nobody knows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

from spectral_audit.errors import ExitCode, UsageError
from spectral_audit.gate.paths import Figure, find_figure
from spectral_audit.gate.rules import Operator, Rule
from spectral_audit.gate.verdict import SCHEMA, Judgement, OnInconclusive, Outcome, Verdict
from spectral_audit.results import Report


def decide(figure: Figure, operator: Operator, limit: float) -> tuple[Outcome, str]:
    """The outcome for one figure, and the reason where it is not in the figures. Equality passes `<=` and `>=`."""
    if figure.value is None or figure.low is None or figure.high is None:
        return "inconclusive", figure.status
    if figure.status != "ok":
        return "inconclusive", figure.status
    ends = [holds(end, operator, limit) for end in (figure.low, figure.high)]
    if all(ends):
        return "pass", ""
    if not any(ends):
        return "fail", ""
    return "inconclusive", "the interval holds the limit"


def holds(value: float, operator: Operator, limit: float) -> bool:
    """Whether a number is within a limit."""
    return {"<=": value <= limit, "<": value < limit, ">=": value >= limit, ">": value > limit}[operator]


def judge_rule(report: Report, rule: Rule) -> Judgement:
    """One rule on one report; a rule that is off is not looked at, but its path has to exist."""
    return judged(rule, find_figure(report, rule.path))


def judged(rule: Rule, figure: Figure) -> Judgement:
    """One rule on the figure that it names."""
    outcome, reason = decide(figure, rule.operator, rule.limit)
    if rule.level == "off":
        outcome, reason = "off", ""
    return Judgement(
        rule=str(rule),
        path=rule.path,
        kind="require",
        operator=rule.operator,
        limit=rule.limit,
        relative=False,
        level=rule.level,
        value=figure.value,
        low=figure.low if figure.estimated else None,
        high=figure.high if figure.estimated else None,
        outcome=outcome,
        reason=reason,
    )


def caps(report: Report) -> tuple[str, ...]:
    """Why nothing can be decided on a report: figures of half a model, or of noise."""
    found = []
    if report.model.partial:
        found.append("the weights were loaded only in part")
    if report.data.synthetic:
        found.append("the model was audited on noise instead of data")
    return tuple(found)


def require_some(rules: Sequence[object]) -> None:
    """Raise UsageError where there is no rule: before an audit, not after it."""
    if not rules:
        raise UsageError(
            "nothing to judge",
            expected="--require, --max-increase, --preset or a policy file",
            found="no rule",
            remedy="add a rule, such as --require 'gmsi.typical<=2.5'",
        )


def conclude(
    report: Report,
    judgements: Sequence[Judgement],
    *,
    on_inconclusive: OnInconclusive = "report",
    baseline: str | None = None,
    capped: Sequence[str] = (),
    level: float = 0.95,
    looks: tuple[int, ...] = (),
) -> Verdict:
    """The verdict that judgements add up to.

    Errors that fail decide first, then inconclusive ones; warnings never change the exit code. Where a cap holds every
    outcome is inconclusive, and `on_inconclusive="pass"` does not lift it. Raises UsageError without any rule.
    """
    require_some(judgements)
    if capped:
        reason = "; ".join(capped)
        judgements = [
            j if j.outcome == "off" else replace(j, outcome="inconclusive", reason=reason) for j in judgements
        ]
    outcomes = {j.outcome for j in judgements if j.level == "error"}
    outcome: Literal["pass", "fail", "inconclusive"] = "pass"
    if "fail" in outcomes:
        outcome = "fail"
    elif "inconclusive" in outcomes:
        outcome = "inconclusive"
        if on_inconclusive == "fail":
            outcome = "fail"
        elif on_inconclusive == "pass" and not capped:
            outcome = "pass"
    codes = {"pass": ExitCode.OK, "fail": ExitCode.GATE_FAILED, "inconclusive": ExitCode.INCONCLUSIVE}
    return Verdict(
        schema=SCHEMA,
        model=report.model.path,
        sha256=report.model.sha256,
        baseline=baseline,
        outcome=outcome,
        exit_code=int(codes[outcome]),
        on_inconclusive=on_inconclusive,
        caps=tuple(capped),
        judgements=tuple(judgements),
        level=level,
        looks=looks,
    )
