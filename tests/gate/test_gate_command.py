"""`gate` from end to end: what it prints, where, and how it ends."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

from spectral_audit.gate.judge import conclude, judge_rule
from spectral_audit.gate.rules import parse_rule
from spectral_audit.reports.artifact import to_json, to_yaml
from spectral_audit.reports.verdict import VERDICT_WRITERS
from tests.reports import example

PASS, FAIL, OPEN = "gmsi.typical<=0.5", "gmsi.typical<=0.3", "gmsi.typical<=0.42"
FORMATS = ("rich", "json", "md", "junit", "sarif")


@pytest.fixture
def saved(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("GITHUB_STEP_SUMMARY", raising=False)
    path = tmp_path / "report.json"
    path.write_text(to_json(example.example()), encoding="utf-8")
    return path


@pytest.mark.parametrize("output_format", FORMATS)
@pytest.mark.parametrize(("rule", "code"), [(PASS, 0), (FAIL, 1), (OPEN, 4), ("gmsi.typicl<=1", 2)])
def test_exit_codes_do_not_depend_on_the_format(cli, saved, rule, code, output_format):
    ran = cli("gate", saved, "--require", rule, "--format", output_format)
    assert ran.code == code
    assert bool(ran.out) is (code != 2)


def test_every_rule_is_printed_with_limit_found_interval_and_outcome(cli, saved):
    ran = cli("gate", saved, "--require", PASS, "--require", "gmsi.worst<=14", "--require", "axes.input.worst.value<=6")
    lines = [" ".join(line.split()) for line in ran.out.splitlines()]
    assert "+ gmsi.typical ≤ 0.5 0.420 0.395–0.446 pass" in lines
    assert any(line.startswith("? gmsi.worst ≤ 14 14.2 12.7–15.9 inconclusive") for line in lines)
    assert "x axes.input.worst.value ≤ 6 6.21 fail" in lines
    assert ran.code == 1


def test_a_yaml_report_is_a_report_too(cli, saved):
    saved.with_suffix(".yaml").write_text(to_yaml(example.example()), encoding="utf-8")
    assert cli("gate", saved.with_suffix(".yaml"), "--require", PASS).code == 0


def test_a_checkpoint_is_audited_and_judged(cli, case, saved):
    assert cli("gate", case.model, "--require", "gmsi.typical>=0", "--n", 10).code == 0
    assert cli("gate", case.model, "--require", "gmsi.typical<0", "--n", 10).code == 1


def test_a_wrong_path_is_said_before_the_audit(cli, saved, monkeypatch):
    ran = cli("gate", "there-is-no-model.pt", "--require", "gmsi.typicl<=1")
    assert ran.code == 2
    assert "gmsi.typical" in ran.err
    assert "nothing to judge" in cli("gate", "there-is-no-model.pt").err
    growth = ("--max-increase", "gmsi.typical:5%", "--baseline", "there-is-no.json")
    assert "there-is-no.json" in cli("gate", "there-is-no-model.pt", *growth).err


def test_policy_preset_and_command_line_together(cli, saved):
    policy = saved.with_name("policy.yaml")
    policy.write_text("require: {gmsi.typical<=0.3: warn}\n", encoding="utf-8")
    assert cli("gate", saved, "--policy", policy).code == 0
    assert cli("gate", saved, "--policy", policy, "--require", FAIL).code == 1
    assert cli("gate", saved, "--preset", "lenient").code == 0
    assert cli("gate", saved, "--require", OPEN, "--inconclusive", "pass").code == 0
    assert cli("gate", saved, "--require", OPEN, "--inconclusive", "fail").code == 1
    assert cli("gate", saved).code == 2


def test_pyproject_is_read_where_no_policy_is_named(cli, saved):
    saved.with_name("pyproject.toml").write_text(
        f'[tool.spectral-audit.gate]\nrequire = ["{FAIL}"]\n', encoding="utf-8"
    )
    assert cli("gate", saved).code == 1


def test_files_for_ci_and_the_step_summary(cli, saved, tmp_path, monkeypatch):
    summary = tmp_path / "summary.md"
    summary.write_text("before\n", encoding="utf-8")
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(summary))
    names = ["v.json", "v.md", "v.xml", "v.sarif", "v.txt"]
    ran = cli("gate", saved, "--require", PASS, *[part for name in names for part in ("-o", tmp_path / "out" / name)])
    assert ran.code == 0
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == sorted(names)
    text = summary.read_text(encoding="utf-8")
    assert text.startswith("before\n")
    assert "✅ spectral-audit gate" in text


def test_outputs_that_cannot_be_written_are_said_first(cli, saved, tmp_path):
    assert cli("gate", "no.pt", "--require", PASS, "-o", tmp_path / "a.html").code == 2
    assert "no known format" in cli("gate", "no.pt", "--require", PASS, "-o", tmp_path / "a.html").err
    assert "cannot be written" in cli("gate", "no.pt", "--require", PASS, "-o", saved / "a.md").err


def test_a_summary_that_fails_changes_no_exit_code(cli, saved, tmp_path, monkeypatch):
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(tmp_path / "no" / "folder"))
    ran = cli("gate", saved, "--require", PASS)
    assert ran.code == 0
    assert "GITHUB_STEP_SUMMARY" in ran.err


def verdict(*rules: str, level: str = "error"):
    report = example.example()
    return conclude(report, [judge_rule(report, parse_rule(rule, level)) for rule in rules])


def test_junit_counts_failures_errors_and_skipped():
    suites = ElementTree.fromstring(VERDICT_WRITERS["junit"](verdict(PASS, FAIL, OPEN)))
    assert [suites.get(name) for name in ("tests", "failures", "errors", "skipped")] == ["3", "1", "1", "0"]
    suites = ElementTree.fromstring(VERDICT_WRITERS["junit"](verdict(FAIL, level="warn")))
    assert [suites.get(name) for name in ("tests", "failures", "errors", "skipped")] == ["1", "0", "0", "1"]


def test_sarif_results_have_levels_for_failures_only():
    run = json.loads(VERDICT_WRITERS["sarif"](verdict(PASS, FAIL, OPEN)))["runs"][0]
    assert [(r["kind"], r["level"]) for r in run["results"]] == [
        ("pass", "none"),
        ("fail", "error"),
        ("review", "none"),
    ]
    assert [rule["id"] for rule in run["tool"]["driver"]["rules"]] == [PASS, FAIL, OPEN]
    assert [r["ruleIndex"] for r in run["results"]] == [0, 1, 2]


def test_foreign_names_do_not_break_a_format(cli, saved):
    from dataclasses import replace

    report = replace(example.example(), model=replace(example.example().model, path="a|`<b>\x1b[31m\udcff &.pt"))
    found = conclude(report, [judge_rule(report, parse_rule(PASS))])
    ElementTree.fromstring(VERDICT_WRITERS["junit"](found))
    json.loads(VERDICT_WRITERS["sarif"](found))
    for name in ("rich", "md"):
        assert "\x1b" not in VERDICT_WRITERS[name](found)


def test_a_saved_report_is_judged_without_torch_and_numpy(saved):
    code = (
        "import sys\nfrom spectral_audit.cli import app\n"
        f"try:\n app(['gate', {str(saved)!r}, '--require', {PASS!r}])\n"
        "except SystemExit as end:\n assert end.code == 0\n"
        "print(sorted({'torch', 'numpy'} & set(sys.modules)))"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=dict(os.environ), check=True)
    assert ran.stdout.splitlines()[-1] == "[]"
