"""What the repository offers to CI systems runs as it is written: the workflow, the action and the hook."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
import yaml

from spectral_audit.reports.artifact import to_json
from tests.reports import example

ROOT = Path(__file__).parents[1]
WORKFLOW = ROOT / "ci" / "audit.yml"


@pytest.fixture
def bash(tmp_path):
    """Run a step's script as a runner does, in a folder of its own, with this interpreter's commands first."""
    tools = tmp_path / "tools"
    tools.mkdir()
    for name, module in (("spectral-audit", "-m spectral_audit"), ("python", "")):
        script = tools / name
        script.write_text(f'#!/bin/sh\nexec "{sys.executable}" {module} "$@"\n', encoding="utf-8")
        script.chmod(0o755)
    work = tmp_path / "work"
    work.mkdir()

    def run(script: str, **environment: str) -> subprocess.CompletedProcess[str]:
        path = f"{tools}{os.pathsep}{os.environ['PATH']}"
        summary = str(tmp_path / "summary.md")
        return subprocess.run(
            ["bash", "-eo", "pipefail", "-c", script],
            check=False,
            cwd=work,
            env=os.environ | {"PATH": path, "GITHUB_STEP_SUMMARY": summary} | environment,
            capture_output=True,
            text=True,
        )

    run.work, run.summary = work, tmp_path / "summary.md"  # type: ignore[attr-defined]  # where the steps ran
    return run


def steps(path: Path) -> list[dict[str, Any]]:
    document = yaml.safe_load(path.read_text(encoding="utf-8"))
    return document["runs"]["steps"] if "runs" in document else document["jobs"]["gate"]["steps"]


def test_the_workflow_runs_as_it_stands(bash, case, cli):
    """Its own steps on a model of this test, whose first audit is the baseline; installing is left to the runner."""
    for name in ("model.pt", "model.audit.yaml", "probe.npz"):
        shutil.copy(case.folder / name, bash.work / name)
    assert cli("baseline", "update", bash.work / "model.pt", bash.work / "baseline.json").code == 0
    scripts = {step["name"]: step["run"] for step in steps(WORKFLOW) if "run" in step}
    assert list(scripts) == ["Install", "Audit", "Gate"]
    for name in ("Audit", "Gate"):
        ran = bash(scripts[name])
        assert ran.returncode == 0, ran.stderr + ran.stdout
    assert {path.name for path in (bash.work / "audit").iterdir()} >= {"report.json", "verdict.xml", "verdict.sarif"}
    assert "spectral-audit gate" in bash.summary.read_text(encoding="utf-8")


def test_the_readme_shows_the_tested_workflow():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    body = WORKFLOW.read_text(encoding="utf-8").partition("\n")[2]
    assert f"```yaml\n{body}```" in readme


@pytest.mark.parametrize(
    ("rules", "inconclusive", "code"),
    [
        ("gmsi.typical<=0.5\n\ngmsi.worst<=20\n", "report", 0),
        ("gmsi.typical<=0.3", "report", 1),
        ("gmsi.typical<=0.42", "report", 4),
        ("gmsi.typical<=0.42", "pass", 0),
        ("a<=1; touch injected", "report", 2),
    ],
)
def test_the_action_gates(bash, rules, inconclusive, code):
    (bash.work / "report.json").write_text(to_json(example.example()), encoding="utf-8")
    script = steps(ROOT / "action.yml")[1]["run"]
    ran = bash(
        script,
        SUBJECT="report.json", RULES=rules, POLICY="", BASELINE="", INCREASES="", INCONCLUSIVE=inconclusive,
        REPORTS="out",
    )  # fmt: skip
    assert ran.returncode == code, ran.stderr
    assert not (bash.work / "injected").exists()
    if code != 2:
        ElementTree.parse(bash.work / "out" / "verdict.xml")


def test_the_action_passes_every_input_through_the_environment():
    """A name inside a script would be run as part of it."""
    document = yaml.safe_load((ROOT / "action.yml").read_text(encoding="utf-8"))
    assert document["runs"]["using"] == "composite"
    used = set()
    for step in document["runs"]["steps"]:
        assert "${{" not in step["run"]
        used |= set(step["env"].values())
    assert used == {f"${{{{ inputs.{name} }}}}" for name in document["inputs"]}


def test_the_hook_gates_saved_reports(cli, tmp_path, monkeypatch):
    (hook,) = yaml.safe_load((ROOT / ".pre-commit-hooks.yaml").read_text(encoding="utf-8"))
    assert hook["language"] == "python"
    command = hook["entry"].split()
    assert command[0] == "spectral-audit"
    monkeypatch.chdir(tmp_path)
    (tmp_path / "report.json").write_text(to_json(example.example()), encoding="utf-8")
    (tmp_path / "pyproject.toml").write_text(
        '[tool.spectral-audit.gate]\nrequire = ["gmsi.typical<=0.3"]\n', encoding="utf-8"
    )
    assert cli(*command[1:], *hook["args"], "report.json").code == 1
