"""What a checkpoint holds, as text for a terminal."""

from __future__ import annotations

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from spectral_audit.reports import words
from spectral_audit.reports.look import PLAIN, Look, columns, draw, heading, indented, say
from spectral_audit.results import Inspection

TOP_TENSORS = 20


def render_inspection(inspection: Inspection, look: Look = PLAIN) -> str:
    """A checkpoint's contents as text: file, tensors, what unpickling would import, and notes."""
    parts: list[RenderableType] = [
        Text.assemble(("spectral-audit  ", "bold cyan"), (words.clean(inspection.path), "bold")),
        indented([(Text(f" {label}"), say(text)) for label, text in _facts(inspection)]),
    ]
    if inspection.tensors:
        parts += [heading("Tensors", look), _tensors(inspection, look)]
    if inspection.metadata:
        rows = [(say(f" {key}", "bold"), say(value)) for key, value in inspection.metadata.items()]
        parts += [heading("Metadata", look), indented(rows)]
    if inspection.globals or inspection.unsafe_globals:
        parts += [heading("Globals", look, "what unpickling it would import"), _globals(inspection, look)]
    if inspection.notes:
        mark = "•" if look.unicode else "-"
        rows = [(Text(mark, "cyan"), say(note)) for note in inspection.notes]
        parts += [heading("Notes", look), indented(rows)]
    return draw(parts, look)


def _facts(inspection: Inspection) -> list[tuple[str, str]]:
    size = f"{words.memory(inspection.bytes)} ({words.counted(inspection.bytes, 'byte')})"
    tensors = words.counted(len(inspection.tensors), "tensor")
    contents = f"{tensors}, {words.counted(inspection.parameters, 'parameter')}"
    return [
        ("format", f"{inspection.format} · {size}"),
        ("sha256", inspection.sha256),
        ("holds", " · ".join([contents, *([", ".join(inspection.dtypes)] if inspection.dtypes else [])])),
        ("likely", inspection.architecture or "unknown architecture"),
    ]


def _tensors(inspection: Inspection, look: Look) -> Table:
    table = columns([("name", "left"), ("shape", "left"), ("dtype", "left")], gap=3)
    for tensor in inspection.tensors[:TOP_TENSORS]:
        name = words.middle(words.clean(tensor.name), look.width - 36)
        table.add_row(name, words.middle(words.shape(tensor.shape), 18), words.middle(words.clean(tensor.dtype), 12))
    rest = len(inspection.tensors) - TOP_TENSORS
    if rest > 0:
        table.add_row(f"… {words.count(rest)} more", "", "", style="dim")
    return table


def _globals(inspection: Inspection, look: Look) -> Table:
    unsafe = set(inspection.unsafe_globals)
    cross = "✖" if look.unicode else "x"
    rows = [(Text(cross, "bold red"), say(f"{name}  unsafe", "bold red")) for name in inspection.unsafe_globals]
    rows += [(Text(" "), say(name)) for name in inspection.globals if name not in unsafe]
    return indented(rows)
