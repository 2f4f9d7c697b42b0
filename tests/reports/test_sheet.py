"""The sheet of attributions: a PNG of the size its rows ask for, or a reason."""

from __future__ import annotations

import io
from dataclasses import replace

import pytest
from matplotlib import image

from spectral_audit.explanations import Sheet, SheetRow
from spectral_audit.reports import render_report, sheet
from tests.reports import example


def ramp(channels: int, scale: float = 1.0) -> tuple[tuple[tuple[float, ...], ...], ...]:
    return tuple(tuple(tuple(scale * (c + i - j) for j in range(5)) for i in range(4)) for c in range(channels))


def made(channels: int = 3, rows: int = 2) -> Sheet:
    row = SheetRow(
        input=ramp(channels), attribution=ramp(channels), under_random=ramp(channels, 1.1),
        under_worst=ramp(1, -1.0), random=ramp(channels, 0.01), worst=ramp(channels, 0.0), random_drift=0.1,
        worst_drift=2.0, target=3, flipped_random=False, flipped_worst=True,
    )  # fmt: skip
    return Sheet("gradient", 0.927, "l2", "input", (row,) * rows)


@pytest.mark.parametrize(("channels", "rows"), [(1, 1), (3, 2)])
def test_a_sheet_is_a_png_with_a_line_for_every_sample(channels: int, rows: int) -> None:
    files, reason = sheet.draw_sheet([made(channels, rows)], (channels, 4, 5))
    assert (list(files), reason) == (["attribution.png"], "")
    pixels = image.imread(io.BytesIO(files["attribution.png"]))
    assert pixels.shape[:2] == (int((1.85 * rows + 0.6) * 150), 1440)
    assert pixels.std() > 0.01


def test_two_runs_draw_the_same_bytes() -> None:
    assert sheet.draw_sheet([made()], (3, 4, 5)) == sheet.draw_sheet([made()], (3, 4, 5))


def test_no_picture_without_a_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    assert sheet.draw_sheet([], (8,)) == ({}, "")
    assert "no attribution" in sheet.draw_sheet([], (1, 4, 5))[1]
    assert "2 channels" in sheet.draw_sheet([], (2, 4, 5))[1]
    monkeypatch.setattr(sheet, "find_spec", lambda name: None)
    files, reason = sheet.draw_sheet([made()], (3, 4, 5))
    assert files == {}
    assert "pip install 'spectral-audit[plots]'" in reason
    report = sheet.without_picture(replace(example.example(), findings=()), reason)
    text = " ".join(render_report(report).split())
    assert f"attribution.png was not written: {reason}" in text


def test_attributions_of_a_row_share_one_scale() -> None:
    assert sheet._summed(ramp(3)).tolist() == [[sum(c + i - j for c in range(3)) for j in range(5)] for i in range(4)]
    coloured = sheet._colours(ramp(1))
    assert coloured.shape == (4, 5, 3)
    assert (coloured.min(), coloured.max()) == (0.0, 1.0)
