"""The ledger: an SQLite file in WAL mode with one transaction for each finished model."""

from __future__ import annotations

import json
import sqlite3
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Literal

from spectral_audit.errors import RefusedError, UsageError

Outcome = Literal["ok", "failed", "timeout", "crashed"]

_VERSION = 1
_TABLES = """
CREATE TABLE IF NOT EXISTS audits (
    key TEXT PRIMARY KEY, outcome TEXT NOT NULL, message TEXT NOT NULL, figures TEXT NOT NULL, report BLOB,
    seconds REAL NOT NULL
);
CREATE TABLE IF NOT EXISTS models (path TEXT PRIMARY KEY, key TEXT NOT NULL);
"""


@dataclass(frozen=True)
class Entry:
    """What became of one audit: its figures by path, its report in JSON, or the message of its failure."""

    outcome: Outcome
    message: str = ""
    figures: dict[str, float | None] = field(default_factory=dict)
    report: str | None = None
    seconds: float = 0.0


class Ledger:
    """Results by key, and the key of every model's latest audit."""

    def __init__(self, path: Path, *, create: bool = True) -> None:
        """Open a ledger, made if missing.

        Raises UsageError where it cannot be written to, and RefusedError for a file that is no ledger.
        """
        self.path = path
        if not create and not path.is_file():
            raise RefusedError(
                f"{path}: no such ledger",
                expected="the file that `spectral-audit batch` writes",
                found="nothing",
                remedy="name it, or run a batch first",
            )
        with self._told():
            if create:
                path.parent.mkdir(parents=True, exist_ok=True)
            self._connection = sqlite3.connect(path, timeout=30, isolation_level=None)
            self._prepare()

    def _prepare(self) -> None:
        version = self._connection.execute("PRAGMA user_version").fetchone()[0]
        if version not in (0, _VERSION):
            raise RefusedError(
                f"{self.path}: a ledger of another version",
                expected=str(_VERSION),
                found=str(version),
                remedy="read it with the version that wrote it, or start a new one",
            )
        if version == 0:
            self._connection.execute("PRAGMA journal_mode=WAL")
            with self._transaction():
                for statement in _TABLES.split(";"):
                    self._connection.execute(statement)
                self._connection.execute(f"PRAGMA user_version={_VERSION}")
        # A commit is on the disk when it returns, whatever happens to the machine.
        self._connection.execute("PRAGMA synchronous=FULL")

    def __enter__(self) -> Ledger:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._connection.close()

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        self._connection.execute("BEGIN IMMEDIATE")
        try:
            yield
            self._connection.execute("COMMIT")
        except BaseException:
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
            raise

    @contextmanager
    def _told(self) -> Iterator[None]:
        """Say what is wrong with the file in one message."""
        try:
            yield
        except sqlite3.OperationalError as error:
            raise UsageError(
                f"{self.path}: the ledger cannot be written",
                expected="a file in a directory that can be written to, with room for it",
                found=str(error),
                remedy="make room or name another ledger, then run the same command again: what is finished is kept",
            ) from error
        except OSError as error:
            raise UsageError(
                f"{self.path}: the ledger cannot be written",
                expected="a directory that can be written to",
                found=error.strerror or str(error),
                remedy="name another ledger",
            ) from error
        except sqlite3.DatabaseError as error:
            raise RefusedError(
                f"{self.path}: not a ledger", expected="an SQLite file", found=str(error), remedy="name another file"
            ) from error

    def record(self, path: str, key: str, entry: Entry) -> None:
        """Keep the result of a model's audit: whole or not at all. Raises UsageError when it cannot be written."""
        blob = zlib.compress(entry.report.encode("utf-8", "surrogatepass")) if entry.report is not None else None
        with self._told(), self._transaction():
            self._connection.execute(
                "INSERT OR REPLACE INTO audits VALUES (?, ?, ?, ?, ?, ?)",
                (key, entry.outcome, entry.message, json.dumps(entry.figures), blob, entry.seconds),
            )
            self._connection.execute("INSERT OR REPLACE INTO models VALUES (?, ?)", (_stored(path), key))

    def link(self, keys: dict[str, str]) -> None:
        """Say which results belong to which models, where the results are there already."""
        new = [(_stored(path), key) for path, key in keys.items()]
        with self._told():
            known = dict(self._connection.execute("SELECT path, key FROM models"))
            changed = [pair for pair in new if known.get(pair[0]) != pair[1]]
            if changed:
                with self._transaction():
                    self._connection.executemany("INSERT OR REPLACE INTO models VALUES (?, ?)", changed)

    def outcomes(self) -> dict[str, Outcome]:
        """The outcome under every key."""
        with self._told():
            return dict(self._connection.execute("SELECT key, outcome FROM audits"))

    def entries(self) -> dict[str, Entry]:
        """The latest entry of every model, by path, without the reports."""
        query = "SELECT path, outcome, message, figures, seconds FROM models JOIN audits USING (key) ORDER BY path"
        with self._told():
            rows = self._connection.execute(query).fetchall()
        return {row[0]: Entry(row[1], row[2], json.loads(row[3]), None, row[4]) for row in rows}

    def report(self, path: str) -> str | None:
        """The report of a model in JSON, if there is one."""
        query = "SELECT report FROM models JOIN audits USING (key) WHERE path = ?"
        with self._told():
            row = self._connection.execute(query, (_stored(path),)).fetchone()
        return zlib.decompress(row[0]).decode("utf-8", "surrogatepass") if row and row[0] else None


def _stored(path: str) -> str:
    """A path that is not valid UTF-8 reaches us with lone surrogates, which SQLite does not take."""
    return path.encode("utf-8", "backslashreplace").decode("utf-8")
