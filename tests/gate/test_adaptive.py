"""Adaptive gates: the schedule, its levels, when it stops, and that its repeated looks keep the error rate."""

from __future__ import annotations

import statistics
from dataclasses import replace

import numpy as np
import pytest

from spectral_audit.errors import UsageError
from spectral_audit.gate.adaptive import Look, level_of, look_at, schedule, settle
from spectral_audit.gate.paths import Figure, find_figure
from spectral_audit.gate.rules import Rule, parse_rule
from spectral_audit.results import Samples
from tests.reports import example


def look(n: int, low: float, high: float) -> Look:
    return Look(n, example.example(), lambda path: Figure((low + high) / 2, low, high, estimated=True))


def test_the_schedule_doubles_up_to_the_maximum():
    assert schedule(256) == (32, 64, 128, 256)
    assert schedule(100) == (25, 50, 100)
    assert schedule(40) == (20, 40)
    assert schedule(8) == (8,)
    assert [level_of(k) for k in (1, 2, 4)] == [0.95, 0.975, 0.9875]


def test_it_stops_as_soon_as_the_verdict_is_decided():
    rules = [parse_rule("gmsi.typical<=2")]
    looks = [look(32, 1.0, 3.0), look(64, 1.0, 1.9), look(128, 2.5, 3.0)]
    last, judgements, sizes = settle(iter(looks), rules)
    assert (last.n, sizes, judgements[0].outcome) == (64, (32, 64), "pass")
    last, judgements, sizes = settle([look(32, 1.0, 3.0), look(64, 1.5, 2.5)], rules)
    assert (last.n, judgements[0].outcome) == (64, "inconclusive")
    # An undecided warning keeps nobody waiting; a failure decides whatever else is open.
    mixed = [parse_rule("gmsi.typical<=2", "warn"), parse_rule("gmsi.worst<=9")]
    assert settle([look(32, 1.0, 3.0), look(64, 1.0, 3.0)], mixed)[2] == (32,)
    failing = [parse_rule("gmsi.typical<=2"), parse_rule("gmsi.worst<=0.5")]
    assert settle([look(32, 1.0, 3.0), look(64, 1.0, 3.0)], failing)[2] == (32,)


def test_intervals_of_another_level():
    report = example.example()
    narrow, wide = look_at(report, 0.8), look_at(report, 0.99)
    for path in ("gmsi.typical", "axes.input.worst", "attribution.random.mean"):
        ends = [(found.figure(path).low, found.figure(path).high) for found in (narrow, wide)]
        assert ends[1][0] < ends[0][0] < ends[0][1] < ends[1][1]
    same = look_at(report, 0.95).figure("attribution.random.mean")
    assert (same.low, same.high) == pytest.approx((0.111, 0.125), rel=1e-12)
    assert wide.figure("data.accuracy").low == report.data.accuracy
    with pytest.raises(UsageError, match="every sample"):
        look_at(replace(report, samples=None), 0.99)


def test_at_the_limit_few_gates_pass_although_they_look_four_times():
    """100 gates on exponential figures whose mean is the limit; 11 % are 2.8 standard errors above 5 %."""
    generator = np.random.default_rng(0)
    base = example.example()
    rule = Rule("axes.input.typical", "<=", 1.0)
    level = level_of(len(schedule(128)))
    outcomes, sizes = [], []
    for seed in range(100):
        energy = generator.exponential(size=128)
        looks = []
        for n in schedule(128):
            ones = (1.0,) * n
            samples = Samples(*[ones] * 3, tuple(energy[:n]), *[ones] * 6, 0.0, 0.0, {})
            value = float(np.sqrt(energy[:n].mean()))
            axis = replace(base.axes.input, typical=replace(base.axes.input.typical, value=value))
            axes = replace(base.axes, input=axis)
            report = replace(base, samples=samples, axes=axes, data=replace(base.data, n=n, seed=seed))
            looks.append(look_at(report, level))
        last, judgements, _ = settle(looks, [rule])
        outcomes.append(judgements[0].outcome)
        sizes.append(last.n)
    assert outcomes.count("pass") / 100 <= 0.11
    assert statistics.mean(sizes) <= 128


def test_the_command_stops_early_and_says_so(cli, case, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    case.x, case.y = np.tile(case.x, (5, 1)), np.tile(case.y, 5)
    case.save()
    ran = cli("gate", case.model, "--adaptive", "--n", 128, "--require", "gmsi.typical<=1000")
    assert ran.code == 0
    assert "looked at 16 samples" in " ".join(ran.out.split())
    assert "98.75 %" in ran.out
    value = find_figure(example.example(), "gmsi.typical").value
    assert value is not None
    saved = tmp_path / "report.json"
    saved.write_text("{}", encoding="utf-8")
    assert cli("gate", saved, "--adaptive", "--require", "gmsi.typical<=1").code == 2
