"""From figures to advice."""

from __future__ import annotations

import math

from .advice import Advice, Carrier, StepLimits
from .results import AxisName, Layer, Spectrum

MOMENTUM = 0.9
_CARRIERS, _ENOUGH = 3, 0.9
_ASSUMES = (
    "the loss is quadratic around these weights",
    "every step takes the full batch, and this probe set stands for it",
    "the training loss is the audited one, without penalties",
    "the gradient is small: far from a minimum the limit moves while training goes on",
)


def advise(axis: AxisName | None, layers: tuple[Layer, ...], loss: str, hessian: Spectrum, gradient: float) -> Advice:
    """What acts on the binding axis, what carries it, and the steps that the Hessian of `loss` allows."""
    return Advice(axis, _penalties(axis, loss), _carriers(axis, layers), _steps(hessian, gradient))


def _penalties(axis: AxisName | None, loss: str) -> tuple[str, ...]:
    if axis == "input":
        return ("jacobian_spectral", "jacobian_frobenius")
    if axis == "curvature":
        return ("gauss_newton_trace(relative=True)",) if loss == "cross_entropy" else ("gradient_norm",)
    return ("ntk_trace(relative=True)",) if axis is not None else ()


def _carriers(axis: AxisName | None, layers: tuple[Layer, ...]) -> tuple[Carrier, ...]:
    if axis in (None, "input"):
        return ()
    ranked = sorted((layer for layer in layers if layer.share_worst > 0), key=lambda layer: -layer.share_worst)
    found: list[Carrier] = []
    for layer in ranked[:_CARRIERS]:
        if sum(carrier.share for carrier in found) >= _ENOUGH:
            break
        found.append(Carrier(layer.name, layer.share_worst))
    return tuple(found)


def _steps(hessian: Spectrum, gradient: float) -> StepLimits:
    adam = (2 + 2 * MOMENTUM) / (1 - MOMENTUM)
    top = hessian.values[0] + hessian.residuals[0] if hessian.values and hessian.residuals else 0.0
    # A subnormal λ has no finite inverse.
    if hessian.status == "undefined" or not top > 0 or not math.isfinite(2 * (1 + MOMENTUM) / top):
        return StepLimits("undefined", None, None, None, adam, MOMENTUM, gradient, _ASSUMES)
    limits = (2 / top, 2 * (1 + MOMENTUM) / top)
    return StepLimits(hessian.status, top, *limits, adam, MOMENTUM, gradient, _ASSUMES)
