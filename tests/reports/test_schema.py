"""The JSON Schema that ships with the package is the result classes, no more and no less."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import jsonschema
import pytest

from spectral_audit.reports import artifact, schema
from spectral_audit.results import SCHEMA
from tests.reports import example


@pytest.fixture(scope="module")
def validator() -> Any:
    return jsonschema.Draft202012Validator(json.loads(schema.SCHEMA_PATH.read_text(encoding="utf-8")))


def test_the_committed_schema_is_the_generated_one() -> None:
    assert schema.SCHEMA_PATH.read_text(encoding="utf-8") == schema.schema_text()


def test_the_schema_is_itself_valid() -> None:
    jsonschema.Draft202012Validator.check_schema(schema.build_schema())
    assert schema.build_schema()["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert schema.build_schema()["properties"]["schema"] == {"const": SCHEMA}


@pytest.mark.parametrize("variant", example.VARIANTS)
def test_every_example_validates(validator: Any, variant: str) -> None:
    document = json.loads(artifact.to_json(example.VARIANTS[variant]()))
    assert list(validator.iter_errors(document)) == []


DAMAGES = {
    "missing": lambda document: document["gmsi"].pop("worst"),
    "unknown": lambda document: document["axes"].update(extra=1),
    "type": lambda document: document["scales"].update(input="9"),
    "null": lambda document: document["scales"].update(input=None),
    "name": lambda document: document["gmsi"].update(binding="biases"),
    "version": lambda document: document.update(schema="spectral-audit/report/0"),
    "item": lambda document: document["spectra"]["ntk"]["values"].append("x"),
    "map": lambda document: document["cost"]["stages"].update(sweep="long"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_report_does_not_validate(validator: Any, damage: str) -> None:
    document = artifact.encode(example.example())
    assert validator.is_valid(document)
    DAMAGES[damage](document)
    assert not validator.is_valid(document)


def test_every_class_carries_its_description() -> None:
    described = [schema.build_schema(), *schema.build_schema()["$defs"].values()]
    assert all(entry["description"] and entry["additionalProperties"] is False for entry in described)
    assert all(entry["required"] == list(entry["properties"]) for entry in described)


def test_reports_import_neither_torch_nor_numpy() -> None:
    code = (
        "import sys, spectral_audit.reports, spectral_audit.reports.schema\n"
        "print(sorted({'torch', 'numpy'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
