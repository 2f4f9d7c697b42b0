"""The figures of a report that a table of many models shows, by path."""

from __future__ import annotations

from spectral_audit.results import AXES, Report


def figures_of(report: Report) -> dict[str, float | None]:
    """Index, axes and the ends of their intervals, accuracy, loss and sizes."""
    estimates = {f"gmsi.{column}": getattr(report.gmsi, column) for column in ("typical", "worst")}
    for axis in AXES:
        for column in ("typical", "worst"):
            estimates[f"axes.{axis}.{column}"] = getattr(getattr(report.axes, axis), column)
    found: dict[str, float | None] = {}
    for path, estimate in estimates.items():
        found |= {path: estimate.value, f"{path}.low": estimate.low, f"{path}.high": estimate.high}
    found |= {"data.accuracy": report.data.accuracy, "task.loss_value": report.task.loss_value}
    return found | {"data.n": report.data.n, "model.parameters": report.model.parameters}
