"""What a gate decides: intervals against limits, levels, caps, and the exit code they add up to."""

from __future__ import annotations

import types
from dataclasses import replace

import pytest

from spectral_audit.errors import UsageError
from spectral_audit.gate.judge import caps, conclude, decide, judge_rule
from spectral_audit.gate.paths import Figure, check_path, find_figure
from spectral_audit.gate.rules import parse_increase, parse_rule
from tests.reports import example


def figure(low: float, value: float, high: float) -> Figure:
    return Figure(value, low, high, estimated=True)


@pytest.mark.parametrize(
    ("found", "operator", "outcome"),
    [
        (figure(1.0, 1.5, 1.9), "<=", "pass"),
        (figure(2.1, 2.5, 3.0), "<=", "fail"),
        (figure(1.9, 2.0, 2.1), "<=", "inconclusive"),
        (figure(1.0, 1.5, 2.0), "<=", "pass"),  # equality passes
        (figure(2.0, 2.0, 2.0), "<=", "pass"),
        (figure(1.0, 1.5, 2.0), "<", "inconclusive"),
        (figure(2.0, 2.0, 2.0), "<", "fail"),
        (figure(2.0, 2.5, 3.0), ">=", "pass"),
        (figure(1.0, 1.5, 1.9), ">=", "fail"),
        (figure(1.9, 2.0, 2.1), ">=", "inconclusive"),
        (figure(2.0, 2.5, 3.0), ">", "inconclusive"),
        (figure(2.1, 2.5, 3.0), ">", "pass"),
    ],
)
def test_the_whole_interval_decides(found, operator, outcome):
    assert decide(found, operator, 2.0)[0] == outcome


@pytest.mark.parametrize("status", ["undefined", "not measured"])
def test_a_figure_that_does_not_exist_is_inconclusive_and_says_why(status):
    assert decide(Figure(None, None, None, status), "<=", 1e9) == ("inconclusive", status)


def test_an_unconverged_figure_is_inconclusive_wherever_its_interval_lies():
    judgement = judge_rule(example.unconverged(), parse_rule("gmsi.worst<=1e9"))
    assert (judgement.outcome, judgement.reason) == ("inconclusive", "unconverged")


# gmsi.typical of the example is 0.42 (0.40–0.44); its worst is 14.2 (12.8–15.9).
PASS, FAIL, OPEN = "gmsi.typical<=0.5", "gmsi.typical<=0.3", "gmsi.typical<=0.42"


@pytest.mark.parametrize(
    ("error_rules", "warn_rules", "inconclusive", "outcome", "code"),
    [
        ([PASS], [], "report", "pass", 0),
        ([FAIL], [], "report", "fail", 1),
        ([OPEN], [], "report", "inconclusive", 4),
        ([PASS, FAIL], [], "report", "fail", 1),
        ([PASS, OPEN], [], "report", "inconclusive", 4),
        ([OPEN, FAIL], [], "report", "fail", 1),
        ([OPEN], [], "pass", "pass", 0),
        ([OPEN], [], "fail", "fail", 1),
        ([OPEN, FAIL], [], "pass", "fail", 1),
        ([PASS], [FAIL], "report", "pass", 0),
        ([PASS], [OPEN], "fail", "pass", 0),
        ([], [FAIL], "report", "pass", 0),
    ],
)
def test_the_table_of_verdicts_and_exit_codes(error_rules, warn_rules, inconclusive, outcome, code):
    report = example.example()
    rules = [*map(parse_rule, error_rules), *(parse_rule(text, "warn") for text in warn_rules)]
    verdict = conclude(report, [judge_rule(report, rule) for rule in rules], on_inconclusive=inconclusive)
    assert (verdict.outcome, verdict.exit_code) == (outcome, code)
    assert len(verdict.judgements) == len(rules)


@pytest.mark.parametrize("rule", [PASS, FAIL, OPEN])
@pytest.mark.parametrize(("inconclusive", "code"), [("report", 4), ("pass", 4), ("fail", 1)])
def test_a_cap_leaves_nothing_decided(rule, inconclusive, code):
    report = example.example()
    verdict = conclude(
        report, [judge_rule(report, parse_rule(rule))], on_inconclusive=inconclusive, capped=["half a model"]
    )
    assert verdict.exit_code == code
    assert [j.outcome for j in verdict.judgements] == ["inconclusive"]
    assert verdict.judgements[0].reason == "half a model"


def test_partial_weights_and_noise_cap_and_old_reports_say_neither():
    report = example.example()
    assert caps(report) == ()
    partial = types.SimpleNamespace(model=types.SimpleNamespace(partial=True), data=report.data)
    synthetic = types.SimpleNamespace(model=report.model, data=types.SimpleNamespace(synthetic=True))
    assert "in part" in caps(partial)[0]
    assert "noise" in caps(synthetic)[0]


def test_a_rule_that_is_off_is_not_judged():
    report = example.example()
    verdict = conclude(report, [judge_rule(report, parse_rule(FAIL, "off"))])
    assert (verdict.exit_code, verdict.judgements[0].outcome) == (0, "off")


def test_no_rule_is_no_verdict():
    with pytest.raises(UsageError, match="nothing to judge"):
        conclude(example.example(), [])


@pytest.mark.parametrize(
    ("path", "value", "low"),
    [
        ("gmsi.typical", example.example().gmsi.typical.value, example.example().gmsi.typical.low),
        ("axes.input.worst.value", 6.21, 6.21),
        ("axes.input.effective_rank", 52.4, 52.4),
        ("data.accuracy", 0.98828125, 0.98828125),
        ("data.n", 256.0, 256.0),
        ("layers[classifier.1.weight].share", 0.531, 0.531),
        ("layers[0].share_typical", 0.131, 0.131),
        ("spectra.ntk.values[0]", example.example().spectra.ntk.values[0], example.example().spectra.ntk.values[0]),
        ("gmsi.weights.input", 1.0, 1.0),
        ("cost.stages.sweep", 1.42, 1.42),
        ("attribution.random.mean", 0.118, 0.111),
    ],
)
def test_any_figure_has_a_path(path, value, low):
    found = find_figure(example.example(), path)
    assert (found.value, found.low) == (value, low)


def test_a_part_that_was_not_measured_is_told_from_one_that_does_not_exist():
    assert find_figure(example.unconverged(), "attribution.random.mean").status == "not measured"
    assert find_figure(example.unconverged(), "attribution.random.p95").value is None
    with pytest.raises(UsageError, match="no such figure"):
        find_figure(example.unconverged(), "attribution.random.meen")


@pytest.mark.parametrize(
    ("path", "hint"),
    [
        ("gmsi.typicl", "did you mean 'gmsi.typical'?"),
        ("axes.inpt.worst", "did you mean 'axes.input.worst'?"),
        ("gsmi.worst", "did you mean 'gmsi.worst'?"),
        ("layers[nope].share", "classifier.1.weight"),
        ("layers[99].share", "[0] to [9]"),
        ("gmsi.weights.inputs", "curvature"),
        ("axes.input", "axes.input.worst"),
        ("model.path", "ends at a number"),
        ("findings[0].code", "ends at a number"),
        ("", "names joined by dots"),
        (".gmsi", "names joined by dots"),
        ("gmsi.typical.value.more", "nothing"),
    ],
)
def test_an_unknown_path_is_a_usage_error_with_the_nearest(path, hint):
    with pytest.raises(UsageError) as caught:
        find_figure(example.example(), path)
    assert hint in caught.value.expected


def test_paths_are_checked_without_a_report():
    check_path("layers[any].share")
    check_path("gmsi.weights.input")
    with pytest.raises(UsageError, match="no such figure"):
        check_path("layers[any].shares")


@pytest.mark.parametrize("text", ["", "gmsi.typical", "<=2", "a<=b", "a<=nan", "a==2", "a<=1e999", "a=<2"])
def test_a_rule_that_cannot_be_read_is_a_usage_error(text):
    with pytest.raises(UsageError, match="--require"):
        parse_rule(text)


@pytest.mark.parametrize("text", ["", "gmsi.typical", ":5%", "a:b%", "a:5 percent", "a:inf"])
def test_a_growth_limit_that_cannot_be_read_is_a_usage_error(text):
    with pytest.raises(UsageError, match="--max-increase"):
        parse_increase(text)


def test_rules_read_back_as_they_were_written():
    assert str(parse_rule(" gmsi.typical >= 2.50 ")) == "gmsi.typical>=2.5"
    assert str(parse_increase("gmsi.typical:5%")) == "gmsi.typical:5%"
    assert str(parse_increase("gmsi.typical: 0.2")) == "gmsi.typical:0.2"


def test_negative_limits_and_integers():
    report = replace(example.example(), data=replace(example.example().data, n=10))
    assert judge_rule(report, parse_rule("data.n>=-1")).outcome == "pass"
    assert judge_rule(report, parse_rule("data.n<10")).outcome == "fail"
