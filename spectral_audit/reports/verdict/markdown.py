"""The verdict as Markdown, for a pull request comment or a step summary."""

from __future__ import annotations

from spectral_audit.gate.verdict import Verdict
from spectral_audit.reports.markdown import code, escape, table
from spectral_audit.reports.verdict import phrases

_MARKS = {"pass": "✅", "fail": "❌", "inconclusive": "❔", "off": "➖"}


def to_markdown(verdict: Verdict) -> str:
    """The verdict in GitHub's Markdown."""
    rows = [
        (
            code(phrases.subject(item)),
            escape(phrases.limit(item)),
            escape(phrases.found(item)),
            escape(phrases.span(item)),
            f"{_MARKS[item.outcome]} {escape(phrases.outcome(item))}",
        )
        for item in verdict.judgements
    ]
    blocks = [
        f"### {_MARKS[verdict.outcome]} spectral-audit gate: {code(verdict.model)}",
        f"**{verdict.outcome}**, {escape(phrases.summary(verdict))}",
        table(["rule", "limit", "found", phrases.level(verdict), "outcome"], rows),
        *[escape(note) for note in phrases.notes(verdict)],
    ]
    if verdict.baseline:
        blocks.append(f"<sub>baseline {code(verdict.baseline)}</sub>")
    return "\n\n".join(blocks) + "\n"
