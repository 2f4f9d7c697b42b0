"""A ledger's tables as text for a terminal."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import RenderableType
from rich.text import Text

from spectral_audit.batch.ledger import Entry
from spectral_audit.batch.table import Row, shown
from spectral_audit.reports import words
from spectral_audit.reports.look import PLAIN, Justify, Look, columns, draw, fitted, say

_HEADERS = {
    "gmsi.typical": "GMSI",
    "gmsi.worst": "worst",
    "axes.input.typical": "input",
    "axes.weights.typical": "weights",
    "data.accuracy": "accuracy",
}


def result_line(path: str, entry: Entry) -> str:
    """A finished model in one plain line: its typical index, or the first line of its message."""
    name = words.clean(shown(path))
    if entry.outcome == "ok":
        value, low, high = (entry.figures.get(f"gmsi.typical{end}") for end in ("", ".low", ".high"))
        span = f" ({words.number(low)}–{words.number(high)})" if low is not None and high is not None else ""
        return f"ok       {name}  GMSI typical {words.number(value)}{span}"
    first = (entry.message.splitlines() or [""])[0]
    return f"{entry.outcome:<8} {name}  {words.clean(first.removeprefix(path + ': '))}"


def render_leaderboard(rows: Sequence[Row], look: Look = PLAIN, *, by: str = "", top: int | None = None) -> str:
    """The rows as a table, failures with their message below it."""
    good = [row for row in rows if row.outcome == "ok"]
    names = {**_HEADERS, **({by: by} if by and by not in (*_HEADERS, "path") else {})}
    headers: list[tuple[str, Justify]] = [("model", "left")]
    table = columns(headers + [(title, "right") for title in names.values()])
    room = max(16, look.width - 10 * len(names) - sum(len(title) > 8 for title in names.values()) * 8)
    for row in good[:top]:
        cells = [words.number(value) if (value := row.figures.get(name)) is not None else "–" for name in names]
        table.add_row(words.middle(words.clean(shown(row.path)), room), *cells)
    parts: list[RenderableType] = [fitted(table, look)] if good else []
    if top is not None and len(good) > top:
        parts.append(Text(f"{len(good) - top} more", "dim"))
    for row in rows:
        if row.outcome != "ok":
            first = (row.message.splitlines() or [""])[0]
            parts.append(say(f"{row.outcome}: {shown(row.path)}: {first.removeprefix(row.path + ': ')}", "red"))
    return draw(parts, look)


def render_history(rows: Sequence[Row], name: str, look: Look = PLAIN) -> str:
    """One figure over the checkpoints of a run, in their order, with its change from one to the next."""
    good = [row for row in rows if row.figures.get(name) is not None]
    titles: list[tuple[str, Justify]] = [(name, "right"), ("95 %", "right"), ("change", "right"), ("", "left")]
    table = columns([("checkpoint", "left"), *titles])
    room = max(16, look.width - 54)
    values = [row.figures[name] or 0.0 for row in good]
    top = max(values, default=0.0)
    for index, row in enumerate(good):
        low, high = row.figures.get(f"{name}.low"), row.figures.get(f"{name}.high")
        span = f"{words.number(low)}–{words.number(high)}" if low is not None and high is not None else ""
        before = values[index - 1] if index else 0.0
        change = f"{100 * (values[index] / before - 1):+.1f} %" if before else ""
        bar = _bar(values[index] / top if top > 0 else 0.0, look)
        label = words.middle(words.clean(shown(row.path)), room)
        table.add_row(label, words.number(values[index]), span, change, Text(bar, "cyan"))
    return draw([fitted(table, look)], look)


def _bar(share: float, look: Look) -> str:
    width = round(10 * max(0.0, share))
    return ("█" if look.unicode else "#") * width
