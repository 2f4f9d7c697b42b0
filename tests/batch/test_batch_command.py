"""`batch` from end to end: every model once, whatever happens in between."""

from __future__ import annotations

import csv
import json
import os
import signal
import sqlite3
import sys
import time
import zlib
from pathlib import Path

import pytest
import torch

from spectral_audit.batch.work import Budget, Pool, thread_variables
from tests.batch.zoo import make_zoo, weights


@pytest.fixture(scope="module")
def zoo(tmp_path_factory) -> Path:
    return make_zoo(tmp_path_factory.mktemp("zoo"), 6)


@pytest.fixture(scope="module")
def undisturbed(cli, zoo):
    """The zoo in a ledger, and the table printed."""
    ledger = zoo.parent / "undisturbed.db"
    return ledger, cli("batch", zoo, "--ledger", ledger, "--jobs", 2)


def rows(ledger: Path, query: str) -> list[tuple]:
    with sqlite3.connect(ledger) as connection:
        return connection.execute(query).fetchall()


def counted(ledger: Path) -> int:
    """Finished audits, asked from outside while a batch may be writing."""
    try:
        with sqlite3.connect(f"file:{ledger}?mode=ro", uri=True) as connection:
            return connection.execute("SELECT count(*) FROM audits").fetchone()[0]
    except sqlite3.OperationalError:
        return 0


def test_a_batch_audits_every_model_and_prints_them(undisturbed):
    ledger, ran = undisturbed
    assert ran.code == 0
    assert "6 models, 0 unchanged, 2 processes" in ran.err
    assert ran.err.count("GMSI typical") == 6
    assert ran.out.count("step-") == 6
    assert rows(ledger, "SELECT count(*), count(DISTINCT key) FROM audits") == [(6, 6)]
    report = json.loads(zlib.decompress(rows(ledger, "SELECT report FROM audits LIMIT 1")[0][0]))
    assert report["schema"].startswith("spectral-audit/report/")


def test_a_second_run_audits_nothing_and_starts_no_worker(cli, zoo, undisturbed, monkeypatch):
    monkeypatch.setattr(Pool, "_start", lambda *_: pytest.fail("a worker was started"))
    ran = cli("batch", zoo, "--ledger", undisturbed[0])
    assert (ran.code, ran.out) == (0, undisturbed[1].out)
    assert "6 models, 6 unchanged\n" in ran.err


def test_killed_and_restarted_it_ends_as_if_nothing_had_happened(spawn, cli, zoo, undisturbed, tmp_path):
    """SIGKILL after the first, the second and the fourth result, or whatever is there by then."""
    ledger = tmp_path / "killed.db"
    for wanted in (1, 2, 4):
        with spawn("-m", "spectral_audit", "batch", zoo, "--ledger", ledger, "--jobs", 2) as started:
            deadline = time.monotonic() + 60
            while counted(ledger) < wanted and started.poll() is None and time.monotonic() < deadline:
                time.sleep(0.02)
            os.kill(started.pid, signal.SIGKILL)
            started.communicate(timeout=60)
        assert counted(ledger) >= wanted
    ran = cli("batch", zoo, "--ledger", ledger, "--jobs", 2)
    assert ran.code == 0
    assert ran.out == undisturbed[1].out
    assert rows(ledger, "PRAGMA integrity_check") == [("ok",)]
    figures = "SELECT path, key, outcome, figures FROM models JOIN audits USING (key) ORDER BY path"
    assert rows(ledger, figures) == rows(undisturbed[0], figures)


def test_an_interrupt_ends_cleanly_and_keeps_what_was_finished(spawn, zoo, tmp_path):
    ledger = tmp_path / "interrupted.db"
    with spawn("-m", "spectral_audit", "batch", zoo, "--ledger", ledger, "--jobs", 1) as started:
        deadline = time.monotonic() + 60
        while counted(ledger) < 1 and started.poll() is None and time.monotonic() < deadline:
            time.sleep(0.02)
        os.kill(started.pid, signal.SIGINT)
        _, err = started.communicate(timeout=60)
    assert started.returncode == 130
    assert "what was finished is in the ledger" in err
    assert "Traceback" not in err
    assert counted(ledger) >= 1


SLOW = """
import os, time
from torch import nn

def build(how="fine"):
    if how == "slow":
        time.sleep(600)
    if how == "dies":
        os._exit(7)
    if how == "raises":
        raise RuntimeError("no such net")
    return nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3))
"""


def test_models_that_fail_hang_or_die_are_entries_and_the_rest_goes_on(cli, zoo, tmp_path):
    folder = make_zoo(tmp_path / "mixed", 0)
    (folder / "net.py").write_text(SLOW)
    names = ("0.weight", "0.bias", "2.weight", "2.bias")
    state = dict(zip(names, weights(0).values(), strict=True))
    hows = ("slow", "dies", "raises", "fine")
    for how in hows:
        torch.save(state, folder / f"{how}.pt")
    (folder / "torn.pt").write_bytes(b"PK\x03\x04 torn")
    models = [{"path": f"{how}.pt", "arch": f"{folder}/net.py:build", "arch_kwargs": {"how": how}} for how in hows]
    (folder / "models.yaml").write_text(json.dumps({"models": [*models, "torn.pt"]}))
    ledger = tmp_path / "mixed.db"
    ran = cli("batch", folder / "models.yaml", "--ledger", ledger, "--jobs", 2, "--timeout", 8)
    assert ran.code == 3
    query = "SELECT path, outcome, message FROM models JOIN audits USING (key)"
    found = {Path(path).stem: (outcome, message) for path, outcome, message in rows(ledger, query)}
    assert {name: outcome for name, (outcome, _) in found.items()} == {
        "slow": "timeout", "dies": "crashed", "raises": "failed", "fine": "ok", "torn": "failed",
    }  # fmt: skip
    assert "8 s" in found["slow"][1]
    assert "exit code 7" in found["dies"][1]
    assert "no such net" in found["raises"][1]
    again = cli("batch", folder / "models.yaml", "--ledger", ledger)
    assert "5 models, 5 unchanged" in again.err
    assert again.code == 3


def test_two_paths_with_the_same_contents_are_audited_once(cli, zoo, tmp_path):
    folder = make_zoo(tmp_path / "twins", 1)
    (folder / "copy.pt").write_bytes((folder / "step-0.pt").read_bytes())
    ledger = tmp_path / "twins.db"
    ran = cli("batch", folder, "--ledger", ledger)
    assert ran.code == 0
    assert rows(ledger, "SELECT count(*) FROM audits") == [(1,)]
    assert rows(ledger, "SELECT count(*) FROM models") == [(2,)]
    torch.save(weights(3), folder / "copy.pt")
    assert "2 models, 1 unchanged" in cli("batch", folder, "--ledger", ledger).err


def test_a_ledger_that_fills_up_keeps_what_is_finished(cli, zoo, tmp_path, monkeypatch):
    from spectral_audit.batch.ledger import Ledger

    record = Ledger.record
    kept = []

    def full(self, path, key, entry):
        if len(kept) == 2:
            self._connection.execute("PRAGMA max_page_count=1")
        record(self, path, key, entry)
        kept.append(path)

    monkeypatch.setattr(Ledger, "record", full)
    ledger = tmp_path / "full.db"
    ran = cli("batch", zoo, "--ledger", ledger, "--jobs", 2)
    assert ran.code == 2
    assert "full" in ran.err and "Traceback" not in ran.err
    assert sorted(path for (path,) in rows(ledger, "SELECT path FROM models")) == sorted(kept)
    monkeypatch.undo()
    assert "6 models, 2 unchanged" in cli("batch", zoo, "--ledger", ledger, "--jobs", 2).err


def test_leaderboard_history_and_exports(cli, undisturbed, tmp_path):
    ledger = undisturbed[0]
    ran = cli("leaderboard", "--ledger", ledger, "--top", 3)
    assert ran.code == 0
    assert ran.out.count("step-") == 3 and "3 more" in ran.out
    assert cli("leaderboard", "*step-1.pt", "--ledger", ledger).out.count("step-") == 1
    assert "step-" not in cli("leaderboard", "--ledger", ledger, "--filter", "gmsi.typical<=0").out
    assert cli("leaderboard", "--ledger", ledger, "--sort", "gmsi.typcal").code == 2
    assert cli("leaderboard", "--ledger", tmp_path / "none.db").code == 3
    found = cli("history", "--ledger", ledger).out
    assert [line.split("step-")[1][0] for line in found.splitlines() if "step-" in line] == list("012345")
    for suffix in (".csv", ".json", ".parquet"):
        assert cli("leaderboard", "--ledger", ledger, "--export", tmp_path / f"t{suffix}").code == 0
    with (tmp_path / "t.csv").open() as file:
        table = list(csv.DictReader(file))
    assert json.loads((tmp_path / "t.json").read_text())[0]["path"] == table[0]["path"]
    from pyarrow import parquet

    again = parquet.read_table(tmp_path / "t.parquet").to_pylist()
    assert [row["gmsi.typical"] for row in again] == [float(row["gmsi.typical"]) for row in table]
    assert cli("leaderboard", "--ledger", ledger, "--export", tmp_path / "t.xls").code == 2


def test_parquet_without_its_package_names_the_command(cli, undisturbed, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    ran = cli("leaderboard", "--ledger", undisturbed[0], "--export", tmp_path / "t.parquet")
    assert ran.code == 2
    assert "pip install 'spectral-audit[parquet]'" in ran.err


def test_threads_that_wait_leave_the_processor_to_others(monkeypatch):
    monkeypatch.delenv("GOMP_SPINCOUNT", raising=False)
    assert thread_variables(2)["OMP_NUM_THREADS"] == "2"
    assert thread_variables(2)["GOMP_SPINCOUNT"] == "1000"
    monkeypatch.setenv("GOMP_SPINCOUNT", "5")
    assert thread_variables(2)["GOMP_SPINCOUNT"] == "5"


def test_a_budget_never_uses_more_threads_than_cores(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(6)), raising=False)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert Budget.of(None, None) == Budget(3, 2)
    assert Budget.of(4, 9.0) == Budget(4, 1, 0, 9.0)
    assert Budget.of(12, None) == Budget(12, 1)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    assert Budget.of(None, None) == Budget(2, 3, 2)
    assert Budget.of(None, None, device="cpu") == Budget(3, 2)
