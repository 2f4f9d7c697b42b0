"""The JSON Schema of the report, generated from the result classes: `python -m spectral_audit.reports.schema`."""

from __future__ import annotations

import inspect
import json
from pathlib import Path
from typing import Any, get_args

from spectral_audit.reports.artifact import fields_of, kind_of, unwrap
from spectral_audit.results import SCHEMA, Report

DIALECT = "https://json-schema.org/draft/2020-12/schema"
SCHEMA_PATH = Path(__file__).with_name("report.schema.json")

_SCALARS = {"float": "number", "int": "integer", "str": "string", "bool": "boolean"}


def build_schema(root: type = Report) -> dict[str, Any]:
    """The JSON Schema (draft 2020-12) of a result class: every key required, no other allowed."""
    definitions: dict[str, Any] = {}
    top = _object(root, definitions)
    if root is Report:
        top["properties"]["schema"] = {"const": SCHEMA}
    return {"$schema": DIALECT, "title": root.__name__, **top, "$defs": dict(sorted(definitions.items()))}


def schema_text() -> str:
    """The schema as the package ships it."""
    return json.dumps(build_schema(), indent=2, ensure_ascii=False) + "\n"


def _object(kind: type, definitions: dict[str, Any]) -> dict[str, Any]:
    hints = fields_of(kind)
    return {
        "description": inspect.getdoc(kind),
        "type": "object",
        "properties": {name: _value(hint, definitions) for name, hint in hints.items()},
        "required": list(hints),
        "additionalProperties": False,
    }


def _value(hint: Any, definitions: dict[str, Any]) -> dict[str, Any]:
    inner, nullable = unwrap(hint)
    described = _described(inner, definitions)
    if not nullable:
        return described
    if isinstance(described.get("type"), str) and "enum" not in described:
        return {**described, "type": [described["type"], "null"]}
    return {"anyOf": [described, {"type": "null"}]}


def _described(hint: Any, definitions: dict[str, Any]) -> dict[str, Any]:
    kind = kind_of(hint)
    if kind == "object":
        return _reference(hint, definitions)
    if kind == "list":
        return {"type": "array", "items": _value(get_args(hint)[0], definitions)}
    if kind == "map":
        return {"type": "object", "additionalProperties": _value(get_args(hint)[1], definitions)}
    if kind == "choice":
        return {"enum": list(get_args(hint))}
    return {"type": _SCALARS[kind]}


def _reference(kind: type, definitions: dict[str, Any]) -> dict[str, Any]:
    if kind.__name__ not in definitions:
        definitions[kind.__name__] = {}  # reserves the name, so that a class holding itself would end here
        definitions[kind.__name__] = _object(kind, definitions)
    return {"$ref": f"#/$defs/{kind.__name__}"}


if __name__ == "__main__":
    SCHEMA_PATH.write_text(schema_text(), encoding="utf-8")
