"""Policies: files, pyproject.toml and presets, and which of them has the last word."""

from __future__ import annotations

from pathlib import Path

import pytest

from spectral_audit.errors import UsageError
from spectral_audit.gate.paths import check_path
from spectral_audit.gate.policy import PRESETS, Policy, find_policy, load_policy, preset
from spectral_audit.gate.rules import parse_rule

TEXT = """
version: 1
preset: lenient
inconclusive: fail
baseline: old.json
require:
  gmsi.typical<=3: warn
  axes.input.typical<=5: off
  data.accuracy>=0.9: error
max-increase:
  gmsi.typical:5%: error
"""


def write(folder: Path, text: str, name: str = "policy.yaml") -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def levels(policy: Policy) -> dict[str, str]:
    return {str(rule): rule.level for rule in policy.rules}


def test_a_policy_file(tmp_path):
    policy = load_policy(write(tmp_path, TEXT))
    # The file's rule on gmsi.typical replaces the preset's, and switches another off.
    assert levels(policy) == {"gmsi.typical<=3": "warn", "axes.input.typical<=5": "off", "data.accuracy>=0.9": "error"}
    assert [(str(rule), rule.level) for rule in policy.increases] == [("gmsi.typical:5%", "error")]
    assert policy.baseline == tmp_path / "old.json"
    assert policy.on_inconclusive == "fail"


def test_a_plain_list_of_rules_is_of_errors(tmp_path):
    policy = load_policy(write(tmp_path, "require: [gmsi.typical<=3, gmsi.worst<=9]"))
    assert levels(policy) == {"gmsi.typical<=3": "error", "gmsi.worst<=9": "error"}


def test_the_nearest_pyproject_speaks(tmp_path):
    write(tmp_path, '[tool.spectral-audit.gate]\nrequire = ["gmsi.typical<=3"]\n', "pyproject.toml")
    below = tmp_path / "a" / "b"
    below.mkdir(parents=True)
    assert levels(find_policy(below)) == {"gmsi.typical<=3": "error"}
    write(below, "[project]\nname = 'other'\n", "pyproject.toml")
    assert find_policy(below) == Policy()


def test_the_more_specific_rule_has_the_last_word():
    own = Policy((parse_rule("gmsi.typical<=1"),))
    merged = own.over(preset("standard"))
    assert levels(merged)["gmsi.typical<=1"] == "error"
    assert "gmsi.typical<=5" not in levels(merged)
    assert "axes.input.typical<=2" in levels(merged)


@pytest.mark.parametrize("name", PRESETS)
def test_presets_ask_for_figures_that_exist(name):
    assert preset(name).rules
    for rule in preset(name).rules:
        check_path(rule.path)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("requires: []", "did you mean 'require'?"),
        ("require: {gmsi.typical<=3: fatal}", "error, off, warn"),
        ("require: 3", "a list of rules"),
        ("require: [gmsi.typical]", "PATH<=LIMIT"),
        ("max-increase: [gmsi.typical]", "PATH:SHARE%"),
        ("preset: stric", "did you mean 'strict'?"),
        ("inconclusive: ignore", "report or pass or fail"),
        ("version: 2", "1"),
        ("baseline: [a]", "the path of a saved report"),
        ("- a", "a mapping"),
        ("{", "a policy in YAML"),
    ],
)
def test_a_policy_that_cannot_be_read_is_a_usage_error_that_names_the_file(tmp_path, text, expected):
    path = write(tmp_path, text)
    with pytest.raises(UsageError) as caught:
        load_policy(path)
    assert str(path) in caught.value.message
    assert expected in caught.value.expected


def test_missing_files_and_bad_toml(tmp_path):
    with pytest.raises(UsageError, match=r"gone\.yaml"):
        load_policy(tmp_path / "gone.yaml")
    write(tmp_path, "[tool", "pyproject.toml")
    with pytest.raises(UsageError, match=r"pyproject\.toml"):
        find_policy(tmp_path)
