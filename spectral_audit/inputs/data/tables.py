"""Text tables: one sample a line, one number a column, column names in the first line."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from spectral_audit.errors import RefusedError
from spectral_audit.inputs.checkpoints.archive import sha256_of
from spectral_audit.inputs.data.stored import Array, Ask, Source, Stored, absent, bad, whole

_DELIMITERS = {".csv": ",", ".tsv": "\t"}


def is_table(source: Source) -> bool:
    """Text has no magic: the name tells."""
    return source.path.suffix.lower() in _DELIMITERS and not source.folder


def read_table(ask: Ask) -> Stored:
    """The columns of `data.x` (every column but the labels' when there is no column of that name) and of `data.y`."""
    path = ask.path
    header, lines, rows = _rows(path)
    y_name = ask.spec.data.y
    inputs = columns_of(path, header, ask.spec.data.x, y_name)
    places = [header.index(name) for name in inputs]
    x = np.array([_numbers(path, line, row, header, places) for line, row in zip(lines, rows, strict=True)])
    y = None if y_name is None else _labels(path, header, lines, [row[header.index(y_name)] for row in rows], y_name)
    return whole(path, x, y, sha256_of(path), "the table", f"column `{y_name}`")


def table_names(ask: Ask) -> list[str]:
    """The names of its columns."""
    return _rows(ask.path)[0]


def columns_of(path: Path, known: Sequence[str], x: str | tuple[str, ...], y: str | None) -> list[str]:
    """The input columns: those named, or all but the labels' where `x` is left at its default and no column has it."""
    if y is not None and y not in known:
        raise absent(path, "column", y, "y", known)
    wanted = [x] if isinstance(x, str) else list(x)
    if wanted == ["x"] and "x" not in known:
        wanted = [name for name in known if name != y]
    for name in wanted:
        if name not in known:
            raise absent(path, "column", name, "x", known)
    if not wanted:
        raise bad(path, "the table", "columns of inputs beside the labels", f"column {y} only", "add the inputs.")
    return wanted


def _rows(path: Path) -> tuple[list[str], list[int], list[list[str]]]:
    """Column names, and the line and the fields of every row, all of them as long as the header."""
    try:
        text = path.read_bytes().decode("utf-8-sig")
        reader = csv.reader(io.StringIO(text, newline=""), delimiter=_DELIMITERS[path.suffix.lower()], strict=True)
        header = [name.strip() for name in next(reader, [])]
        numbered = [(reader.line_num, row) for row in reader if row]
    except (csv.Error, UnicodeDecodeError) as error:
        expected = f"UTF-8 text with one row a line, separated by {'tabs' if path.suffix == '.tsv' else 'commas'}"
        remedy = "save the table again."
        raise RefusedError(
            f"{path}: not readable as a table", expected=expected, found=f"{error}", remedy=remedy
        ) from None
    _require_header(path, header)
    for line, row in numbered:
        if len(row) != len(header):
            raise RefusedError(
                f"{path}: line {line} does not have one field for each column",
                expected=f"{len(header)} fields: {', '.join(header[:8])}{', …' * (len(header) > 8)}",
                found=f"{len(row)} fields",
                remedy="complete or remove that line.",
            )
    if not numbered:
        raise bad(path, "the table", "at least one sample", "a header only", "save a data set with samples in it.")
    return header, [line for line, _ in numbered], [row for _, row in numbered]


def _require_header(path: Path, header: list[str]) -> None:
    names = set(header)
    numeric = [name for name in header if _number(name) is not None]
    if header and len(names) == len(header) and "" not in names and len(numeric) < len(header):
        return
    twice = next((name for name in header if header.count(name) > 1), None)
    found = "no text" if not header else "numbers only" if len(numeric) == len(header) else f"`{twice}` twice"
    raise RefusedError(
        f"{path}: the first line does not name the columns",
        expected="a different name for every column",
        found="a column without a name" if "" in names else found,
        remedy="add a first line with column names.",
    )


def _numbers(path: Path, line: int, row: list[str], header: list[str], places: list[int]) -> list[float]:
    found = []
    for place in places:
        value = _number(row[place])
        if value is None:
            raise RefusedError(
                f"{path}: line {line}, column `{header[place]}` holds no number",
                expected="a finite number",
                found=repr(row[place][:40]),
                remedy="repair that line, or list the columns of numbers in `data.x`.",
            )
        found.append(value)
    return found


def _number(text: str) -> float | None:
    """The finite number in a field; Python alone would also take `nan`, `inf`, 1e400 and 1_000."""
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) and "_" not in text else None


def _labels(path: Path, header: list[str], lines: list[int], fields: list[str], name: str) -> Array:
    """Numbers where every field is one, else text, where no field may be empty."""
    values = [_number(field) for field in fields]
    if None not in values:
        return np.array(values, dtype=np.float64)
    if all(value is None for value in values) and all(field.strip() for field in fields):
        return np.array([field.strip() for field in fields])
    empty = [k for k, field in enumerate(fields) if not field.strip()]
    odd = (empty or [values.index(None)])[0]
    raise RefusedError(
        f"{path}: line {lines[odd]}, column `{name}` holds no label",
        expected="numbers in every line, or names in every line",
        found=repr(fields[odd][:40]),
        remedy="repair that line.",
    )
