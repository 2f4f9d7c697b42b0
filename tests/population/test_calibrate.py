"""A population of one's own: `calibrate` makes what `score --reference` reads."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

from spectral_audit.cli import app
from spectral_audit.population import load_population, placed
from spectral_audit.population.calibrating import FEWEST
from spectral_audit.reports.artifact import to_json
from spectral_audit.results import Estimate, Report
from tests.reports.example import example


def models(count: int) -> list[Report]:
    """Reports whose typical input axis is 1, 2, 3, ..."""
    out = []
    for k in range(count):
        base = example()
        axis = replace(base.axes.input, typical=Estimate(float(k + 1), None, None))
        model = replace(base.model, sha256=f"{k:064x}")
        out.append(replace(base, model=model, axes=replace(base.axes, input=axis)))
    return out


def calibrated(folder: Path, reports: list[Report], *more: str) -> tuple[int, str, Path]:
    names = []
    for k, report in enumerate(reports):
        path = folder / f"report{k}.json"
        path.write_text(to_json(report), encoding="utf-8")
        names.append(str(path))
    output = folder / "mine.json"
    ran = CliRunner().invoke(app, ["calibrate", *names, *more, "-o", str(output)])
    return ran.exit_code, ran.stderr, output


def test_a_population_holds_every_report(tmp_path) -> None:
    code, said, output = calibrated(tmp_path, models(12)[::-1])
    assert code == 0 and "12 models, n = 256" in said
    population = load_population(output)
    assert population.name == "mine" and population.models == 12 and population.data == ("mnist_test.npz",)
    assert population.figures["input.typical"] == tuple(float(k + 1) for k in range(12))
    found = placed(models(12)[6], population).reference
    assert found is not None and found.differs == ()
    assert found.standings["input.typical"].share == 6 / 12


def test_explanations_measured_in_different_ways_are_left_out(tmp_path) -> None:
    reports = models(FEWEST)
    assert reports[3].attribution is not None
    reports[3] = replace(reports[3], attribution=replace(reports[3].attribution, radius=0.2))
    code, said, output = calibrated(tmp_path, reports)
    assert code == 0 and "explanations left out" in said
    assert "attribution.score" not in load_population(output).figures


def other_definition(r: Report) -> Report:
    return replace(r, gmsi=replace(r.gmsi, definition="gmsi/0"))


def other_n(r: Report) -> Report:
    return replace(r, data=replace(r.data, n=64))


def on_noise(r: Report) -> Report:
    return replace(r, data=replace(r.data, synthetic=True))


def other_index(r: Report) -> Report:
    return replace(r, gmsi=replace(r.gmsi, aggregation="max"))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (other_definition, "definition is not that of"),
        (other_n, "n is not that of"),
        (other_index, "index is not that of"),
        (on_noise, "audited on noise"),
    ],
)
def test_mixed_reports_are_refused_by_name(tmp_path, change, words) -> None:
    reports = models(FEWEST)
    reports[-1] = change(reports[-1])
    code, said, output = calibrated(tmp_path, reports)
    assert code == 3 and words in said and f"report{FEWEST - 1}.json" in said and "remedy" in said
    assert not output.exists()


def test_too_few_and_twice_the_same(tmp_path) -> None:
    code, said, output = calibrated(tmp_path, models(FEWEST - 1))
    assert code == 2 and "too few reports" in said and f"at least {FEWEST}" in said
    code, said, output = calibrated(tmp_path, [*models(FEWEST), models(1)[0]])
    assert code == 2 and "once more" in said
    assert not output.exists()


def test_a_file_that_is_no_report(tmp_path) -> None:
    other = tmp_path / "other.json"
    other.write_text('{"schema": "something"}', encoding="utf-8")
    code, said, output = calibrated(tmp_path, models(FEWEST), str(other))
    assert code == 3 and "other.json" in said and "remedy" in said
    assert not output.exists()
