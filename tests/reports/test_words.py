"""Numbers as people read them, and the arithmetic of the small plots."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spectral_audit.reports import plots, words
from spectral_audit.results import Estimate

NUMBERS = {
    0.0: "0", 1.0: "1.00", 14.23: "14.2", 0.42: "0.420", 142.4: "142", 1424.0: "1420", 0.00142: "0.00142",
    9.996: "10.0", 999.6: "1000", 99_951.0: "1.00e5", 123_456.0: "1.23e5", 1.42e-4: "1.42e-4", -0.912: "-0.912",
    0.0009996: "0.00100",
}  # fmt: skip


@pytest.mark.parametrize(("value", "text"), NUMBERS.items())
def test_three_significant_digits(value: float, text: str) -> None:
    assert words.number(value) == text


@given(st.floats(-1e300, 1e300, allow_subnormal=False))
def test_a_number_is_within_half_a_unit_of_its_third_digit(value: float) -> None:
    assert math.isclose(float(words.number(value)), value, rel_tol=0.00501)


def test_words_for_what_is_missing() -> None:
    assert words.number(None) == "undefined"
    assert words.percent(None) == "undefined"
    with pytest.raises(ValueError, match="not finite"):
        words.number(math.nan)
    assert words.interval(Estimate(None, None, None, "undefined")) == ""
    assert words.with_interval(Estimate(2.0, None, None), "worst") == "2.00 worst"


def test_shares_sizes_and_counts() -> None:
    assert [words.percent(s) for s in (0.0, 0.0001, 0.0469, 0.42, 1.0)] == ["0 %", "<0.1 %", "4.7 %", "42.0 %", "100 %"]
    assert [words.memory(s) for s in (0, 999, 1000, 412_300_000)] == ["0 B", "999 B", "1.00 kB", "412 MB"]
    assert [words.counted(n, "pass") for n in (1, 2, 6912)] == ["1 pass", "2 passes", "6,912 passes"]
    assert [words.shape(s) for s in ((), (5,), (2, 3))] == ["scalar", "5", "2×3"]


def test_a_geometric_decay_falls_linearly_in_log_rank() -> None:
    values = [10.0**-k for k in range(7)]
    heights = plots.decay(values, 7, decades=6.0)
    assert heights[0] == 1.0
    assert heights[-1] == pytest.approx(0.0, abs=1e-12)
    assert heights == sorted(heights, reverse=True)
    assert plots.decay([1.0, 1e-9, 0.0, -1.0], 2) == [1.0, 0.0]
    assert plots.decay([], 3) == [0.0, 0.0, 0.0]
    assert plots.decay([5.0], 3) == [1.0, 1.0, 1.0]


def test_areas_fill_from_the_bottom() -> None:
    assert plots.area([1.0, 1.0, 0.5, 0.0], 2, unicode=True) == ["⣿⠀", "⣿⡇"]
    assert plots.area([1.0, 0.5, 1 / 6, 0.0], 2, unicode=False) == ["#   ", "##. "]


def test_bars_are_proportional_and_never_vanish() -> None:
    assert [plots.bar(f, 4, unicode=True) for f in (0.0, 1e-9, 0.5, 0.53125, 1.0)] == ["", "▏", "██", "██▏", "████"]
    assert [plots.bar(f, 4, unicode=False) for f in (0.0, 1e-9, 0.5, 2.0)] == ["", "#", "##", "####"]


def test_a_density_shows_lone_outliers_and_leaves_gaps_empty() -> None:
    heights = plots.resample([-1.0, 0.0, 1.0, 9.0, 10.0], [1.0, 1.0, 0.0, 0.0, 1e-3], -1.0, 10.0, 11)
    assert heights[0] == heights[1] == 1.0
    assert heights[4:7] == [0.0, 0.0, 0.0]
    assert heights[10] == pytest.approx(0.5)  # three of six decades


def test_a_histogram_counts() -> None:
    heights = plots.histogram([0.0] * 10 + [1.0], 0.0, 1.0, 2)
    assert heights[0] == 1.0
    assert heights[1] == pytest.approx(1.0 - 1.0 / 1.5)
    assert plots.histogram([], 0.0, 0.0, 2) == [0.0, 0.0]


def test_a_ruler_marks_zero_and_labels_never_overlap() -> None:
    assert plots.ruler(-1.0, 3.0, (-1.0, 3.0), 9, unicode=False) == "+-0-----+"
    assert plots.ruler(0.0, 1.0, (0.0, 1.0), 5, unicode=True) == "┴───┴"
    assert plots.labels(0.0, 10.0, [(10.0, "10.0"), (0.0, "0")], 10) == "0     10.0"
    assert plots.labels(0.0, 10.0, [(10.0, "10.0"), (9.0, "9.00")], 10) == "      10.0"


def test_the_warped_axis_is_odd_and_monotone() -> None:
    points = [plots.warp(v, 10.0) for v in (-10.0, -1.0, 0.0, 1.0, 10.0)]
    assert points == sorted(points)
    assert points[0] == -points[-1]
    assert points[2] == 0.0
    assert plots.warp(0.0, 0.0) == 0.0
