"""What a command is about: a saved report, read without torch, or a checkpoint, audited now."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from spectral_audit.cli.running import with_progress

if TYPE_CHECKING:
    from spectral_audit.opening import Request
    from spectral_audit.results import Report

REPORTS = (".json", ".yaml", ".yml")


def is_report(path: Path) -> bool:
    """Whether a path names a saved report, by its suffix."""
    return path.suffix.lower() in REPORTS


def report_of(path: Path, request: Callable[[Path], Request]) -> Report:
    """The saved report, or that of an audit of the checkpoint; `request` says how to audit a path."""
    if is_report(path):
        from spectral_audit.reports.artifact import load_report

        return load_report(path)
    from spectral_audit.audit import audit

    asked = request(path)
    return with_progress(lambda progress: audit(asked, progress))
