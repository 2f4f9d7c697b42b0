"""The ledger and its keys: whole transactions, messages for what cannot be written, and what changes a key."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import sys
from dataclasses import replace

import pytest
import torch

from spectral_audit.batch import key as keys
from spectral_audit.batch.jobs import Job, find_jobs
from spectral_audit.batch.key import Hashes, key_of
from spectral_audit.batch.ledger import Entry, Ledger
from spectral_audit.batch.table import matching, natural, ranked, rows_of
from spectral_audit.errors import RefusedError, UsageError
from spectral_audit.gate.rules import parse_rule
from tests.batch.zoo import SPEC, make_zoo, weights

GOOD = Entry("ok", figures={"gmsi.typical": 1.5, "gmsi.typical.low": 1.0}, report="{}", seconds=2.0)


def test_an_entry_comes_back_as_it_was(tmp_path):
    with Ledger(tmp_path / "new" / "a.db") as ledger:
        ledger.record("m\udcff.pt", "k", GOOD)
        ledger.record("b.pt", "l", Entry("failed", "why"))
    with Ledger(tmp_path / "new" / "a.db", create=False) as ledger:
        assert ledger.outcomes() == {"k": "ok", "l": "failed"}
        assert ledger.entries() == {"m\\udcff.pt": replace(GOOD, report=None), "b.pt": Entry("failed", "why")}
        assert ledger.report("m\udcff.pt") == "{}"
        assert ledger.report("b.pt") is None
        assert ledger.report("gone.pt") is None


def test_a_model_has_one_entry_whatever_is_recorded_about_it(tmp_path):
    with Ledger(tmp_path / "a.db") as ledger:
        ledger.record("m.pt", "k", Entry("failed", "first"))
        ledger.record("m.pt", "k", GOOD)
        ledger.record("m.pt", "other", GOOD)
        ledger.link({"copy.pt": "k", "m.pt": "other"})
        assert list(ledger.entries()) == ["copy.pt", "m.pt"]


def test_a_transaction_that_fails_leaves_nothing_behind(tmp_path):
    with Ledger(tmp_path / "a.db") as ledger:
        ledger.record("a.pt", "k", GOOD)
        with pytest.raises(sqlite3.IntegrityError), ledger._transaction():
            ledger._connection.execute("INSERT INTO models VALUES ('b.pt', 'l')")
            ledger._connection.execute("INSERT INTO models VALUES ('c.pt', NULL)")
        assert list(ledger.entries()) == ["a.pt"]


def test_a_full_disk_is_a_message_and_loses_nothing(tmp_path):
    """SQLite's own limit of pages stands for the disk's end."""
    with Ledger(tmp_path / "a.db") as ledger:
        ledger.record("a.pt", "k", GOOD)
        pages = ledger._connection.execute("PRAGMA page_count").fetchone()[0]
        ledger._connection.execute(f"PRAGMA max_page_count={pages}")
        big = replace(GOOD, report=os.urandom(200_000).hex())
        with pytest.raises(UsageError) as caught:
            ledger.record("b.pt", "l", big)
        assert "full" in caught.value.found
        assert "what is finished is kept" in caught.value.remedy
        assert list(ledger.entries()) == ["a.pt"]
    with Ledger(tmp_path / "a.db") as ledger:
        ledger.record("b.pt", "l", big)
        assert list(ledger.entries()) == ["a.pt", "b.pt"]


def test_a_ledger_where_none_can_be_written_is_a_message(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(UsageError, match="cannot be written"):
        Ledger(tmp_path / "file" / "a.db")
    with pytest.raises(UsageError, match="cannot be written"):
        Ledger(tmp_path)


def test_a_read_only_ledger_is_a_message(tmp_path, monkeypatch):
    with Ledger(tmp_path / "a.db") as ledger:
        ledger.record("a.pt", "k", GOOD)
        ledger._connection.execute("PRAGMA query_only=1")
        with pytest.raises(UsageError, match="cannot be written"):
            ledger.record("b.pt", "l", GOOD)
        assert list(ledger.entries()) == ["a.pt"]


def test_another_file_is_no_ledger(tmp_path):
    (tmp_path / "a.db").write_bytes(b"hello, this is no database at all" * 40)
    with pytest.raises(RefusedError, match="not a ledger"):
        Ledger(tmp_path / "a.db")
    with pytest.raises(RefusedError, match="no such ledger"):
        Ledger(tmp_path / "b.db", create=False)
    with sqlite3.connect(tmp_path / "c.db") as other:
        other.execute("PRAGMA user_version=99")
    with pytest.raises(RefusedError, match="another version"):
        Ledger(tmp_path / "c.db")


@pytest.fixture
def zoo(tmp_path):
    return make_zoo(tmp_path / "zoo", 2)


def key(zoo, **changes) -> str:
    return key_of(replace(Job(str(zoo / "step-0.pt")), **changes), Hashes())


def test_the_same_contents_have_the_same_key_wherever_they_lie(zoo, tmp_path):
    before = key(zoo)
    assert key(zoo) == before
    assert key(zoo, memory="1GB") == before
    shutil.copytree(zoo, tmp_path / "moved")
    assert key(tmp_path / "moved") == before


@pytest.mark.parametrize(
    "change",
    [
        lambda zoo: torch.save(weights(7), zoo / "step-0.pt"),
        lambda zoo: (zoo / "probe.npz").write_bytes((zoo / "probe.npz").read_bytes() + b" "),
        lambda zoo: (zoo / "audit.yaml").write_text((zoo / "audit.yaml").read_text().replace("16", "17")),
        lambda zoo: (zoo / "probe.npz").unlink(),
        lambda zoo: (zoo / "audit.yaml").unlink(),
    ],
    ids=["weights", "data", "spec", "no data", "no spec"],
)
def test_changed_contents_have_another_key(zoo, change):
    before = key(zoo)
    change(zoo)
    assert key(zoo) != before


def test_settings_the_builder_and_the_tool_are_part_of_the_key(zoo, tmp_path, monkeypatch):
    net = tmp_path / "net.py"
    net.write_text("1")
    found = [key(zoo), key(zoo, n=8), key(zoo, seed=1), key(zoo, dtype="float64"), key(zoo, arch=f"{net}:build")]
    net.write_text("2")
    found.append(key(zoo, arch=f"{net}:build"))
    monkeypatch.setattr(keys, "__version__", "99")
    found.append(key(zoo))
    assert len(set(found)) == len(found)


def test_what_else_lies_beside_the_spec_is_not_part_of_the_key(zoo):
    before = key(zoo)
    (zoo / "notes.txt").write_text("nothing to do with it")
    assert key(zoo) == before


@pytest.mark.parametrize("line", ["data: {path: 'python:own.py:load'}", "attribution: {methods: ['own.py:load']}"])
def test_the_code_of_functions_is_part_of_the_key(zoo, line):
    text = SPEC if line.startswith("attribution") else SPEC.replace("data: {path: probe.npz}", "")
    (zoo / "audit.yaml").write_text(f"{text}{line}\n")
    found = [key(zoo)]
    for version in "12":
        (zoo / "own.py").write_text(version)
        found.append(key(zoo))
    assert len(set(found)) == len(found)


def test_other_data_is_part_of_the_key_and_so_are_its_bytes(zoo, tmp_path):
    other = tmp_path / "other.npz"
    shutil.copy(zoo / "probe.npz", other)
    found = [key(zoo), key(zoo, data=str(other))]
    other.write_bytes(other.read_bytes() + b" ")
    found.append(key(zoo, data=str(other)))
    assert len(set(found)) == len(found)


def test_a_comment_in_the_spec_changes_nothing(zoo):
    before = key(zoo)
    (zoo / "audit.yaml").write_text((zoo / "audit.yaml").read_text() + "# a comment\n")
    assert key(zoo) == before


def names(jobs: list[Job], zoo) -> list[str]:
    return [os.path.relpath(job.path, zoo) for job in jobs]


def test_files_folders_patterns_and_manifests_name_models(zoo):
    (zoo / "sub").mkdir()
    shutil.copy(zoo / "step-0.pt", zoo / "sub" / "last.safetensors")
    common = Job("", n=8)
    everything = ["step-0.pt", "step-1.pt", "sub/last.safetensors"]
    assert names(find_jobs([str(zoo)], common), zoo) == everything
    assert names(find_jobs([str(zoo / "**" / "*.pt")], common), zoo) == everything[:2]
    assert names(find_jobs([str(zoo / "step-0.pt"), str(zoo)], common), zoo) == everything
    manifest = zoo / "models.yaml"
    manifest.write_text("defaults: {n: 9}\nmodels:\n- step-0.pt\n- {path: step-1.pt, n: 10, spec: audit.yaml}\n")
    found = find_jobs([str(manifest)], common)
    assert [job.n for job in found] == [9, 10]
    assert found[1].spec == str(zoo / "audit.yaml")
    assert found[0].spec is None


@pytest.mark.parametrize(
    "text", ["models: 3", "model: []", "models: [{spec: a}]", "models: [{path: a, size: 3}]", "[", "models: []"]
)
def test_a_manifest_that_cannot_be_read_is_a_usage_error(zoo, text):
    path = zoo / "models.yaml"
    path.write_text(text)
    with pytest.raises(UsageError, match=r"models\.yaml"):
        find_jobs([str(path)], Job(""))


def test_a_target_that_names_nothing_is_a_usage_error(zoo):
    with pytest.raises(UsageError, match="no checkpoint there"):
        find_jobs([str(zoo / "*.onnx")], Job(""))


ENTRIES = {
    f"run/step-{step}.pt": Entry("ok", figures={"gmsi.typical": value, "data.accuracy": 0.1 * step})
    for step, value in ((1, 3.0), (2, 1.0), (9, 2.0), (10, None))
} | {"run/bad.pt": Entry("failed", "why")}


def test_tables_sort_filter_and_order_numbers_in_names():
    rows = rows_of(ENTRIES)
    assert [row.path[4:-3] for row in rows] == ["bad", "step-1", "step-2", "step-9", "step-10"]
    best = ranked(rows, "gmsi.typical")
    assert [row.path[4:-3] for row in best] == ["step-2", "step-9", "step-1", "bad", "step-10"]
    assert [row.path[4:-3] for row in ranked(rows, "gmsi.typical", descending=True)][:3] == [
        "step-1",
        "step-9",
        "step-2",
    ]
    assert len(matching(rows, ["*step-1*"], [])) == 2
    kept = matching(rows, [], [parse_rule("gmsi.typical<=2"), parse_rule("data.accuracy>0.5")])
    assert [row.path for row in kept] == ["run/step-9.pt"]
    with pytest.raises(UsageError, match=r"gmsi\.typcal"):
        ranked(rows, "gmsi.typcal")
    with pytest.raises(UsageError):
        matching(rows, [], [parse_rule("gmsi.typcal<=2")])
    assert natural("a10b") > natural("a9b")


def test_planning_needs_no_torch():
    code = (
        "import sys, spectral_audit.batch.run, spectral_audit.batch.pages, spectral_audit.batch.live\n"
        "print(sorted({'torch', 'numpy'} & set(sys.modules)))"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "[]"
