"""Figures and tables as text."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from studies.validity.names import OURS, PARTS, PEERS, RAW
from studies.validity.statistics import Interval


def grid(headers: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table."""
    return "\n".join("| " + " | ".join(row) + " |" for row in [headers, ["---"] * len(headers), *rows])


def shown(found: Interval | None) -> str:
    """A correlation with its interval."""
    return "–" if found is None else f"{found.value:.2f} ({found.low:.2f} to {found.high:.2f})"


def label(quantity: str) -> str:
    """A quantity in words."""
    return {**OURS, **RAW, **PEERS, **PARTS}.get(quantity, quantity)
