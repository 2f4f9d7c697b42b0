"""A table as a file: CSV, JSON, or Parquet with the extra `parquet`."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from pathlib import Path

from spectral_audit.batch.table import Row, columns_of
from spectral_audit.errors import UsageError, nearest
from spectral_audit.reports.files import write_file, write_whole

SUFFIXES = (".csv", ".json", ".parquet")


def export(rows: Sequence[Row], path: Path) -> None:
    """Write the rows with all their figures; the suffix chooses the format.

    Raises UsageError for another suffix, a missing extra, or a file that cannot be written.
    """
    suffix = path.suffix.lower()
    if suffix == ".csv":
        write_file(path, _csv(rows))
    elif suffix == ".json":
        write_file(path, json.dumps(_records(rows), indent=1, ensure_ascii=True) + "\n")
    elif suffix == ".parquet":
        _parquet(rows, path)
    else:
        raise UsageError(
            f"{path}: no known format",
            expected=nearest(suffix, SUFFIXES),
            found=suffix or "no suffix",
            remedy="end the name with the suffix of a format",
        )


def _records(rows: Sequence[Row]) -> list[dict[str, str | float | None]]:
    columns = columns_of(rows)
    return [
        {
            "path": row.path,
            "outcome": row.outcome,
            **{name: row.figures.get(name) for name in columns},
            "message": row.message,
        }
        for row in rows
    ]


def _csv(rows: Sequence[Row]) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, ["path", "outcome", *columns_of(rows), "message"], lineterminator="\n")
    writer.writeheader()
    writer.writerows(_records(rows))
    return text.getvalue()


def _parquet(rows: Sequence[Row], path: Path) -> None:
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError:
        raise UsageError(
            f"{path}: Parquet needs another package",
            expected="pyarrow",
            found="nothing of that name",
            remedy="run pip install 'spectral-audit[parquet]', or export to .csv",
        ) from None
    schema = pyarrow.schema(
        [("path", pyarrow.string()), ("outcome", pyarrow.string())]
        + [(name, pyarrow.float64()) for name in columns_of(rows)]
        + [("message", pyarrow.string())]
    )
    table = pyarrow.Table.from_pylist(_records(rows), schema=schema)
    write_whole(path, lambda part: parquet.write_table(table, part))
