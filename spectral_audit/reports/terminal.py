"""The report people read in a terminal, at any width, in colour or plain."""

from __future__ import annotations

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from spectral_audit.reports import advice_words, explained, plots, words
from spectral_audit.reports.look import PLAIN, Justify, Look, cells, columns, draw, fitted, heading, indented, say
from spectral_audit.reports.standing_words import standing_line
from spectral_audit.results import AXES, Layer, Report, Severity, Spectrum

TOP_LAYERS = 8
PLOT_ROWS = 4

_MARKS: dict[Severity, tuple[str, str, str]] = {
    "error": ("✖", "x", "bold red"),
    "warning": ("▲", "!", "bold magenta"),
    "info": ("•", "-", "cyan"),
}


def render_report(report: Report, look: Look = PLAIN) -> str:
    """The whole report as text for a terminal of this look; plain ASCII drawing at 80 columns by default."""
    parts: list[RenderableType] = [*_title(report), *_verdict(report), *_axes(report, look), *_spectra(report, look)]
    parts += _layers(report.layers, look)
    parts += explained.section(report.attribution, look)
    parts += _findings(report, look)
    parts += _advice(report, look)
    parts += _closing(report, look)
    return draw(parts, look)


def _title(report: Report) -> list[RenderableType]:
    title = Text.assemble(("spectral-audit  ", "bold cyan"), (words.clean(report.model.path), "bold"))
    return [
        title,
        indented([(Text(" model"), say(words.model_text(report))), (Text(" data"), say(words.data_text(report)))]),
    ]


def _verdict(report: Report) -> list[RenderableType]:
    lines = [Text(), say(words.headline(report), "bold")]
    sentence = words.verdict(report)
    return [*lines, say(sentence)] if sentence else [*lines]


def _axes(report: Report, look: Look) -> list[RenderableType]:
    headers: list[tuple[str, Justify]] = [
        ("  axis", "left"),
        ("perturbs", "left"),
        ("worst", "right"),
        ("95 %", "right"),
    ]
    headers += [("typical", "right"), ("95 %", "right"), ("rank", "right")]
    table = columns(headers, wraps=(1,), gap=1 if look.width < 90 else 3)
    pointer = "▸ " if look.unicode else "> "
    for name in AXES:
        axis = getattr(report.axes, name)
        binds = report.gmsi.binding == name
        style = "bold magenta" if binds else ""
        label = Text((pointer if binds else "  ") + name, style)
        row = (*cells(axis.worst, style), *cells(axis.typical, style))
        table.add_row(label, words.PERTURBS[name], *row, words.number(axis.effective_rank))
    index = report.gmsi
    row = (*cells(index.worst, "bold"), *cells(index.typical, "bold"))
    table.add_row(Text("  GMSI", "bold"), words.aggregation(index), *row, "")
    standing = standing_line(report.reference)
    return [heading("Axes", look), table, say(words.unit(report)), *([say(standing)] if standing else [])]


def _spectra(report: Report, look: Look) -> list[RenderableType]:
    spectra = report.spectra
    named = [
        ("input Jacobian", "σ", spectra.input_jacobian),
        ("NTK", "λ", spectra.ntk),
        ("Gauss–Newton", "λ", spectra.gauss_newton),
        ("Hessian", "λ", spectra.hessian),
    ]
    gap = 2
    panels_per_row = 4 if look.width >= 72 else 2
    width = max(4, (look.width - gap * (panels_per_row - 1)) // panels_per_row)
    panels = [_decay_panel(f"{name} {symbol}", item, width, look) for name, symbol, item in named[:3]]
    panels.append(_density_panel(spectra.hessian, width, look))
    drawn: list[RenderableType] = []
    for start in range(0, 4, panels_per_row):
        grid = Table.grid(padding=(0, gap, 0, 0), pad_edge=False)
        grid.add_row(*panels[start : start + panels_per_row])
        drawn.append(grid)
    note = "decay by rank, log-log axes; log density over asinh λ"
    return [heading("Spectra", look, note), *drawn, Text(), _measures(named, look)]


def _decay_panel(title: str, spectrum: Spectrum, width: int, look: Look) -> Text:
    if not spectrum.values:
        return Text.assemble((f"{title[:width]:<{width}}", "bold"), (f"\n{words.UNDEFINED_WORD}", "dim"))
    positive = sum(value > 0 for value in spectrum.values)
    # σ² = λ: half the decades of σ make the panels comparable.
    decades = 3.0 if spectrum.kind == "singular values" else 6.0
    heights = plots.decay(spectrum.values, plots.points_for(width, unicode=look.unicode), decades)
    rows = plots.area(heights, PLOT_ROWS, unicode=look.unicode)
    axis = plots.ruler(0, 1, (0, 1), width, unicode=look.unicode)
    ends = f"1{words.count(positive) if positive > 1 else '':>{width - 1}}"
    return Text.assemble((title[:width], "bold"), "\n", ("\n".join(rows), "cyan"), "\n", (f"{axis}\n{ends}", "dim"))


def _density_panel(spectrum: Spectrum, width: int, look: Look) -> Text:
    shown = "density" if spectrum.density or spectrum.exact else "ends"
    title = Text(f"Hessian {shown}"[:width], "bold")
    if not spectrum.values:
        return title.append(f"\n{words.UNDEFINED_WORD}", "not bold dim")
    smallest, largest = spectrum.values[-1], spectrum.values[0]
    density = spectrum.density if spectrum.density and spectrum.density.grid else None
    ends = (density.grid[0], density.grid[-1]) if density else (smallest, largest)
    reach = max(abs(value) for value in (*ends, smallest, largest))
    # A linear axis would squeeze everything but the outliers, negative values too, into one cell beside zero.
    low, high = (plots.warp(end, reach) for end in (min(0.0, smallest, ends[0]), max(0.0, largest, ends[1])))
    marks = [(plots.warp(value, reach), words.number(value)) for value in (largest, smallest)]
    points = plots.points_for(width, unicode=look.unicode)
    if density:
        warped = [plots.warp(at, reach) for at in density.grid]
        heights = plots.resample(warped, density.values, low, high, points)
    else:
        heights = plots.histogram([plots.warp(value, reach) for value in spectrum.values], low, high, points)
    for row in plots.area(heights, PLOT_ROWS, unicode=look.unicode):
        title.append("\n" + row, "not bold cyan")
    axis = plots.ruler(low, high, [mark for mark, _ in marks], width, unicode=look.unicode)
    return title.append(f"\n{axis}\n{plots.labels(low, high, marks, width)}", "not bold dim")


def _measures(named: list[tuple[str, str, Spectrum]], look: Look) -> Table:
    wide = look.width >= 100
    headers = ["largest", "smallest", "eff. rank", "entropy", "trace", "certificate"]
    kept = [header for header in headers if wide or header != "smallest"]
    table = columns([("operator", "left"), *((header, "right") for header in kept)], wraps=(0, len(kept)))
    for name, symbol, spectrum in named:
        largest = words.number(spectrum.values[0]) if spectrum.values else words.UNDEFINED_WORD
        smallest = words.number(spectrum.values[-1]) if spectrum.values else words.UNDEFINED_WORD
        rank = words.effective_rank(spectrum)
        tone = "green" if spectrum.status == "ok" else "red"
        texts: dict[str, Text] = {
            "largest": Text(("σ1 " if symbol == "σ" else "λmax ") + largest if spectrum.values else largest),
            "smallest": Text(smallest),
            "eff. rank": Text(rank),
            "entropy": Text(words.estimated(spectrum.entropy, spectrum.entropy_stderr)),
            "trace": Text(words.estimated(spectrum.trace, spectrum.trace_stderr)),
            "certificate": Text(words.certificate(spectrum), tone),
        }
        table.add_row(name, *(texts[header] for header in kept))
    return fitted(table, look)


def _layers(layers: tuple[Layer, ...], look: Look) -> list[RenderableType]:
    if not layers:
        return [heading("Layers", look), Text("No parameter tensor reaches the output.")]
    ranked = sorted(layers, key=lambda layer: -layer.share)
    top, rest = ranked[:TOP_LAYERS], ranked[TOP_LAYERS:]
    length = max(8, look.width // 6)
    longest = ranked[0].share
    table = columns([("tensor", "left"), ("shape", "left"), ("", "left"), *_SHARES])
    names = words.abbreviate([words.clean(layer.name) for layer in top], max(10, look.width - length - 45))
    for layer, name in zip(top, names, strict=True):
        mark = plots.bar(layer.share / longest if longest else 0.0, length, unicode=look.unicode)
        shares = [words.percent(share) for share in (layer.share, layer.share_worst, layer.share_typical)]
        table.add_row(name, words.middle(words.shape(layer.shape), 13), Text(mark, "cyan"), *shares)
    if rest:
        sums = [sum(getattr(layer, field) for layer in rest) for field in ("share", "share_worst", "share_typical")]
        table.add_row(f"+{len(rest)} more", "", "", *map(words.percent, sums), style="dim")
    return [heading("Layers", look, "share of the kernel's trace, by relative scaling"), table]


_SHARES: list[tuple[str, Justify]] = [("raw", "right"), ("worst", "right"), ("typical", "right")]


def _findings(report: Report, look: Look) -> list[RenderableType]:
    if not report.findings:
        return [heading("Findings", look), Text("None.", "green")]
    rows = []
    for finding in words.sorted_findings(report.findings):
        glyph, plain, style = _MARKS[finding.severity]
        text = Text.assemble((words.clean(finding.code), style), "  ", words.clean(finding.message))
        rows.append((Text(glyph if look.unicode else plain, style), text))
    return [heading("Findings", look), indented(rows)]


def _advice(report: Report, look: Look) -> list[RenderableType]:
    if report.advice is None:
        return []
    rows = [
        (Text("penalty"), say(advice_words.remedy_text(report.advice))),
        (Text("step"), say(advice_words.step_text(report.advice.steps))),
    ]
    return [heading("Advice", look), indented(rows)]


def _closing(report: Report, look: Look) -> list[RenderableType]:
    rows = [
        (Text("scales"), say(words.scales_text(report))),
        (Text("raw norms"), say(words.raw_text(report))),
        (Text("cost"), say(words.cost_text(report))),
        (Text("made by"), say(words.closing_text(report))),
    ]
    return [heading("Record", look), indented(rows)]
