"""Directories that cannot be written to: one message, exit code 2, nothing half written, and what was there stays.

Root may write anywhere, so as root the commands run without that capability; permissions then count as for anybody.
"""

import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.batch.zoo import make_zoo
from tests.conftest import ROOT, Ran

BOUND = ["setpriv", "--bounding-set", "-dac_override,-dac_read_search,-fowner"]


@pytest.fixture(scope="module")
def bound(quiet) -> Callable[..., Ran]:
    """Run a command in a process that permissions bind."""
    before: list[str] = []
    if os.geteuid() == 0:
        if shutil.which("setpriv") is None or subprocess.run([*BOUND, "true"], check=False).returncode:
            pytest.skip("root cannot give up the right to write anywhere here: no setpriv")
        before = BOUND

    def run(*args: object) -> Ran:
        command = [*before, sys.executable, "-m", "spectral_audit", *map(str, args)]
        ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
        return Ran(ran.returncode, ran.stdout, ran.stderr)

    return run


@pytest.fixture(scope="module")
def zoo(tmp_path_factory) -> Path:
    return make_zoo(tmp_path_factory.mktemp("zoo"), 1)


@pytest.fixture
def closed(tmp_path) -> Iterator[Path]:
    """A directory that is closed with `chmod(0o555)`, and opened again for whoever cleans up."""
    folder = tmp_path / "closed"
    folder.mkdir()
    yield folder
    folder.chmod(0o755)


def refused(ran: Ran, *words: str) -> None:
    assert ran.code == 2
    assert [word for word in words if word not in ran.err] == []
    assert "Traceback" not in ran.err and "internal error" not in ran.err


def test_no_ledger_is_begun_where_none_can_be_written(bound, zoo, closed):
    closed.chmod(0o555)
    refused(bound("batch", zoo, "--ledger", closed / "a.db"), "a.db: the ledger cannot be written")
    refused(bound("batch", zoo, "--ledger", closed / "new" / "a.db"), "a.db: the ledger cannot be written")
    assert list(closed.iterdir()) == []


def test_a_ledger_in_a_closed_directory_keeps_its_results(bound, cli, zoo, closed):
    ledger = closed / "a.db"
    ran = cli("batch", zoo, "--ledger", ledger)
    assert ran.code == 0
    before = ledger.read_bytes()
    ledger.chmod(0o444)
    closed.chmod(0o555)
    refused(bound("batch", zoo, "--ledger", ledger, "--n", 9), "a.db: the ledger cannot be written")
    ledger.chmod(0o644)
    refused(bound("batch", zoo, "--ledger", ledger, "--n", 9), "a.db: the ledger cannot be written")
    closed.chmod(0o755)
    assert ledger.read_bytes() == before
    assert cli("batch", zoo, "--ledger", ledger).out == ran.out
    with sqlite3.connect(ledger) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]


def test_reports_verdicts_and_tables_have_nowhere_to_go(bound, cli, zoo, closed, tmp_path):
    assert cli("score", zoo / "step-0.pt", "-o", tmp_path / "report").code == 0
    assert cli("batch", zoo, "--ledger", tmp_path / "a.db").code == 0
    (closed / "table.csv").write_text("what was there")
    (closed / "table.csv").chmod(0o444)
    closed.chmod(0o555)
    saved = tmp_path / "report" / "report.json"
    refused(bound("score", zoo / "step-0.pt", "-o", closed / "new"), str(closed / "new"))
    refused(bound("score", zoo / "step-0.pt", "-o", closed), str(closed))
    refused(bound("gate", saved, "--require", "gmsi.typical>=0", "-o", closed / "verdict.xml"), str(closed))
    refused(bound("leaderboard", "--ledger", tmp_path / "a.db", "--export", closed / "table.csv"), "table.csv")
    refused(bound("init", zoo / "step-0.pt", "--data", zoo / "probe.npz", "-o", closed / "audit.yaml"), "audit.yaml")
    assert [path.name for path in closed.iterdir()] == ["table.csv"]
    assert (closed / "table.csv").read_text() == "what was there"
