"""attribution.png: samples with their attributions, still and perturbed, and the perturbations themselves."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import replace
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from spectral_audit.explanations import Picture, Sheet, SheetRow
from spectral_audit.reports.words import number
from spectral_audit.results import Finding, Report

if TYPE_CHECKING:
    from matplotlib.axes import Axes

NAME = "attribution.png"
_COLUMNS = ("input", "attribution", "under random δ", "under worst δ", "random δ", "worst δ")
_CELL = 1.6  # inches


def draw_sheet(sheets: Sequence[Sheet], shape: tuple[int, ...]) -> tuple[dict[str, bytes], str]:
    """The picture's file by name, or why there is none; '' where samples of this shape are no images at all."""
    if len(shape) != 3:
        return {}, ""
    if shape[0] not in (1, 3):
        return {}, f"images of {shape[0]} channels have no colours"
    if not sheets:
        return {}, "no attribution is there to show"
    if find_spec("matplotlib") is None:
        return {}, "matplotlib is missing: pip install 'spectral-audit[plots]'"
    return {NAME: _png(sheets[0])}, ""


def without_picture(report: Report, reason: str) -> Report:
    """The report with a finding that says why there is no picture."""
    finding = Finding("attribution.picture", "info", f"{NAME} was not written: {reason}")
    return replace(report, findings=(*report.findings, finding))


def _png(sheet: Sheet) -> bytes:
    # Without pyplot, which would open a display and keep figures alive.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    rows, columns = len(sheet.rows), len(_COLUMNS)
    figure = Figure(figsize=(_CELL * columns, (_CELL + 0.25) * rows + 0.6), dpi=150)
    FigureCanvasAgg(figure)
    axes = figure.subplots(rows, columns, squeeze=False)
    for column, title in enumerate(_COLUMNS):
        axes[0][column].set_title(title, fontsize=9)
    for places, row in zip(axes, sheet.rows, strict=True):
        _row(places, row)
    size = f"{sheet.method}, radius {number(sheet.radius_absolute)} ({sheet.norm}, {sheet.space} space)"
    figure.suptitle(f"{size}: red raises the output, blue lowers it; every attribution row has one scale", fontsize=9)
    figure.subplots_adjust(left=0.02, right=0.98, bottom=0.06, top=1 - 0.65 / figure.get_figheight(), hspace=0.3)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", metadata={"Software": None})
    return buffer.getvalue()


def _row(axes: Sequence[Axes], row: SheetRow) -> None:
    _show(axes[0], _colours(row.input), f"output {row.target}")
    attributions = (row.attribution, row.under_random, row.under_worst)
    reach = float(abs(_summed(row.attribution)).max()) or 1.0
    drifts = ("", _drift(row.random_drift, row.flipped_random), _drift(row.worst_drift, row.flipped_worst))
    for place, picture, text in zip(axes[1:4], attributions, drifts, strict=True):
        _show(place, _summed(picture), text, cmap="RdBu_r", vmin=-reach, vmax=reach)
    for place, picture in zip(axes[4:], (row.random, row.worst), strict=True):
        shown = _summed(picture)
        own = float(abs(shown).max()) or 1.0
        _show(place, shown, f"largest {number(own)}", cmap="PiYG", vmin=-own, vmax=own)


def _drift(drift: float, flipped: bool) -> str:
    return f"drift {number(drift)}" + (", prediction flips" if flipped else "")


def _show(place: Axes, picture: Any, text: str, **style: Any) -> None:
    place.imshow(picture, interpolation="nearest", **style)
    place.set_xticks([])
    place.set_yticks([])
    place.set_xlabel(text, fontsize=8)


def _summed(picture: Picture) -> Any:
    """Rows × columns: the sum over channels."""
    return _array(picture).sum(0)


def _colours(picture: Picture) -> Any:
    """Rows × columns × RGB in [0, 1], stretched over the image's own range: its normalisation is not known here."""
    values = _array(picture * 3 if len(picture) == 1 else picture).transpose(1, 2, 0)
    return (values - values.min()) / ((values.max() - values.min()) or 1.0)


def _array(picture: Picture) -> Any:
    import numpy as np

    return np.array(picture)
