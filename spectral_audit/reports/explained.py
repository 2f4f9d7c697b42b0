"""The terminal report's section on explanations."""

from __future__ import annotations

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from spectral_audit.explanations import Attribution, CurvePoint, Drift, Explanation
from spectral_audit.reports import explanation_words, words
from spectral_audit.reports.look import Look, cells, columns, fitted, heading, say


def section(attribution: Attribution | None, look: Look) -> list[RenderableType]:
    """The score, the drifts, their curve over radii, other methods, and what must be known to read them."""
    if attribution is None:
        return [heading("Attribution", look), Text("Not measured.")]
    parts: list[RenderableType] = [
        heading("Attribution", look),
        say(explanation_words.attribution_line(attribution)),
        say(explanation_words.score_line(attribution)),
        _drifts(attribution, look),
    ]
    if len(attribution.curve) > 1:
        parts.append(_curve(attribution.curve, look))
    if len(attribution.methods) > 1:
        parts.append(_methods(attribution.methods, look))
    return [*parts, *map(say, explanation_words.notes(attribution))]


def _drifts(attribution: Attribution, look: Look) -> Table:
    wide = look.width >= 100
    headers = ["mean", "95 %", "p95", "max", "cosine", "Spearman", f"top-{attribution.top_k}", "flips"]
    kept = [header for header in headers if wide or header != "p95"]
    table = columns([("drift", "left"), *((header, "right") for header in kept)], wraps=(0,))
    searched = f"worst, {attribution.restarts}×{words.counted(attribution.search_steps, 'step')}"
    for label, drift in (
        (words.counted(attribution.draws, "random draw"), attribution.random),
        (searched, attribution.worst),
    ):
        row = dict(zip(headers, _drift_cells(drift), strict=True))
        table.add_row(label, *(row[header] for header in kept))
    return fitted(table, look)


def _drift_cells(drift: Drift) -> list[Text]:
    value, span = cells(drift.mean, "bold")
    if drift.mean.value is None:
        value, span = Text(words.UNDEFINED_WORD, "dim"), Text("")
    rest = [words.number(v) for v in (drift.p95, drift.maximum, drift.cosine, drift.spearman)]
    return [value, span, *map(Text, [*rest, words.percent(drift.top_k_overlap), words.percent(drift.flips)])]


def _curve(curve: tuple[CurvePoint, ...], look: Look) -> Table:
    predicted = any(point.random_predicted is not None for point in curve)
    headers = ["random", "first order", "worst", "first order"] if predicted else ["random", "worst"]
    table = columns([("rms drift at radius", "left"), *((header, "right") for header in headers)], wraps=(0,))
    for point in curve:
        relative = f" = {words.number(point.radius)} X" if point.radius is not None else ""
        values = [point.random, point.random_predicted, point.worst, point.worst_predicted]
        shown = values if predicted else [point.random, point.worst]
        table.add_row(f"{words.number(point.radius_absolute)}{relative}", *map(words.number, shown))
    return fitted(table, look)


def _methods(methods: dict[str, Explanation], look: Look) -> Table:
    headers = ["score", "95 %", "worst", "drift", "worst drift", "max-sens."]
    table = columns([("method", "left"), *((header, "right") for header in headers)], wraps=(0,))
    for name, found in methods.items():
        value, span = cells(found.score, "bold")
        drifts = [found.random.mean, found.worst.mean, found.sensitivity.max_sensitivity]
        rest = [words.number(e.value) for e in (found.score_worst, *drifts)]
        table.add_row(words.clean(name), value, span, *rest)
    return fitted(table, look)
