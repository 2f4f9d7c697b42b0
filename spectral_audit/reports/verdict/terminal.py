"""The verdict people read in a terminal: one line that says it, and every rule with what was found."""

from __future__ import annotations

from rich.console import RenderableType
from rich.text import Text

from spectral_audit.gate.verdict import Judgement, Verdict
from spectral_audit.reports import words
from spectral_audit.reports.look import PLAIN, Justify, Look, columns, draw, fitted, say
from spectral_audit.reports.verdict import phrases

_STYLES = {"pass": "bold green", "fail": "bold red", "inconclusive": "bold yellow", "off": "dim"}
_MARKS = {"pass": ("✔", "+"), "fail": ("✖", "x"), "inconclusive": ("?", "?"), "off": ("·", "-")}


def render_verdict(verdict: Verdict, look: Look = PLAIN) -> str:
    """The verdict as text for a terminal of this look."""
    title = Text.assemble(("spectral-audit gate  ", "bold cyan"), (words.clean(verdict.model), "bold"))
    headline = Text.assemble(
        (verdict.outcome.upper(), _STYLES[verdict.outcome]), f"  {phrases.summary(verdict)} · exit {verdict.exit_code}"
    )
    titles: list[tuple[str, Justify]] = [(name, "right") for name in ("limit", "found", phrases.level(verdict))]
    table = columns([("  rule", "left"), *titles, ("outcome", "left")], wraps=(4,))
    for judgement in verdict.judgements:
        table.add_row(*_row(judgement, look))
    parts: list[RenderableType] = [title, headline, Text(), fitted(table, look)]
    if verdict.baseline:
        parts.append(say(f"baseline {verdict.baseline}", "dim"))
    parts += [say(note, "yellow") for note in phrases.notes(verdict)]
    return draw(parts, look)


def _row(judgement: Judgement, look: Look) -> tuple[Text, ...]:
    style = _STYLES[judgement.outcome]
    mark = _MARKS[judgement.outcome][0 if look.unicode else 1]
    return (
        Text.assemble((mark, style), " ", phrases.subject(judgement)),
        Text(phrases.limit(judgement)),
        Text(phrases.found(judgement)),
        Text(phrases.span(judgement)),
        Text(phrases.outcome(judgement), style),
    )
