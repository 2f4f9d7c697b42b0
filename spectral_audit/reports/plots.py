"""Small plots made of characters: filled curves in braille, bars in eighths, and plain ASCII for pipes."""

from __future__ import annotations

import math
from collections.abc import Sequence

_BRAILLE = 0x2800
_DOTS = ((0x40, 0x04, 0x02, 0x01), (0x80, 0x20, 0x10, 0x08))  # left and right column of a cell, bottom to top
_EIGHTHS = " ▏▎▍▌▋▊▉█"
_THIRDS = " .:#"


def decay(values: Sequence[float], points: int, decades: float = 6.0) -> list[float]:
    """Heights in [0, 1] of the positive values by rank, both axes logarithmic.

    The largest value is 1, values `decades` powers of ten below it and less are 0; ranks run from 1 to the last
    positive value, with straight lines between them.
    """
    positive = [value for value in values if value > 0]
    if not positive or points < 1:
        return [0.0] * points
    top = math.log10(positive[0])
    levels = [max(0.0, 1.0 + (math.log10(value) - top) / decades) for value in positive]
    last = math.log(len(levels))
    return [_between(levels, math.exp(last * point / max(1, points - 1)) - 1.0) for point in range(points)]


def _between(levels: Sequence[float], position: float) -> float:
    below = min(int(position), len(levels) - 1)
    above = min(below + 1, len(levels) - 1)
    return levels[below] + (levels[above] - levels[below]) * (position - below)


def warp(value: float, reach: float) -> float:
    """A signed scale, linear within a fiftieth of `reach` of zero and logarithmic beyond: asinh(50 value/reach)."""
    return math.asinh(50.0 * value / reach) if reach > 0 else 0.0


def resample(grid: Sequence[float], values: Sequence[float], low: float, high: float, points: int) -> list[float]:
    """Heights in [0, 1] of a density given on a grid, in equal bins from low to high, over six powers of ten.

    Every bin shows its largest value, so that a lone outlier stays visible.
    """
    bins = [0.0] * points
    for index, value in enumerate(values):
        # A grid point stands for the interval up to its neighbours: coarse grids leave no gaps.
        left = (grid[max(0, index - 1)] + grid[index]) / 2
        right = (grid[index] + grid[min(len(grid) - 1, index + 1)]) / 2
        for cell in range(_cell(left, low, high, points), _cell(right, low, high, points) + 1):
            bins[cell] = max(bins[cell], value)
    return _log_heights(bins, 6.0)


def histogram(values: Sequence[float], low: float, high: float, points: int) -> list[float]:
    """Heights in [0, 1] of the counts of values in equal bins from low to high, on a logarithmic scale."""
    bins = [0.0] * points
    for value in values:
        bins[_cell(value, low, high, points)] += 1.0
    return _log_heights(bins, math.log10(max(*bins, 1.0)) + 0.5)


def _cell(value: float, low: float, high: float, points: int) -> int:
    share = (value - low) / (high - low) if high > low else 0.0
    return min(points - 1, max(0, int(share * points)))


def _log_heights(bins: Sequence[float], decades: float) -> list[float]:
    top = max(bins, default=0.0)
    if top <= 0:
        return [0.0] * len(bins)
    return [max(0.0, 1.0 + math.log10(value / top) / decades) if value > 0 else 0.0 for value in bins]


def points_for(width: int, *, unicode: bool) -> int:
    """How many heights fill `width` cells: two to a braille cell, one to a character."""
    return 2 * width if unicode else width


def area(heights: Sequence[float], rows: int, *, unicode: bool) -> list[str]:
    """A filled curve, `rows` lines from the top; heights in [0, 1], as many as `points_for` says."""
    draw = _braille_row if unicode else _ascii_row
    return [draw(heights, rows, row) for row in reversed(range(rows))]


def _braille_row(heights: Sequence[float], rows: int, row: int) -> str:
    cells = []
    for left in range(0, len(heights), 2):
        code = _BRAILLE
        for column, height in enumerate(heights[left : left + 2]):
            filled = math.ceil(height * rows * 4 - 1e-9) - 4 * row
            code |= sum(_DOTS[column][: max(0, min(4, filled))])
        cells.append(chr(code))
    return "".join(cells)


def _ascii_row(heights: Sequence[float], rows: int, row: int) -> str:
    filled = (math.ceil(height * rows * 3 - 1e-9) - 3 * row for height in heights)
    return "".join(_THIRDS[max(0, min(3, level))] for level in filled)


def bar(fraction: float, width: int, *, unicode: bool) -> str:
    """A horizontal bar of `width` cells at fraction 1; anything above zero shows at least its thinnest mark."""
    share = min(1.0, max(0.0, fraction))
    if not unicode:
        return "#" * (max(1, round(share * width)) if share > 0 else 0)
    eighths = max(1, round(share * width * 8)) if share > 0 else 0
    return ("█" * (eighths // 8) + _EIGHTHS[eighths % 8]).rstrip()


def ruler(low: float, high: float, marks: Sequence[float], width: int, *, unicode: bool) -> str:
    """A horizontal axis of `width` cells from low to high, with a tick at every mark and a 0 at zero, if in sight."""
    line, tick = ("─", "┴") if unicode else ("-", "+")
    cells = [line] * width
    for mark in marks:
        cells[_cell(mark, low, high, width)] = tick
    if low < 0 < high:
        cells[_cell(0.0, low, high, width)] = "0"
    return "".join(cells)


def labels(low: float, high: float, marks: Sequence[tuple[float, str]], width: int) -> str:
    """Labels under a ruler, each centred on its mark where it fits; the first ones win a place."""
    cells = [" "] * width
    for mark, text in marks:
        start = _cell(mark, low, high, width) - (len(text) - 1) // 2
        start = max(0, min(width - len(text), start))
        room = cells[max(0, start - 1) : start + len(text) + 1]
        if len(text) <= width and all(cell == " " for cell in room):
            cells[start : start + len(text)] = text
    return "".join(cells)
