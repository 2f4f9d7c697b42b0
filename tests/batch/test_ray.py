"""`batch --engine ray` on a cluster of this machine with two workers, one of which is killed."""

from __future__ import annotations

import os
import signal
import sqlite3
import sys
import time
from pathlib import Path

import pytest
import torch

from tests.batch.zoo import make_zoo, weights

pytest.importorskip("ray", reason="ray has no wheel for this platform")

# The first to build the model `waits` says who it is and waits: it is killed, and whoever comes next goes on.
NET = """
import os, time
from pathlib import Path
from torch import nn

HERE = Path(__file__).parent

def build(how="fine"):
    if how == "raises":
        raise RuntimeError("no such net")
    if how == "dies":
        os._exit(7)
    if how == "slow" or (how == "waits" and not (HERE / "go").exists()):
        (HERE / "pid.part").write_text(str(os.getpid()))
        (HERE / "pid.part").rename(HERE / "pid")
        time.sleep(600)
    return nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3))
"""


def zoo(folder: Path, hows: list[str]) -> Path:
    """A manifest of models that are built as their names say."""
    make_zoo(folder, 0)
    (folder / "net.py").write_text(NET)
    names = ("0.weight", "0.bias", "2.weight", "2.bias")
    entries = []
    for seed, how in enumerate(hows):
        torch.save(dict(zip(names, weights(seed).values(), strict=True)), folder / f"{seed}-{how}.pt")
        entries.append(f"- {{path: {seed}-{how}.pt, arch: {folder}/net.py:build, arch_kwargs: {{how: {how}}}}}\n")
    (folder / "models.yaml").write_text("models:\n" + "".join(entries))
    return folder / "models.yaml"


def rows(ledger: Path, query: str) -> list[tuple]:
    with sqlite3.connect(ledger) as connection:
        return connection.execute(query).fetchall()


def wait_for(path: Path) -> str:
    deadline = time.monotonic() + 240
    while not path.exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    return path.read_text()


def test_a_worker_killed_on_the_way_costs_nothing(spawn, cli, tmp_path):
    manifest = zoo(tmp_path / "zoo", ["fine", "waits", "fine", "fine", "raises"])
    ledger, local = tmp_path / "ray.db", tmp_path / "local.db"
    asked = ("batch", manifest, "--engine", "ray", "--jobs", 2, "--ledger", ledger)
    with spawn("-m", "spectral_audit", *asked) as started:
        pid = int(wait_for(manifest.parent / "pid"))
        (manifest.parent / "go").touch()
        os.kill(pid, signal.SIGKILL)
        out, err = started.communicate(timeout=300)
    assert started.returncode == 3
    assert "5 models, 0 unchanged, 2 processes" in err
    assert "Traceback" not in err
    assert rows(ledger, "SELECT count(*), count(DISTINCT path), count(DISTINCT key) FROM models") == [(5, 5, 5)]
    assert err.count("GMSI typical") == 4
    ran = cli("batch", manifest, "--jobs", 2, "--ledger", local)
    assert (ran.code, ran.out) == (3, out)
    figures = "SELECT path, key, outcome, message, figures FROM models JOIN audits USING (key) ORDER BY path"
    assert rows(ledger, figures) == rows(local, figures)
    again = cli(*asked)  # no cluster is started for nothing
    assert (again.code, again.out) == (3, out)
    assert "5 models, 5 unchanged\n" in again.err


def test_models_that_hang_or_die_are_entries_and_an_interrupt_ends_cleanly(spawn, tmp_path):
    manifest = zoo(tmp_path / "zoo", ["dies", "fine", "slow"])
    ledger = tmp_path / "a.db"
    asked = ("-m", "spectral_audit", "batch", manifest, "--engine", "ray", "--ledger", ledger, "--jobs", 2)
    with spawn(*asked, "--timeout", 15) as started:
        _, err = started.communicate(timeout=300)
    assert started.returncode == 3
    found = dict(rows(ledger, "SELECT path, outcome FROM models JOIN audits USING (key)"))
    assert {Path(path).stem[2:]: outcome for path, outcome in found.items()} == {
        "dies": "crashed", "fine": "ok", "slow": "timeout",
    }  # fmt: skip
    (manifest.parent / "pid").unlink()
    with spawn(*asked, "--retry-failed") as started:
        wait_for(manifest.parent / "pid")
        os.kill(started.pid, signal.SIGINT)
        _, err = started.communicate(timeout=120)
    assert started.returncode == 130
    assert "what was finished is in the ledger" in err
    assert "Traceback" not in err
    assert len(rows(ledger, "SELECT path FROM models")) == 3


def test_without_ray_or_without_its_cluster_it_says_what_to_do(cli, tmp_path, monkeypatch):
    manifest = zoo(tmp_path / "zoo", ["fine"])
    asked = ("batch", manifest, "--engine", "ray", "--ledger", tmp_path / "a.db")
    ran = cli(*asked, "--ray-address", "no-such-scheme://nowhere")
    assert ran.code == 2
    assert "no cluster at no-such-scheme://nowhere" in ran.err
    monkeypatch.setitem(sys.modules, "ray", None)
    ran = cli(*asked)
    assert ran.code == 2
    assert "pip install 'spectral-audit[ray]'" in ran.err
