"""How a verdict says things, shared by its writers."""

from __future__ import annotations

from spectral_audit.gate.verdict import Judgement, Verdict
from spectral_audit.reports.words import clean, counted, number

OPERATORS = {"<=": "≤", "<": "<", ">=": "≥", ">": ">"}


def amount(value: float | None, relative: bool) -> str:
    """A figure, or a relative change in signed percent; nothing where there is none."""
    if value is None:
        return ""
    if not relative:
        return number(value)
    return f"{100 * value:+.1f} %"


def limit(judgement: Judgement) -> str:
    """The limit as it was written: `≤ 2.5`, `≤ +5 %`."""
    shown = f"{100 * judgement.limit:+g} %" if judgement.relative else f"{judgement.limit:g}"
    return f"{OPERATORS[judgement.operator]} {shown}"


def found(judgement: Judgement) -> str:
    """What was found."""
    return amount(judgement.value, judgement.relative) or "none"


def span(judgement: Judgement) -> str:
    """The 95 % interval, or nothing where there is none."""
    ends = [amount(end, judgement.relative) for end in (judgement.low, judgement.high)]
    joint = " to " if judgement.relative or (judgement.low or 0) < 0 else "–"
    return joint.join(ends) if all(ends) else ""


def level(verdict: Verdict) -> str:
    """The level of the intervals."""
    return f"{100 * verdict.level:.4g} %"


def outcome(judgement: Judgement) -> str:
    """The outcome, with its level where that is not `error`, and its reason."""
    words: str = judgement.outcome
    if judgement.level == "warn" and judgement.outcome != "pass":
        words += " (warning)"
    return f"{words}: {clean(judgement.reason)}" if judgement.reason else words


def subject(judgement: Judgement) -> str:
    """What the rule is about: a figure, or its change."""
    return f"{'Δ ' if judgement.kind == 'max-increase' else ''}{clean(judgement.path)}"


def summary(verdict: Verdict) -> str:
    """How many rules passed, failed and stayed open."""
    judged = [j for j in verdict.judgements if j.outcome != "off"]
    counts = [(sum(j.outcome == name for j in judged), name) for name in ("fail", "inconclusive")]
    parts = [f"{sum(j.outcome == 'pass' for j in judged)} of {counted(len(judged), 'rule')} hold"]
    parts += [f"{count} {'fail' if name == 'fail' else name}" for count, name in counts if count]
    return " · ".join(parts)


def notes(verdict: Verdict) -> list[str]:
    """What a reader must know beside the table: caps, and what inconclusive rules were taken for."""
    lines = []
    if verdict.looks:
        sizes = ", ".join(map(str, verdict.looks))
        lines.append(f"Adaptive: looked at {sizes} samples; the looks share the 5 % that intervals may miss.")
    lines += [f"Inconclusive whatever the figures say: {reason}." for reason in verdict.caps]
    open_rules = any(j.outcome == "inconclusive" and j.level == "error" for j in verdict.judgements)
    if open_rules and verdict.on_inconclusive != "report":
        taken = verdict.outcome == verdict.on_inconclusive
        lines.append(f"--inconclusive {verdict.on_inconclusive}" + ("" if taken else " does not lift that") + ".")
    return lines
