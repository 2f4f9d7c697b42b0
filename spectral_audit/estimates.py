"""Figures that know how sure they are: plain numbers, no tensors, nothing undefined disguised as a number."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

AxisName = Literal["input", "weights", "kernel", "curvature"]
Status = Literal["ok", "undefined", "unconverged"]


@dataclass(frozen=True)
class Estimate:
    """A figure with its 95 % interval; all `None` when the status is `undefined`."""

    value: float | None
    low: float | None
    high: float | None
    status: Status = "ok"


UNDEFINED = Estimate(None, None, None, "undefined")
