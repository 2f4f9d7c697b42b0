"""Artifacts: exact round trips, and documents that are no report are refused by name."""

from __future__ import annotations

import json
import math
from dataclasses import fields, is_dataclass, replace
from typing import Any, Literal, get_args, get_origin

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from spectral_audit.errors import RefusedError, UsageError
from spectral_audit.reports import artifact
from spectral_audit.results import SCHEMA, Estimate, Inspection, Report
from tests.reports import example

_SCALARS = {
    float: st.floats(allow_nan=False, allow_infinity=False),
    int: st.integers(),
    str: st.text(max_size=12),
    bool: st.booleans(),
}


def values_of(hint: Any) -> st.SearchStrategy[Any]:
    """Any value a type hint of the results allows."""
    inner, nullable = artifact.unwrap(hint)
    if nullable:
        return st.none() | values_of(inner)
    if is_dataclass(inner):
        return st.builds(inner, **{name: values_of(of) for name, of in artifact.fields_of(inner).items()})
    origin = get_origin(inner)
    if origin is Literal:
        return st.sampled_from(get_args(inner))
    if origin is tuple:
        return st.lists(values_of(get_args(inner)[0]), max_size=2).map(tuple)
    if origin is dict:
        return st.dictionaries(_SCALARS[str], values_of(get_args(inner)[1]), max_size=2)
    return _SCALARS[inner]


REPORTS = values_of(Report).map(lambda report: replace(report, schema=SCHEMA))
FEW = settings(max_examples=50, deadline=None, suppress_health_check=list(HealthCheck))


@FEW
@given(REPORTS)
def test_any_report_survives_json_and_yaml_to_the_last_bit(report: Report) -> None:
    assert artifact.from_json(artifact.to_json(report)) == report
    assert artifact.from_yaml(artifact.to_yaml(report)) == report


@FEW
@given(values_of(Inspection))
def test_any_inspection_survives_encoding(inspection: Inspection) -> None:
    plain = json.loads(artifact.to_json(inspection))
    assert artifact.decode_as(Inspection, plain) == inspection
    assert artifact.decode_as(Inspection, yaml.safe_load(artifact.to_yaml(inspection))) == inspection


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_a_float_keeps_every_bit_and_its_sign(value: float) -> None:
    estimate = Estimate(value, value, value)
    back = artifact.decode_as(Estimate, json.loads(artifact.to_json(estimate))).value
    assert back is not None
    assert back.hex() == value.hex()


@pytest.mark.parametrize("variant", example.VARIANTS)
def test_the_examples_survive(variant: str) -> None:
    report = example.VARIANTS[variant]()
    assert artifact.from_json(artifact.to_json(report)) == report
    assert artifact.from_yaml(artifact.to_yaml(report)) == report


def test_keys_come_in_order_of_definition() -> None:
    document = artifact.encode(example.example())
    assert list(document) == [field.name for field in fields(Report)]
    assert list(document["axes"]) == ["input", "weights", "kernel", "curvature"]
    assert list(json.loads(artifact.to_json(example.example()))) == list(document)
    assert list(yaml.safe_load(artifact.to_yaml(example.example()))) == list(document)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_non_finite_figure_is_a_programming_error(value: float) -> None:
    report = replace(example.example(), raw=replace(example.example().raw, ntk=value))
    for write in (artifact.encode, artifact.to_json, artifact.to_yaml):
        with pytest.raises(ValueError, match=r"raw\.ntk"):
            write(report)


def test_a_figure_of_the_wrong_type_is_a_programming_error() -> None:
    with pytest.raises(TypeError, match="value: expected a finite number"):
        artifact.encode(Estimate("1.0", None, None))  # type: ignore[arg-type]  # the point of the test
    with pytest.raises(TypeError, match="expected a finite number, found True"):
        artifact.encode(Estimate(True, None, None))


def test_a_whole_number_in_a_float_field_reads_back_as_a_float() -> None:
    assert artifact.encode(Estimate(1, 0, 2)) == {"value": 1.0, "low": 0.0, "high": 2.0, "status": "ok"}
    assert isinstance(artifact.encode(Estimate(1, 0, 2))["value"], float)
    document = json.loads(artifact.to_json(example.example()).replace('"input": 9.27', '"input": 9'))
    back = artifact.decode(document).scales.input
    assert (back, type(back)) == (9.0, float)


def test_a_path_that_is_not_utf8_survives() -> None:
    base = example.example()
    report = replace(base, model=replace(base.model, path="net\udcff.pt"))
    assert artifact.from_json(artifact.to_json(report).encode("utf-8").decode("utf-8")) == report
    assert artifact.from_yaml(artifact.to_yaml(report).encode("utf-8").decode("utf-8")) == report


@pytest.mark.parametrize("name", ["\x85", "a\u2028b", "\ufeff", "\x00", " a ", "1.0", "null", "a: b", "~", "é\n∂"])
def test_an_awkward_name_survives_yaml(name: str) -> None:
    base = example.undefined()
    report = replace(base, model=replace(base.model, path=name))
    assert artifact.from_yaml(artifact.to_yaml(report)).model.path == name


def put(document: Any, keys: list[Any], value: Any) -> None:
    for key in keys[:-1]:
        document = document[key]
    document[keys[-1]] = value


WRONG = [
    (["schema"], "spectral-audit/report/99", "`schema`", SCHEMA, "report/99"),
    (["gmsi", "worst", "value"], "high", "`gmsi.worst.value`", "a finite number", "'high'"),
    (["gmsi", "worst", "value"], True, "`gmsi.worst.value`", "a finite number", "True"),
    (["gmsi", "worst", "value"], math.nan, "`gmsi.worst.value`", "a finite number", "nan"),
    (["scales", "input"], None, "`scales.input`", "a finite number", "null"),
    (["scales", "input"], 10**400, "`scales.input`", "a finite number", "inf"),
    (["data", "n"], 256.5, "`data.n`", "an integer", "256.5"),
    (["spectra", "ntk", "values", 3], "x", "`spectra.ntk.values[3]`", "a finite number", "'x'"),
    (["spectra", "ntk", "kind"], "eigenvalue", "`spectra.ntk.kind`", "did you mean 'eigenvalues'?", "'eigenvalue'"),
    (["layers", 0, "shape"], 5, "`layers[0].shape`", "a list", "5"),
    (["cost", "stages"], [], "`cost.stages`", "an object", "a list"),
    (["axes"], [1], "`axes`", "an object with input, weights, kernel, curvature", "a list"),
    (["gmsi", "wiights"], 1, "`gmsi.wiights`", "did you mean 'weights'?", "1"),
]


@pytest.mark.parametrize(("keys", "value", "place", "expected", "found"), WRONG)
def test_a_wrong_document_is_refused_by_key(keys: list[Any], value: Any, place: str, expected: str, found: str) -> None:
    document = artifact.encode(example.example())
    put(document, keys, value)
    with pytest.raises(RefusedError) as caught:
        artifact.decode(document, source="old.json")
    error = caught.value
    assert error.message.startswith(f"old.json: {place}")
    assert expected in error.expected
    assert found in error.found
    assert error.remedy


@pytest.mark.parametrize("keys", [["schema"], ["gmsi"], ["axes", "input"], ["attribution"], ["cost", "seconds"]])
def test_a_missing_key_is_refused_by_name(keys: list[str]) -> None:
    document = artifact.encode(example.example())
    holder: Any = document
    for key in keys[:-1]:
        holder = holder[key]
    del holder[keys[-1]]
    with pytest.raises(RefusedError, match=f"`{'.'.join(keys)}`"):
        artifact.decode(document)


@pytest.mark.parametrize("text", ["", "{", "[" * 100_000, "[1, 2]", "null", '"report"', "9" * 5000])
def test_a_text_that_is_no_report_is_refused(text: str) -> None:
    with pytest.raises(RefusedError, match=r"^x\.json"):
        artifact.from_json(text, source="x.json")


@pytest.mark.parametrize("text", ["", "a: [", "- 1", "!!python/object/apply:os.system [true]", "\x00"])
def test_a_yaml_text_that_is_no_report_is_refused(text: str) -> None:
    with pytest.raises(RefusedError, match=r"^x\.yaml"):
        artifact.from_yaml(text, source="x.yaml")


def test_a_saved_report_loads_by_its_suffix(tmp_path: Any) -> None:
    report = example.smooth()
    for name, write in (("a.json", artifact.to_json), ("a.yaml", artifact.to_yaml), ("a.yml", artifact.to_yaml)):
        (tmp_path / name).write_text(write(report), encoding="utf-8")
        assert artifact.load_report(tmp_path / name) == report
    with pytest.raises(UsageError, match=r"a\.md"):
        artifact.load_report(tmp_path / "a.md")
    with pytest.raises(RefusedError, match=r"gone\.json"):
        artifact.load_report(tmp_path / "gone.json")
    (tmp_path / "bytes.json").write_bytes(b"\xff\xfe")
    with pytest.raises(RefusedError, match=r"bytes\.json"):
        artifact.load_report(tmp_path / "bytes.json")
