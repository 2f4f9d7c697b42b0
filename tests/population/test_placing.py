"""Where a report's figures stand among a population's: shares inside it, a side outside of it, a status otherwise."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from spectral_audit.errors import RefusedError
from spectral_audit.population import FIGURES, load_population, placed, shipped
from spectral_audit.population.model import SCHEMA, Conditions, Population, conditions_of, figures_of
from spectral_audit.population.placing import standing
from spectral_audit.reports.artifact import encode, from_json, to_json
from spectral_audit.reports.markdown import render_markdown
from spectral_audit.reports.standing_words import standing_line
from spectral_audit.reports.terminal import render_report
from spectral_audit.results import Reference, Report, Standing
from tests.reports.example import example, regression, undefined


def around(report: Report, **conditions: str) -> Population:
    """Four models: for every figure two below the report's, two above."""
    figures = {k: v for k, v in figures_of(report).items() if v is not None}
    return Population(
        schema=SCHEMA,
        name="four",
        made="by hand",
        models=4,
        n=report.data.n,
        data=("mnist_test.npz",),
        families=("cnn",),
        conditions=replace(conditions_of(report), **conditions),
        figures={k: (0.5 * v, 0.9 * v, 1.1 * v, 2 * v) for k, v in figures.items()},
    )


def reference(report: Report) -> Reference:
    assert report.reference is not None
    return report.reference


def test_a_figure_between_two_halves_is_above_half() -> None:
    found = reference(placed(example(), around(example())))
    assert found.standings == dict.fromkeys(FIGURES, Standing(0.5, 4, "ok"))
    assert (found.reason, found.differs) == ("", ())


@pytest.mark.parametrize(
    ("value", "falling", "expected"),
    [
        (1.0, False, Standing(0.0, 4, "ok")),
        (1.5, False, Standing(0.25, 4, "ok")),
        (2.0, False, Standing(0.25, 4, "ok")),
        (3.0, False, Standing(0.75, 4, "ok")),
        (3.1, False, Standing(None, 4, "above all")),
        (0.9, False, Standing(None, 4, "below all")),
        (1.5, True, Standing(0.75, 4, "ok")),
        (3.1, True, Standing(None, 4, "below all")),
        (0.9, True, Standing(None, 4, "above all")),
        (None, False, Standing(None, 4, "undefined")),
    ],
)
def test_shares_inside_and_sides_outside(value: float | None, falling: bool, expected: Standing) -> None:
    assert standing(value, (1.0, 2.0, 2.0, 3.0), falling=falling) == expected


def test_another_definition_or_task_is_not_compared() -> None:
    for name, value in (("definition", "raw/1"), ("task", "regression")):
        found = reference(placed(example(), around(example(), **{name: value})))
        assert name in found.reason
        assert {s.place for s in found.standings.values()} == {"not comparable"}
        assert {s.share for s in found.standings.values()} == {None}
    assert reference(placed(regression(), shipped())).reason == "the task is regression, theirs classification"


def test_another_aggregation_or_explanation_leaves_the_axes() -> None:
    other = around(example(), index="max: all 1", explained="another method")
    places = {name: s.place for name, s in reference(placed(example(), other)).standings.items()}
    lost = {name for name, place in places.items() if place == "not comparable"}
    assert lost == {"gmsi.worst", "gmsi.typical", "attribution.score", "attribution.score_worst"}


def test_another_n_and_other_data_are_said() -> None:
    found = reference(placed(example(), replace(around(example()), n=96, data=("mine.npz",))))
    assert found.differs == ("n 256, theirs 96", "other data")
    assert found.standings["input.typical"].share == 0.5


def test_undefined_figures_have_no_place() -> None:
    found = reference(placed(undefined(), around(example())))
    assert found.standings["input.typical"] == Standing(None, 4, "undefined")


def test_the_place_survives_json_and_earlier_reports_have_none() -> None:
    report = placed(example(), around(example()))
    assert from_json(to_json(report)) == report
    document = encode(report)
    del document["reference"]
    assert from_json(json.dumps(document)).reference is None


def test_the_report_says_it_in_one_sentence() -> None:
    report = placed(example(), replace(around(example()), n=96))
    line = standing_line(report.reference)
    assert line == (
        "Less stable than, in four: typical input 50 %, weights 50 %, kernel 50 %, curvature 50 %, GMSI 50 %, "
        "explanations 50 % (4 models, n 96)."
    )
    assert line in " ".join(render_report(report).split())
    assert line in render_markdown(report)
    assert standing_line(None) == "" and "Less stable than" not in render_report(example())
    assert standing_line(placed(regression(), around(example())).reference).startswith(
        "Not comparable with four: the task"
    )
    outside = replace(around(example()), figures={"input.typical": (1e6, 2e6)})
    assert "typical input below all 2 " in standing_line(placed(example(), outside).reference)


def test_the_shipped_population_fits_a_default_audit() -> None:
    population = shipped()
    assert population.models >= 200 and population.conditions.definition == "gmsi/1"
    assert set(population.figures) == set(FIGURES)
    own = conditions_of(example())
    assert population.conditions == Conditions(own.definition, own.task, own.index, population.conditions.explained)
    assert population.conditions.explained.startswith("attribution-score/1, gradient, signed, kept, radius 0.1 X, l2")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda d: d.update(schema="spectral-audit/report/1"), "no population this version reads"),
        (lambda d: d.pop("n"), "is missing"),
        (lambda d: d["figures"].update({"input.typical": [2.0, 1.0]}), "not in ascending order"),
        (lambda d: d["figures"].update({"input.middle": [1.0]}), "unknown figure input.middle"),
        (lambda d: d.update(models=1), "4 models with"),
        (lambda d: d.update(figures={}), "no figures"),
    ],
)
def test_a_damaged_population_is_refused_by_name(tmp_path, change, words) -> None:
    document = encode(around(example()))
    change(document)
    path = tmp_path / "population.json"
    path.write_text(json.dumps(document), encoding="utf-8")
    with pytest.raises(RefusedError, match=words) as refused:
        load_population(path)
    assert str(path) in str(refused.value) and refused.value.remedy


def test_a_file_that_is_none_is_refused(tmp_path) -> None:
    path = tmp_path / "nothing.json"
    with pytest.raises(RefusedError, match="cannot be read as JSON"):
        load_population(path)
    path.write_text("[1, 2", encoding="utf-8")
    with pytest.raises(RefusedError, match="cannot be read as JSON"):
        load_population(path)
    path.write_text("[1, 2]", encoding="utf-8")
    with pytest.raises(RefusedError, match="no population this version reads"):
        load_population(path)
