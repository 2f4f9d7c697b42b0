"""Tables over a ledger: rows that can be sorted, filtered and cut, and the trend over a run's checkpoints."""

from __future__ import annotations

import fnmatch
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from spectral_audit.batch.ledger import Entry
from spectral_audit.errors import UsageError, nearest
from spectral_audit.gate.judge import holds
from spectral_audit.gate.rules import Rule


@dataclass(frozen=True)
class Row:
    """One model: its path, its outcome, its figures, and the message of a failure."""

    path: str
    outcome: str
    figures: Mapping[str, float | None]
    message: str = ""


def rows_of(entries: Mapping[str, Entry]) -> list[Row]:
    """The rows of a ledger in order of path, numbers in paths in their own order: step-9 before step-10."""
    return [
        Row(path, entries[path].outcome, entries[path].figures, entries[path].message)
        for path in sorted(entries, key=natural)
    ]


def shown(path: str) -> str:
    """A path as people call it: relative where it lies below the working directory."""
    try:
        return str(Path(path).relative_to(Path.cwd()))
    except ValueError:
        return path


def natural(text: str) -> list[tuple[int, int, str]]:
    """A sort key under which numbers inside a text count as numbers."""
    return [(1, int(part), "") if part.isdecimal() else (0, 0, part) for part in re.split(r"(\d+)", text)]


def matching(rows: Sequence[Row], patterns: Sequence[str], rules: Sequence[Rule]) -> list[Row]:
    """The rows whose path fits one of the patterns, and whose figures hold every rule; failures hold none."""
    for rule in rules:
        _require_known(rule.path, rows)
    return [
        row
        for row in rows
        if (
            not patterns
            or any(fnmatch.fnmatch(name, pattern) for name in (row.path, shown(row.path)) for pattern in patterns)
        )
        and all(_holds(row.figures.get(rule.path), rule) for rule in rules)
    ]


def _holds(value: float | None, rule: Rule) -> bool:
    return value is not None and holds(value, rule.operator, rule.limit)


def ranked(rows: Sequence[Row], by: str, *, descending: bool = False) -> list[Row]:
    """The rows sorted by a figure, smallest first, then by path; those without the figure come last."""
    if by == "path":
        return list(reversed(rows)) if descending else list(rows)
    _require_known(by, rows)

    def order(row: Row) -> tuple[float, list[tuple[int, int, str]]]:
        value = row.figures.get(by)
        return (math.inf if value is None else -value if descending else value, natural(row.path))

    return sorted(rows, key=order)


def columns_of(rows: Sequence[Row]) -> list[str]:
    """Every figure that some row has, in the order of the ledger."""
    return list(dict.fromkeys(name for row in rows for name in row.figures))


def _require_known(name: str, rows: Sequence[Row]) -> None:
    known = columns_of(rows)
    if known and name not in known:
        short = [column for column in known if not column.endswith((".low", ".high"))]
        raise UsageError(
            f"{name}: no such figure in the ledger",
            expected=nearest(name, short),
            found=name,
            remedy="name one of them; others stand in the reports",
        )
