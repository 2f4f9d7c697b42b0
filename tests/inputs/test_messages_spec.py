"""The whole text about specs that are no YAML, and about keys that are unknown, repeated or missing."""

from __future__ import annotations

from pathlib import Path

import pytest

from spectral_audit.errors import UsageError
from spectral_audit.inputs.spec import load_spec
from tests.inputs.messages import said, text


@pytest.mark.parametrize(
    ("document", "message"),
    [
        (
            "data: {path: a}\ninput: {maen: 1}",
            text(
                "DIR/audit.yaml: unknown key `input.maen`",
                "one of: layout, mean, scale, shape, size, std, type",
                "'maen'",
                "remove it or correct it; did you mean 'mean'? known: layout, mean, scale, shape, size, std, type.",
            ),
        ),
        (
            "data: {path: a}\nsampel: {n: 3}",
            text(
                "DIR/audit.yaml: unknown key `sampel`",
                "one of: attribution, data, input, model, sample, task, version",
                "'sampel'",
                "remove it or correct it; did you mean 'sample'? known: attribution, data, input, model, sample, "
                "task, version.",
            ),
        ),
        (
            "data: {path: a}\ninput: {mean: 1, mean: 2}",
            text(
                "DIR/audit.yaml: not readable as YAML",
                "one YAML document in UTF-8, every key once",
                "the key 'mean' appears twice in \"audit.yaml\", line 2, column 18: input: {mean: 1, mean: 2} ^",
                "correct that place.",
            ),
        ),
        (
            "data: {path: a}\nmodel: {kwargs: {a: 1, a: 2}}",
            text(
                "DIR/audit.yaml: not readable as YAML",
                "one YAML document in UTF-8, every key once",
                "the key 'a' appears twice in \"audit.yaml\", line 2, column 24: model: {kwargs: {a: 1, a: 2}} ^",
                "correct that place.",
            ),
        ),
        (
            "data: {path: a}\nattribution: {radius: {norm: l2}}",
            text(
                "DIR/audit.yaml: `attribution.radius.value` is missing",
                "that key, which has no default",
                "keys norm",
                "add `attribution.radius.value` to that file.",
            ),
        ),
        (
            "- 1",
            text(
                "DIR/audit.yaml: the document is not valid",
                "a mapping with version, model, data, input, task, sample, attribution",
                "a list of 1",
                "rewrite that file.",
            ),
        ),
        (
            "",
            text(
                "DIR/audit.yaml: the document is not valid",
                "a mapping with version, model, data, input, task, sample, attribution",
                "nothing (null)",
                "rewrite that file.",
            ),
        ),
        (
            "data: {path: [",
            text(
                "DIR/audit.yaml: not readable as YAML",
                "one YAML document in UTF-8, every key once",
                "while parsing a flow node expected the node content, but found '<stream end>' in \"audit.yaml\", "
                "line 1, column 15: data: {path: [ ^",
                "correct that place.",
            ),
        ),
        (
            "data: !!python/object/apply:os.system [touch canary]",
            text(
                "DIR/audit.yaml: not readable as YAML",
                "one YAML document in UTF-8, every key once",
                "could not determine a constructor for the tag 'tag:yaml.org,2002:python/object/apply:os.system' "
                'in "audit.yaml", line 1, column 7: data: !!python/object/apply:os.system ... ^',
                "correct that place.",
            ),
        ),
        (
            "data: {path: a}\nmodel: {kwargs: {d: 2020-99-99}}",
            text(
                "DIR/audit.yaml: not readable as YAML",
                "one YAML document in UTF-8, every key once",
                'no date of the calendar in "audit.yaml", line 2, column 21: model: {kwargs: {d: 2020-99-99}} ^',
                "correct that place.",
            ),
        ),
        (
            "data: {path: a}\nsample: {seed: 0x" + "f" * 5000 + "}",
            text(
                "DIR/audit.yaml: not readable as YAML",
                "one YAML document in UTF-8, every key once",
                'no integer of up to 1024 bits in "audit.yaml", line 2, column 16: sample: {seed: '
                "0xffffffffffffffffffffffffffffff ... ^",
                "correct that place.",
            ),
        ),
        (
            "data: {path: a}\nsample: {seed: " + "9" * 5000 + "}",
            text(
                "DIR/audit.yaml: not readable as YAML",
                "one YAML document in UTF-8, every key once",
                'no integer of up to 1024 bits in "audit.yaml", line 2, column 16: sample: {seed: '
                "99999999999999999999999999999999 ... ^",
                "correct that place.",
            ),
        ),
        (
            "[" * 3000,
            text(
                "DIR/audit.yaml: not readable as YAML",
                "one YAML document in UTF-8, every key once",
                "lists or mappings nested too deeply",
                "correct that place.",
            ),
        ),
        (
            "data: {x: a}",
            text(
                "DIR/audit.yaml: `data.path` is missing",
                "that key, which has no default",
                "keys x",
                "add `data.path` to that file.",
            ),
        ),
        (
            "version: 1",
            text(
                "DIR/audit.yaml: `data` is missing",
                "that key, which has no default",
                "keys version",
                "add `data` to that file.",
            ),
        ),
        (
            "data: {}",
            text(
                "DIR/audit.yaml: `data.path` is missing",
                "that key, which has no default",
                "keys (none)",
                "add `data.path` to that file.",
            ),
        ),
        (
            "data: {path: a}\n3: 4",
            text(
                "DIR/audit.yaml: unknown key `3`",
                "one of: attribution, data, input, model, sample, task, version",
                "'3'",
                "remove it or correct it; known: attribution, data, input, model, sample, task, version.",
            ),
        ),
    ],
)
def test_the_whole_text(tmp_path: Path, document: str, message: str) -> None:
    (tmp_path / "audit.yaml").write_text(document, encoding="utf-8")
    assert said(tmp_path, lambda folder: load_spec(folder / "audit.yaml"), UsageError) == message
    assert not Path("canary").exists()


def test_a_file_that_cannot_be_read_is_a_usage_error(tmp_path: Path) -> None:
    assert said(tmp_path, lambda folder: load_spec(folder / "none.yaml"), UsageError) == text(
        "DIR/none.yaml: no such spec file",
        "a YAML file",
        "nothing of that name",
        "check the path given to --spec.",
    )
    assert said(tmp_path, load_spec, UsageError) == text(
        "DIR: cannot be read", "a YAML file", "Is a directory", "give a readable file with --spec."
    )
    (tmp_path / "latin.yaml").write_bytes(b"data: {path: caf\xe9}")
    assert said(tmp_path, lambda folder: load_spec(folder / "latin.yaml"), UsageError) == text(
        "DIR/latin.yaml: not readable as YAML",
        "one YAML document in UTF-8, every key once",
        "'utf-8' codec can't decode byte 0xe9 in position 16: invalid continuation byte",
        "correct that place.",
    )
