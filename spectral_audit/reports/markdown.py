"""The report as Markdown, for a pull request comment or a step summary."""

from __future__ import annotations

import html
import re
from collections.abc import Iterable, Sequence

from spectral_audit.explanations import Attribution
from spectral_audit.reports import advice_words, explanation_words, words
from spectral_audit.reports.standing_words import standing_line
from spectral_audit.results import AXES, Estimate, Report, Spectrum

TOP_LAYERS = 8

_MARKS = {"error": "❌ error", "warning": "⚠️ warning", "info": "ℹ️ info"}


def render_markdown(report: Report) -> str:
    """The report in GitHub's Markdown: verdict and axes in view, the rest folded away."""
    blocks = [
        f"### spectral-audit: {code(report.model.path)}",
        f"**{escape(words.headline(report))}**",
        escape(words.verdict(report)),
        _axes(report),
        f"<sub>{escape(words.unit(report))}</sub>",
        escape(standing_line(report.reference)),
        _findings(report),
        folded("Spectra", _spectra(report)),
        folded("Layers", _layers(report)),
        folded("Attribution", _attribution(report.attribution)),
        folded("Advice", _advice(report)) if report.advice else "",
        folded("Model, data, cost", _record(report)),
        f"<sub>{escape(words.closing_text(report))}</sub>",
    ]
    return "\n\n".join(block for block in blocks if block) + "\n"


def escape(text: str) -> str:
    """Foreign text as Markdown that shows it literally: no markup, no HTML, no mention of anyone."""
    escaped = re.sub(r"([\\`*_\[\]|~])", r"\\\1", html.escape(words.clean(text), quote=False))
    return escaped.replace("#", "&#35;").replace("@", "&#64;")


def code(text: str) -> str:
    """Foreign text as inline code."""
    return "`" + words.clean(text).replace("`", "'").replace("|", "\\|") + "`"


def table(headers: Sequence[str], rows: Iterable[Sequence[str]], left: int = 1) -> str:
    """A table whose first `left` columns are text and whose others are numbers."""
    rule = ["---" if index < left else "--:" for index in range(len(headers))]
    return "\n".join("| " + " | ".join(row) + " |" for row in [headers, rule, *rows])


def folded(title: str, body: str) -> str:
    """A part that the reader opens."""
    return f"<details><summary>{title}</summary>\n\n{body}\n\n</details>"


def _pair(estimate: Estimate) -> tuple[str, str]:
    return words.figure(estimate), words.interval(estimate)


def _axes(report: Report) -> str:
    rows = []
    for name in AXES:
        axis = getattr(report.axes, name)
        label = f"**{name}** (binds)" if report.gmsi.binding == name else name
        pairs = (*_pair(axis.worst), *_pair(axis.typical))
        rows.append((label, words.PERTURBS[name], *pairs, words.number(axis.effective_rank)))
    index = report.gmsi
    rows.append(("**GMSI**", escape(words.aggregation(index)), *_pair(index.worst), *_pair(index.typical), ""))
    return table(["axis", "perturbs", "worst", "95 %", "typical", "95 %", "effective rank"], rows, left=2)


def _findings(report: Report) -> str:
    if not report.findings:
        return "No findings."
    findings = words.sorted_findings(report.findings)
    return "\n".join(f"- {_MARKS[item.severity]} {code(item.code)} {escape(item.message)}" for item in findings)


def _spectra(report: Report) -> str:
    spectra = report.spectra
    named = [
        ("input Jacobian (σ)", spectra.input_jacobian),
        ("NTK (λ)", spectra.ntk),
        ("Gauss–Newton (λ)", spectra.gauss_newton),
        ("Hessian (λ)", spectra.hessian),
    ]
    headers = ["operator", "largest", "smallest", "effective rank", "entropy", "trace", "certificate"]
    return table(headers, [(name, *_measures(spectrum)) for name, spectrum in named])


def _measures(spectrum: Spectrum) -> tuple[str, ...]:
    ends = (spectrum.values[0], spectrum.values[-1]) if spectrum.values else (None, None)
    return (
        words.number(ends[0]),
        words.number(ends[1]),
        words.effective_rank(spectrum),
        words.estimated(spectrum.entropy, spectrum.entropy_stderr),
        words.estimated(spectrum.trace, spectrum.trace_stderr),
        words.certificate(spectrum),
    )


def _layers(report: Report) -> str:
    ranked = sorted(report.layers, key=lambda layer: -layer.share)
    rows = [
        (
            code(layer.name),
            words.shape(layer.shape),
            *map(words.percent, (layer.share, layer.share_worst, layer.share_typical)),
        )
        for layer in ranked[:TOP_LAYERS]
    ]
    rest = ranked[TOP_LAYERS:]
    if rest:
        sums = (sum(getattr(layer, field) for layer in rest) for field in ("share", "share_worst", "share_typical"))
        rows.append((f"+{len(rest)} more", "", *map(words.percent, sums)))
    return table(["share of the kernel's trace", "shape", "raw", "worst", "typical"], rows, left=2)


def _attribution(attribution: Attribution | None) -> str:
    if attribution is None:
        return "Not measured."
    headers = ["drift", "mean", "95 %", "p95", "max", "cosine", "Spearman", f"top-{attribution.top_k} overlap", "flips"]
    rows = [
        (
            label,
            *_pair(drift.mean),
            *map(words.number, (drift.p95, drift.maximum, drift.cosine, drift.spearman)),
            *map(words.percent, (drift.top_k_overlap, drift.flips)),
        )
        for label, drift in (("random", attribution.random), ("worst", attribution.worst))
    ]
    line, score = explanation_words.attribution_line(attribution), explanation_words.score_line(attribution)
    blocks = [escape(line), escape(score), table(headers, rows), _curve(attribution), _methods(attribution)]
    return "\n\n".join(filter(None, [*blocks, *map(escape, explanation_words.notes(attribution))]))


def _curve(attribution: Attribution) -> str:
    headers = ["rms drift at radius", "random", "first order", "worst", "first order"]
    rows = [
        (
            words.number(point.radius_absolute),
            *(
                words.number(value) if value is not None else ""
                for value in (point.random, point.random_predicted, point.worst, point.worst_predicted)
            ),
        )
        for point in attribution.curve
    ]
    return table(headers, rows) if len(rows) > 1 else ""


def _methods(attribution: Attribution) -> str:
    headers = ["method", "score", "95 %", "worst score", "random drift", "worst drift", "max-sensitivity"]
    rows = [
        (
            code(name),
            *_pair(found.score),
            *(words.number(e.value) for e in (found.score_worst, found.random.mean, found.worst.mean)),
            words.number(found.sensitivity.max_sensitivity.value),
        )
        for name, found in attribution.methods.items()
    ]
    return table(headers, rows) if len(rows) > 1 else ""


def _advice(report: Report) -> str:
    if report.advice is None:
        return ""
    steps = report.advice.steps
    texts = [f"Penalty: {advice_words.remedy_text(report.advice)}.", f"Step: {advice_words.step_text(steps)}."]
    return "\n\n".join(map(escape, [*texts, advice_words.adaptive_text(steps), advice_words.assumption_text(steps)]))


def _record(report: Report) -> str:
    rows = [
        ("model", words.model_text(report)),
        ("data", words.data_text(report)),
        ("scales", words.scales_text(report)),
        ("raw norms", words.raw_text(report)),
        ("cost", words.cost_text(report)),
    ]
    return table(["", ""], [(label, escape(text)) for label, text in rows], left=2)
