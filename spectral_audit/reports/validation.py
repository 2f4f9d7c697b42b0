"""What a spec and its data turned out to be, as text for a terminal."""

from __future__ import annotations

from rich.console import RenderableType
from rich.text import Text

from spectral_audit.reports import words
from spectral_audit.reports.look import PLAIN, Look, draw, heading, indented, say
from spectral_audit.results import Validation, Values

TOP_CLASSES = 12


def render_validation(found: Validation, look: Look = PLAIN) -> str:
    """A validation as text: data, inputs, labels, model, findings."""
    rows = [(Text(f" {label}"), say(text)) for label, text in _facts(found)]
    parts: list[RenderableType] = [
        Text.assemble(("spectral-audit  ", "bold cyan"), (words.clean(found.spec), "bold")),
        indented(rows),
    ]
    if found.findings:
        marks = {"error": "✖", "warning": "▲", "info": "•"} if look.unicode else {"error": "x", "warning": "!"}
        lines = [
            (Text(marks.get(item.severity, "-"), "cyan"), say(f"{item.code}  {item.message}"))
            for item in words.sorted_findings(found.findings)
        ]
        parts += [heading("Findings", look), indented(lines)]
    return draw(parts, look)


def _facts(found: Validation) -> list[tuple[str, str]]:
    facts = [
        ("data", f"{found.data} · {found.kind} · {found.n} of {words.counted(found.available, 'sample')}"),
        ("stored", _values(found.stored)),
        ("inputs", _values(found.inputs)),
        ("labels", found.labels + _balance(found.classes)),
        ("probe", found.probe_sha256),
    ]
    if found.model is not None:
        accuracy = "" if found.accuracy is None else f" · accuracy {100 * found.accuracy:.1f} %"
        outputs = words.counted(found.outputs or 0, "output")
        facts += [("model", f"{found.model} · {found.architecture}"), ("runs", f"{outputs}{accuracy}")]
    return facts


def _values(values: Values) -> str:
    spread = "" if values.mean is None else f", mean {values.mean:.4g}, std {values.std:.4g}"
    return f"{values.dtype}, {words.shape(values.shape)}, {values.low:.4g} to {values.high:.4g}{spread}"


def _balance(classes: dict[str, int]) -> str:
    if not classes:
        return ""
    shown = [f"{name} {count}" for name, count in list(classes.items())[:TOP_CLASSES]]
    rest = len(classes) - len(shown)
    return f" · {', '.join(shown)}" + (f", and {words.counted(rest, 'class')} more" if rest > 0 else "")
