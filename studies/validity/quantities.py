"""What is known about a model before it is damaged: the audit's figures, what peers report, and other aggregations."""

from __future__ import annotations

import math

import numpy as np
from torch import nn

from spectral_audit.lenses.attribution import AttributionSettings
from spectral_audit.measure import Settings, measure
from spectral_audit.results import AXES, Attribution, Measurement, Samples
from studies.validity.damages.inputs import ADVERSARIAL, NOISE
from studies.validity.damages.weights import SHAKEN
from studies.validity.peers import weight_figures
from studies.validity.samples import Samples as Parts

RADIUS = 0.1
"""Radius of the attributions' drift, relative to X: the package's default."""

Figures = dict[str, float | None]


def audited(model: nn.Module, parts: Parts) -> tuple[Measurement, Figures]:
    """The audit of a model on the probe set, and every quantity by name."""
    settings = Settings(attribution=AttributionSettings(radius=RADIUS, preset="captum"))
    found = measure(model, parts.probe_x, parts.probe_y, settings=settings)
    assert found.attribution is not None and found.samples is not None
    out = _axes(found) | _peers(found) | _explained(found.attribution) | weight_figures(model)
    return found, out | others(found.samples, found.outputs)


def _axes(found: Measurement) -> Figures:
    axes = {f"{axis}.{c}": getattr(getattr(found.axes, axis), c).value for axis in AXES for c in ("worst", "typical")}
    return axes | {"gmsi.worst": found.gmsi.worst.value, "gmsi.typical": found.gmsi.typical.value}


def _peers(found: Measurement) -> Figures:
    raw, spectra = found.raw, found.spectra
    return {
        "raw.jacobian": raw.jacobian,
        "raw.parameter_jacobian": raw.parameter_jacobian,
        "raw.ntk": raw.ntk,
        "raw.ntk_trace": raw.ntk_trace,
        "raw.hessian": raw.hessian,
        "lambda_max": spectra.hessian.values[0],
        "trace": spectra.hessian.trace,
        "entropy.jacobian": spectra.input_jacobian.entropy,
        "entropy.ntk": spectra.ntk.entropy,
        "accuracy": found.accuracy,
        "loss": found.loss,
        "margin": found.scales.output,
    }


def _explained(a: Attribution) -> Figures:
    """The explanation's condition numbers: secants at finite radii for every model, the Jacobian's for smooth ones."""
    curve = {round(p.radius, 6): p for p in a.curve if p.radius is not None}
    smallest = min(curve)
    curved = a.curvature
    return {
        "attribution.score": a.score.value,
        "attribution.score_worst": a.score_worst.value,
        "secant.worst": None if a.worst.mean.value is None else a.worst.mean.value / RADIUS,
        "secant.random": None if a.random.mean.value is None else a.random.mean.value / RADIUS,
        "secant.worst_smallest": _over(curve[smallest].worst, smallest),
        "condition.worst": curved.condition_worst.value if curved else None,
        "condition.typical": curved.condition_typical.value if curved else None,
        "captum.sensitivity_max": a.preset.max_sensitivity.value if a.preset else None,
        "sensitivity_max": a.sensitivity.max_sensitivity.value,
    }


def _over(value: float | None, radius: float) -> float | None:
    return None if value is None else value / radius


def others(samples: Samples, outputs: int) -> Figures:
    """Other aggregations of the same per-sample figures.

    `ratio`: the median over samples of a sample's own change over its own margin. `quartile`: the axis with the lower
    quartile of the margins in place of the median. `predicted`: the first-order share of decisions that flip at the
    levels of the study; a random change of size c moves the difference to the boundary by c/√C' in one direction.
    """
    m = np.asarray(samples.output)
    x = math.sqrt(np.mean(samples.deviation))
    columns = {
        "input.typical": (np.sqrt(samples.input_typical) * x, NOISE),
        "input.worst": (np.asarray(samples.input_worst) * x, ADVERSARIAL),
        "weights.typical": (np.sqrt(samples.weights_typical), SHAKEN),
        "weights.worst": (np.asarray(samples.weights_worst), SHAKEN),
    }
    out: Figures = {}
    for name, (change, levels) in columns.items():
        ratio = change / np.maximum(m, np.finfo(float).tiny)
        out[f"ratio.{name}"] = float(np.median(ratio))
        quantile = np.quantile(change, 0.95) if name.endswith("worst") else math.sqrt(np.mean(change**2))
        out[f"quartile.{name}"] = float(quantile / np.quantile(m, 0.25))
        out[f"predicted.{name}"] = float(np.mean([_predicted(ratio * r, name, outputs) for r in levels]))
    return out


def _predicted(ratio: np.ndarray, name: str, outputs: int) -> float:
    """The share of samples beyond their boundary: certain for the worst direction, a normal tail for random ones."""
    if name.endswith("worst"):
        return float(np.mean(ratio > 1))
    z = math.sqrt(max(1, outputs - 1)) / np.maximum(ratio, np.finfo(float).tiny)
    return float(np.mean([math.erfc(v / math.sqrt(2)) / 2 for v in z])) * 2
