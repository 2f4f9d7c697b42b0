"""How terminal text is laid out: width, colour, characters, and the few building blocks every page shares."""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from rich.console import Console, RenderableType
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from spectral_audit.reports.words import UNDEFINED_WORD, clean, figure, interval
from spectral_audit.results import Estimate

Justify = Literal["left", "right"]

_TRAILING = re.compile(r"[ ]+((?:\x1b\[[0-9;]*m)*)$", re.MULTILINE)


@dataclass(frozen=True)
class Look:
    """How a page is drawn: its width in cells, with ANSI colour or without, with block characters or plain ASCII ones.

    Colours are the terminal's own sixteen, so that its theme keeps them readable on light and dark.
    """

    width: int = 80
    colour: bool = False
    unicode: bool = False

    @staticmethod
    def of(console: Console) -> Look:
        """The look a console can show: plain when it is no terminal, colourless under NO_COLOR."""
        terminal = console.is_terminal and not console.is_dumb_terminal
        return Look(
            width=console.width,
            colour=terminal and not console.no_color,
            unicode=terminal and console.encoding.lower().startswith("utf"),
        )


PLAIN = Look()


def draw(parts: Sequence[RenderableType], look: Look) -> str:
    """The parts below each other as one text, without trailing spaces."""
    buffer = io.StringIO()
    console = Console(
        file=buffer,
        width=look.width,
        force_terminal=look.colour,
        color_system="standard" if look.colour else None,
        no_color=not look.colour,
        highlight=False,
        markup=False,
        emoji=False,
        legacy_windows=False,
        _environ={},  # the look decides, not NO_COLOR, FORCE_COLOR or COLUMNS a second time
    )
    for part in parts:
        console.print(part)
    return _TRAILING.sub(r"\1", buffer.getvalue())


def say(text: str, style: str = "") -> Text:
    """Text that may hold foreign names: escaped first, never read as markup."""
    return Text(clean(text), style=style)


def cells(estimate: Estimate, style: str = "") -> tuple[Text, Text]:
    """The value and the interval cell of an estimate."""
    tone = "red" if estimate.status == "unconverged" else style
    if estimate.value is None:
        return Text(""), Text(UNDEFINED_WORD, "dim")
    return Text(figure(estimate), tone), Text(interval(estimate))


def heading(title: str, look: Look, note: str = "") -> Text:
    """A section's title on a line of its own, filled with a rule, preceded by an empty line."""
    text = Text("\n" + title, style="bold cyan")
    if note:
        text.append(f"  {clean(note)}", style="not bold default")
    used = len(text.plain) - 1
    rule = ("─" if look.unicode else "-") * (look.width - used - 1)
    if rule:
        text.append(" " + rule, style="not bold dim")
    text.overflow = "fold"
    return text


def columns(headers: Sequence[tuple[str, Justify]], *, wraps: Sequence[int] = (), gap: int = 2) -> Table:
    """An unboxed table with these headers; only the columns in `wraps` may break their lines."""
    table = Table(box=None, padding=(0, gap, 0, 0), pad_edge=False, header_style="dim", show_edge=False)
    for index, (title, justify) in enumerate(headers):
        table.add_column(title, justify=justify, no_wrap=index not in wraps, overflow="fold")
    return table


def fitted(table: Table, look: Look) -> Table:
    """The table with single spaces between its columns where it would not fit otherwise."""
    unlimited = Console(file=io.StringIO(), width=10_000)
    if Measurement.get(unlimited, unlimited.options, table).maximum > look.width:
        table.padding = (0, 1, 0, 0)
    return table


def indented(rows: Sequence[tuple[Text, Text]]) -> Table:
    """Marks with text beside them, wrapped under itself."""
    table = Table.grid(padding=(0, 1, 0, 0))
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for mark, text in rows:
        table.add_row(mark, text)
    return table
