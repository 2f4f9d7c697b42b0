"""Paired changes: exact points, intervals of the difference, and what happens where samples cannot be paired."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from spectral_audit.comparison.comparable import differences, require_comparable
from spectral_audit.comparison.compare import compare
from spectral_audit.comparison.paired import AXIS_PATHS, INDEX_PATHS, Pairing, unpaired
from spectral_audit.errors import RefusedError
from spectral_audit.gate.increase import judge_increases
from spectral_audit.gate.paths import find_figure
from spectral_audit.gate.rules import parse_increase
from spectral_audit.index import Figures, combine, spread
from spectral_audit.measure import Settings, measure
from spectral_audit.reports.artifact import from_json, to_json
from spectral_audit.reports.comparison import comparison_markdown, render_comparison
from spectral_audit.results import Estimate, Report, Samples
from tests.reports import example

FIGURES = [name for name in Samples.__dataclass_fields__ if name not in ("layers",)]


def report_of(net: nn.Module, x: torch.Tensor, y: torch.Tensor, sha256: str) -> Report:
    found = measure(net, x, y, settings=Settings(attribution=None))
    parts = {name: getattr(found, name) for name in ("scales", "axes", "gmsi", "raw", "spectra", "layers", "samples")}
    base = example.example()
    model = replace(base.model, sha256=sha256)
    return replace(base, model=model, data=replace(base.data, n=len(x), seed=0), attribution=None, **parts)


@pytest.fixture(scope="module")
def pair() -> tuple[Report, Report]:
    """One net, and the same with its first layer 3 % larger, on the same 60 points."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 3))
    x, y = torch.randn(60, 4), torch.randint(0, 3, (60,))
    old = report_of(net, x, y, "a")
    with torch.no_grad():
        net[0].weight *= 1.03
    return old, report_of(net, x, y, "b")


def paired(old: Report, new: Report) -> Pairing:
    found = Pairing.of(old, new)
    assert found is not None
    return found


def test_the_intervals_of_a_report_follow_from_its_samples(pair):
    report = pair[0]
    figures = Figures.of(report.samples, regression=False)
    views = (figures.everything(), figures.resampled(0), figures.leave_one_out())
    for column in ("worst", "typical"):
        again = spread(*(combine(view, column, report.gmsi.weights, "rss") for view in views))
        assert again == (getattr(report.gmsi, column).low, getattr(report.gmsi, column).high)


@pytest.mark.parametrize("path", [*AXIS_PATHS, *INDEX_PATHS])
def test_a_change_is_the_difference_of_the_figures(pair, path):
    old, new = (find_figure(report, path).value for report in pair)
    change = paired(*pair).change(path)
    assert change.paired
    assert (change.old, change.new) == pytest.approx((old, new), rel=1e-12)
    assert change.difference == pytest.approx(new - old, rel=1e-9)
    assert change.relative == pytest.approx(new / old - 1, rel=1e-9)
    assert change.low <= change.difference <= change.high
    assert change.relative_low <= change.relative <= change.relative_high


@pytest.mark.parametrize("path", ["axes.input.typical", "axes.weights.typical", "axes.kernel.worst", "gmsi.typical"])
def test_pairing_is_far_narrower_than_two_intervals(pair, path):
    change = paired(*pair).change(path)
    ends = [getattr(pair[k].gmsi if "gmsi" in path else getattr(pair[k].axes, path.split(".")[1]), path.split(".")[-1])
            for k in (0, 1)]  # fmt: skip
    apart = unpaired(path, *ends)
    assert change.high - change.low < 0.25 * (apart.high - apart.low)


def test_a_model_against_itself_did_not_move(pair):
    found = compare(pair[0], pair[0])
    assert found.paired
    for change in (*found.changes, *found.layers):
        assert not change.moved
        assert change.difference == 0
        assert (change.low, change.high) == (0, 0)


def test_the_parts_of_the_layers_add_up_to_the_axis(pair):
    found = compare(*pair)
    assert {change.path for change in found.layers} == {"0.weight", "2.weight"}
    for side, report in zip(("old", "new"), pair, strict=True):
        total = math.sqrt(sum(getattr(change, side) ** 2 for change in found.layers))
        assert total == pytest.approx(report.axes.weights.typical.value, rel=1e-5)


def test_a_paired_interval_holds_its_change_about_as_often_as_it_says():
    """200 probe sets of 50 samples of two correlated figures; below 90 % would be 3.2 standard errors from 95 %."""
    generator = np.random.default_rng(0)
    base = example.example()
    true = math.sqrt(1.3) - 1  # 1.3 times the mean square; the margin's own noise is shared by both
    held = 0
    for _ in range(200):
        energy = generator.exponential(size=50)
        other = 1.3 * energy * np.exp(generator.normal(-0.02, 0.2, 50))
        ones = (1.0,) * 50
        sides = []
        for values in (energy, other):
            samples = Samples(*[ones] * 3, tuple(values), *[ones] * 6, 0.0, 0.0, {})
            sides.append(replace(base, samples=samples, data=replace(base.data, n=50)))
        change = paired(*sides).change("axes.input.typical")
        held += change.relative_low <= true <= change.relative_high
    assert held / 200 >= 0.9


def test_unpaired_changes_add_the_deviations_in_squares():
    change = unpaired("x", Estimate(10.0, 9.0, 12.0), Estimate(11.0, 10.0, 14.0))
    assert (change.difference, change.paired) == (1.0, False)
    assert change.low == pytest.approx(1 - math.hypot(1, 2))
    assert change.high == pytest.approx(1 + math.hypot(3, 1))
    assert change.relative == pytest.approx(0.1)
    assert change.relative_low == pytest.approx(1.1 * math.exp(-math.hypot(math.log(1.1), math.log(1.2))) - 1)


def test_other_samples_cannot_be_paired(pair):
    old, new = pair
    other = replace(new, data=replace(new.data, probe_sha256="other"))
    assert Pairing.of(old, other) is None
    assert Pairing.of(replace(old, samples=None), new) is None
    assert not compare(old, other).paired


CHANGES = [
    ("data.probe_sha256", lambda r: replace(r, data=replace(r.data, probe_sha256="0" * 64))),
    ("data.n", lambda r: replace(r, data=replace(r.data, n=10))),
    ("gmsi.definition", lambda r: replace(r, gmsi=replace(r.gmsi, definition="gmsi/2"))),
    ("gmsi.aggregation", lambda r: replace(r, gmsi=replace(r.gmsi, aggregation="max"))),
    ("engine.dtype", lambda r: replace(r, engine=replace(r.engine, dtype="float64"))),
    ("task.loss", lambda r: replace(r, task=replace(r.task, loss="bce"))),
]


@pytest.mark.parametrize(("field", "spoil"), CHANGES)
def test_reports_that_differ_are_refused_with_the_field(field, spoil):
    old, new = example.example(), spoil(example.example())
    assert differences(old, old) == ()
    with pytest.raises(RefusedError) as caught:
        require_comparable(old, new, ("old.json", "new.json"))
    assert field in caught.value.found
    assert "--force" in caught.value.remedy
    assert [item.field for item in require_comparable(old, new, ("a", "b"), force=True)] == [field]


def outcomes(old: Report, new: Report, *rules: str) -> list[tuple[str, str]]:
    return [(j.outcome, j.reason) for j in judge_increases(old, new, [parse_increase(rule) for rule in rules])]


def test_growth_is_judged_by_the_interval_of_the_change(pair):
    old, new = pair
    change = paired(old, new).change("gmsi.typical")
    inside, outside = change.relative_high * 100 + 0.01, change.relative_low * 100 - 0.01
    middle = change.relative * 100
    rules = [f"gmsi.typical:{limit:.6f}%" for limit in (inside, outside, middle)]
    found = outcomes(old, new, *rules)
    assert [outcome for outcome, _ in found] == ["pass", "fail", "inconclusive"]
    assert outcomes(old, old, "gmsi.typical:0%", "gmsi.typical:0") == [("pass", ""), ("pass", "")]


def test_growth_of_figures_without_samples_or_interval():
    old = example.example()
    worse = replace(old, data=replace(old.data, accuracy=0.9))
    assert outcomes(old, worse, "data.accuracy:0") == [("pass", "")]
    assert outcomes(worse, old, "data.accuracy:0") == [("fail", "")]
    assert outcomes(old, old, "attribution.random.mean:50%") == [("pass", "unpaired")]
    assert outcomes(old, example.unconverged(), "gmsi.worst:50%") == [("inconclusive", "unconverged")]
    assert outcomes(old, example.undefined(), "gmsi.worst:50%") == [("inconclusive", "undefined")]
    bias = "layers[features.0.bias].share_typical:5%"
    assert outcomes(old, old, bias) == [("inconclusive", "baseline is zero")]


def test_a_report_without_samples_still_loads_and_is_compared(pair):
    import json

    document = json.loads(to_json(example.example()))
    del document["samples"]
    old = from_json(json.dumps(document))
    assert old.samples is None
    assert compare(old, example.example()).paired is False


def test_writers_say_what_moved(pair):
    found = compare(*pair)
    text = render_comparison(found)
    assert "GMSI typical" in text and "0.weight" in text
    assert "paired on the same samples" in " ".join(text.split())
    assert "| 0.weight" not in comparison_markdown(found)  # names are code
    assert "`0.weight`" in comparison_markdown(found)
    grown = replace(pair[1], layers=pair[1].layers[:1])
    assert "only in the old model" in render_comparison(compare(pair[0], grown))
