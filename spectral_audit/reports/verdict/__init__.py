"""Verdicts as text: for people, for pull requests, for CI systems."""

from __future__ import annotations

from collections.abc import Callable

from spectral_audit.gate.verdict import Verdict
from spectral_audit.reports.artifact import to_json
from spectral_audit.reports.verdict.junit import to_junit
from spectral_audit.reports.verdict.markdown import to_markdown
from spectral_audit.reports.verdict.sarif import to_sarif
from spectral_audit.reports.verdict.terminal import render_verdict

__all__ = ["SUFFIXES", "VERDICT_WRITERS", "render_verdict", "to_markdown"]

VERDICT_WRITERS: dict[str, Callable[[Verdict], str]] = {
    "rich": render_verdict,
    "json": to_json,
    "md": to_markdown,
    "junit": to_junit,
    "sarif": to_sarif,
}
# The end of a file's name chooses its writer.
SUFFIXES = {".txt": "rich", ".json": "json", ".md": "md", ".xml": "junit", ".sarif": "sarif"}
