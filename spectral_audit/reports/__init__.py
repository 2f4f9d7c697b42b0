"""Reports as text: for people, for pull requests, for machines."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path

from spectral_audit.errors import UsageError
from spectral_audit.reports.artifact import to_json, to_yaml
from spectral_audit.reports.files import discard
from spectral_audit.reports.inspection import render_inspection
from spectral_audit.reports.look import Look
from spectral_audit.reports.markdown import render_markdown
from spectral_audit.reports.terminal import render_report
from spectral_audit.results import Report

__all__ = ["WRITERS", "Look", "file_name", "render_inspection", "render_report", "require_writable", "write_all"]

WRITERS: dict[str, Callable[[Report], str]] = {
    "rich": render_report,
    "json": to_json,
    "yaml": to_yaml,
    "md": render_markdown,
}


def file_name(writer: str) -> str:
    """The name of a writer's file: `report.json`; the terminal report is `report.txt`."""
    return f"report.{'txt' if writer == 'rich' else writer}"


def require_writable(directory: Path) -> None:
    """Say before hours of work, and without making anything, that a directory will not take the report.

    Raises UsageError.
    """
    there = next(path for path in (directory, *directory.absolute().parents) if path.exists())
    if not there.is_dir() or not os.access(there, os.W_OK | os.X_OK):
        found = "no directory" if not there.is_dir() else "no permission to write"
        raise _unwritable(directory, f"{found}: {there}")


def _unwritable(directory: Path, found: str) -> UsageError:
    return UsageError(
        f"{directory}: the report cannot be written",
        expected="a directory that can be written to",
        found=found,
        remedy="name another directory, or make room in this one",
    )


def write_all(report: Report, directory: Path, pictures: Mapping[str, bytes] | None = None) -> list[Path]:
    """Write the report in every format, and pictures by name, into a directory, made if missing; return the files.

    A file is there whole or not at all: everything is rendered and written beside its place first, then moved into
    it. Raises UsageError when the directory cannot be written to.
    """
    # A path that is not valid UTF-8 shows up in the text as lone surrogates.
    files = {file_name(name): write(report).encode("utf-8", "backslashreplace") for name, write in WRITERS.items()}
    contents = {directory / name: content for name, content in {**files, **(pictures or {})}.items()}
    parts = {path: path.with_name(f".{path.name}.{os.getpid()}.part") for path in contents}
    try:
        directory.mkdir(parents=True, exist_ok=True)
        for path, content in contents.items():
            parts[path].write_bytes(content)
        for path, part in parts.items():
            part.replace(path)
    except OSError as error:
        raise _unwritable(directory, f"{error.strerror or error}: {error.filename or directory}") from error
    finally:
        for part in parts.values():
            discard(part)
    return list(contents)
