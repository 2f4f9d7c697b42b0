"""Limits of growth over a baseline: the interval of the change decides."""

from __future__ import annotations

from collections.abc import Sequence

from spectral_audit.comparison.changes import Change
from spectral_audit.comparison.paired import Pairing, unpaired
from spectral_audit.gate.judge import decide
from spectral_audit.gate.paths import Figure, find_figure
from spectral_audit.gate.rules import MaxIncrease
from spectral_audit.gate.verdict import Judgement
from spectral_audit.results import Estimate, Report


def judge_increases(old: Report, new: Report, rules: Sequence[MaxIncrease]) -> list[Judgement]:
    """Every limit of growth from the baseline `old` to `new`; paired where both reports keep the same samples."""
    pairing = Pairing.of(old, new) if rules else None
    return [_judge(rule, _change(old, new, rule.path, pairing)) for rule in rules]


def _change(old: Report, new: Report, path: str, pairing: Pairing | None) -> tuple[Change, bool]:
    """The change of a figure, and whether it has an interval."""
    found = pairing.change(path) if pairing else None
    if found is not None:
        return found, True
    ends = [find_figure(report, path) for report in (old, new)]
    estimates = [Estimate(end.value, end.low, end.high, "ok" if end.status == "ok" else "undefined") for end in ends]
    return unpaired(path, *estimates), all(end.estimated for end in ends)


def _judge(rule: MaxIncrease, found: tuple[Change, bool]) -> Judgement:
    change, estimated = found
    figure = Figure(change.difference, change.low, change.high, change.status, estimated)
    if rule.relative:
        status = change.status if change.status != "ok" else "ok" if change.relative is not None else "baseline is zero"
        figure = Figure(change.relative, change.relative_low, change.relative_high, status, estimated)
    outcome, reason = decide(figure, "<=", rule.limit)
    if rule.level == "off":
        outcome, reason = "off", ""
    elif estimated and not change.paired and change.status == "ok":
        reason = f"{reason}, unpaired" if reason else "unpaired"
    return Judgement(
        rule=str(rule),
        path=rule.path,
        kind="max-increase",
        operator="<=",
        limit=rule.limit,
        relative=rule.relative,
        level=rule.level,
        value=figure.value,
        low=figure.low if estimated else None,
        high=figure.high if estimated else None,
        outcome=outcome,
        reason=reason,
    )
