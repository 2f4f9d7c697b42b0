"""The registry of writers, and files that are there whole or not at all."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest

from spectral_audit.errors import UsageError
from spectral_audit.reports import WRITERS, file_name, render_report, write_all
from spectral_audit.reports.artifact import load_report
from tests.reports import example


def test_the_writers_and_their_files() -> None:
    assert list(WRITERS) == ["rich", "json", "yaml", "md"]
    assert [file_name(name) for name in WRITERS] == ["report.txt", "report.json", "report.yaml", "report.md"]


def test_every_format_lands_in_the_directory(tmp_path: Path) -> None:
    report = example.example()
    written = write_all(report, tmp_path / "new" / "audit")
    assert sorted(path.name for path in written) == ["report.json", "report.md", "report.txt", "report.yaml"]
    assert sorted((tmp_path / "new" / "audit").iterdir()) == sorted(written)
    assert load_report(tmp_path / "new" / "audit" / "report.json") == report
    assert load_report(tmp_path / "new" / "audit" / "report.yaml") == report
    assert (tmp_path / "new" / "audit" / "report.txt").read_text(encoding="utf-8") == render_report(report)


def test_a_second_audit_replaces_the_first(tmp_path: Path) -> None:
    write_all(example.example(), tmp_path)
    write_all(example.smooth(), tmp_path)
    assert load_report(tmp_path / "report.json") == example.smooth()
    assert len(list(tmp_path.iterdir())) == 4


@pytest.mark.parametrize("place", ["taken", "taken/below"])
def test_a_file_in_the_way_is_a_usage_error_and_stays_untouched(tmp_path: Path, place: str) -> None:
    (tmp_path / "taken").write_text("mine")
    with pytest.raises(UsageError, match="cannot be written"):
        write_all(example.example(), tmp_path / place)
    assert [path.name for path in tmp_path.iterdir()] == ["taken"]
    assert (tmp_path / "taken").read_text() == "mine"


def test_a_failed_write_leaves_the_old_files_and_no_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_all(example.example(), tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    write_bytes = Path.write_bytes

    def full(self: Path, data: bytes) -> int:
        write_bytes(self, data[:100])
        if "yaml" in self.name:
            raise OSError(28, "No space left on device", str(self))
        return 100

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(UsageError, match="cannot be written") as caught:
        write_all(example.smooth(), tmp_path)
    assert "No space left" in caught.value.found
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_a_report_that_cannot_be_encoded_touches_nothing(tmp_path: Path) -> None:
    base = example.example()
    with pytest.raises(ValueError, match="not finite"):
        write_all(replace(base, raw=replace(base.raw, hessian=float("nan"))), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_path_that_is_not_utf8_can_be_written(tmp_path: Path) -> None:
    base = example.example()
    report = replace(base, model=replace(base.model, path=os.fsdecode(b"net\xff.pt")))
    write_all(report, tmp_path)
    assert load_report(tmp_path / "report.json") == report
