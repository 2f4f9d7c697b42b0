"""`compare`, `baseline update` and `gate --baseline` from end to end."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from spectral_audit.reports.artifact import load_report, to_json
from tests.reports import example


@pytest.fixture
def saved(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    old = example.example()
    new = replace(old, samples=example.samples(1.1))
    other = replace(old, data=replace(old.data, n=128))
    for name, report in (("old", old), ("new", new), ("other", other)):
        (tmp_path / f"{name}.json").write_text(to_json(report), encoding="utf-8")
    return tmp_path


def test_compare_two_reports(cli, saved):
    ran = cli("compare", "old.json", "new.json")
    assert ran.code == 0
    assert "Axes" in ran.out
    found = json.loads(cli("compare", "old.json", "new.json", "-f", "json").out)
    assert found["paired"] is True
    assert len(found["changes"]) == 10
    assert cli("compare", "old.json", "new.json", "-f", "md").out.startswith("### spectral-audit compare")


def test_compare_two_models(cli, case, saved):
    found = json.loads(cli("compare", case.model, case.model, "--n", 10, "-f", "json").out)
    assert {change["difference"] for change in found["changes"]} == {0.0}


def test_what_is_not_comparable_is_refused_unless_forced(cli, saved):
    ran = cli("compare", "old.json", "other.json")
    assert (ran.code, ran.out) == (3, "")
    assert "data.n 256 and 128" in ran.err
    assert "compared by --force" in " ".join(cli("compare", "old.json", "other.json", "--force").out.split())
    rule = ("--max-increase", "gmsi.typical:50%")
    assert cli("gate", "other.json", "--baseline", "old.json", *rule).code == 3
    assert cli("gate", "other.json", "--baseline", "old.json", *rule, "--force").code == 0


def test_a_gate_over_a_baseline(cli, saved):
    assert cli("gate", "old.json", "--baseline", "old.json", "--max-increase", "gmsi.typical:0%").code == 0
    assert cli("gate", "new.json", "--baseline", "old.json", "--max-increase", "axes.input.worst:50%").code == 0
    ran = cli("gate", "new.json", "--max-increase", "gmsi.typical:0%")
    assert ran.code == 2
    assert "nothing to compare with" in ran.err


def test_baseline_update_writes_a_report_that_gates(cli, case, saved):
    ran = cli("baseline", "update", case.model, "base/line.json")
    assert (ran.code, ran.out) == (0, "")
    assert load_report(saved / "base" / "line.json").model.path == str(case.model)
    rule = ("--max-increase", "gmsi.typical:1%")
    assert cli("gate", case.model, "--baseline", "base/line.json", *rule).code == 0
    assert cli("baseline", "update", "new.json", "b.yaml").code == 0
    assert load_report(saved / "b.yaml") == load_report(saved / "new.json")
    assert cli("baseline", "update", "new.json", "b.txt").code == 2
