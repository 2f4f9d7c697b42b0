"""What changed between two reports, for a terminal and for a pull request."""

from __future__ import annotations

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from spectral_audit.comparison.changes import Change, Comparison
from spectral_audit.reports import markdown, words
from spectral_audit.reports.look import PLAIN, Look, columns, draw, fitted, heading, say

TOP_LAYERS = 8

_HEADERS = ("old", "new", "change", "95 %")


def render_comparison(comparison: Comparison, look: Look = PLAIN) -> str:
    """The comparison as text for a terminal of this look: changes, then the layers that moved most."""
    title = Text.assemble(("spectral-audit compare  ", "bold cyan"), (words.clean(comparison.old), "bold"))
    title.append(f"\n{'→' if look.unicode else 'to':>21}  ").append(words.clean(comparison.new), "bold")
    parts: list[RenderableType] = [title, Text(), say(_headline(comparison), "bold"), say(_how(comparison))]
    parts += [heading("Axes", look), _table([(_label(c.path), c) for c in comparison.changes], "axis", look)]
    if comparison.layers:
        shown = [(change.path, change) for change in comparison.layers[:TOP_LAYERS]]
        parts += [heading("Layers", look, "parts of the typical weights axis"), _table(shown, "tensor", look)]
    parts += [say(line, "dim") for line in _rest(comparison)]
    parts += [say(line, "yellow") for line in _warnings(comparison)]
    return draw(parts, look)


def comparison_markdown(comparison: Comparison) -> str:
    """The comparison in GitHub's Markdown."""
    rows = [(_label(change.path), *_cells(change)) for change in comparison.changes]
    layers = [(markdown.code(change.path), *_cells(change)) for change in comparison.layers]
    blocks = [
        f"### spectral-audit compare: {markdown.code(comparison.old)} → {markdown.code(comparison.new)}",
        f"**{markdown.escape(_headline(comparison))}** {markdown.escape(_how(comparison))}",
        markdown.table(["axis", *_HEADERS], rows),
    ]
    if layers:
        table = markdown.table(["tensor", *_HEADERS], layers)
        blocks.append(markdown.folded("Layers, parts of the typical weights axis", table))
    blocks += [markdown.escape(line) for line in (*_rest(comparison), *_warnings(comparison))]
    return "\n\n".join(blocks) + "\n"


def _headline(comparison: Comparison) -> str:
    """The typical index in a sentence, and which layers moved."""
    change = next(c for c in comparison.changes if c.path == "gmsi.typical")
    if change.difference is None:
        return f"GMSI typical {words.number(change.old)} to {words.number(change.new)}: {change.status}."
    verb = ("rose" if change.difference > 0 else "fell") if change.moved else "may not have moved"
    verb = verb if change.difference else "did not move"
    figures = f"{words.number(change.old)} to {words.number(change.new)}, {_change(change)} ({_span(change)})"
    moved = sum(layer.moved for layer in comparison.layers)
    layers = f" {moved} of {words.counted(len(comparison.layers), 'layer')} moved." if comparison.layers else ""
    return f"GMSI typical {verb}: {figures}.{layers}"


def _how(comparison: Comparison) -> str:
    if comparison.paired:
        return "Intervals of the differences, paired on the same samples; * marks those without 0."
    return "Not the same samples: intervals from two separate ones; * marks those without 0."


def _table(rows: list[tuple[str, Change]], title: str, look: Look) -> Table:
    table = columns([(title, "left"), *[(name, "right") for name in _HEADERS]])
    names = [label for label, _ in rows]
    room = max(12, look.width - 44)
    for short, (_, change) in zip(words.abbreviate([words.clean(n) for n in names], room), rows, strict=True):
        style = ("red" if (change.difference or 0) > 0 else "green") if change.moved else ""
        table.add_row(Text(short, style), *(Text(cell, style) for cell in _cells(change)))
    return fitted(table, look)


def _cells(change: Change) -> tuple[str, str, str, str]:
    return (
        words.number(change.old) if change.old is not None else "",
        words.number(change.new) if change.new is not None else "",
        _change(change) if change.difference is not None else change.status,
        _span(change) + (" *" if change.moved else "  "),
    )


def _change(change: Change) -> str:
    """The relative change in percent, or the absolute one where there is none."""
    if change.relative is not None:
        return f"{100 * change.relative:+.1f} %"
    return words.number(change.difference)


def _span(change: Change) -> str:
    if change.relative is not None and change.relative_low is not None and change.relative_high is not None:
        return f"{100 * change.relative_low:+.1f} to {100 * change.relative_high:+.1f} %"
    if change.low is None or change.high is None:
        return ""
    return f"{words.number(change.low)} to {words.number(change.high)}"


def _label(path: str) -> str:
    return path.removeprefix("axes.").replace("gmsi", "GMSI").replace(".", " ")


def _rest(comparison: Comparison) -> list[str]:
    lines = []
    if len(comparison.layers) > TOP_LAYERS:
        lines.append(f"+{len(comparison.layers) - TOP_LAYERS} more layers in -f json")
    for names, where in ((comparison.only_old, "old"), (comparison.only_new, "new")):
        if names:
            lines.append(f"only in the {where} model: {', '.join(names[:6])}{' …' if len(names) > 6 else ''}")
    return lines


def _warnings(comparison: Comparison) -> list[str]:
    fields = [f"{item.field} {item.old[:24]} and {item.new[:24]}" for item in comparison.differences]
    return [f"Not comparable, compared by --force: {'; '.join(fields)}."] if fields else []
