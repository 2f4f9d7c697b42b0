"""Figures on CUDA against those of float64 on the CPU; both draw from generators on the CPU, hence the same numbers."""

from __future__ import annotations

from functools import cache

import pytest
import torch

from spectral_audit.measure import Settings, measure
from spectral_audit.results import AXES, Measurement
from spectral_audit.subject import DTypeName
from tests.cases import CASES

pytestmark = [
    pytest.mark.cuda,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here"),
]
every_net = pytest.mark.parametrize("name", ["cnn", "relu_mlp", "transformer_layer"])
every_dtype = pytest.mark.parametrize("dtype", ["float32", "float64"])
# Lanczos stops at 1e-3; that is also far above the rounding of float32 passes.
TOLERANCE = 2e-3


@cache
def measured(name: str, device: str, dtype: DTypeName) -> Measurement:
    model, x, y, loss = CASES[name]()
    return measure(model, x, y, loss=loss, settings=Settings(device=device, dtype=dtype))


@every_net
@every_dtype
def test_axes_and_index(name: str, dtype: DTypeName) -> None:
    found, truth = measured(name, "cuda", dtype), measured(name, "cpu", "float64")
    pairs = [(getattr(found.axes, axis), getattr(truth.axes, axis)) for axis in AXES] + [(found.gmsi, truth.gmsi)]
    for a, b in pairs:
        assert a.worst.value == pytest.approx(b.worst.value, rel=TOLERANCE)
        assert a.typical.value == pytest.approx(b.typical.value, rel=TOLERANCE)
        assert a.worst.low == pytest.approx(b.worst.low, rel=TOLERANCE)


@every_net
@every_dtype
def test_eigenvalues_lie_within_their_residuals(name: str, dtype: DTypeName) -> None:
    found, truth = measured(name, "cuda", dtype).spectra, measured(name, "cpu", "float64").spectra
    for a, b in ((found.ntk, truth.ntk), (found.gauss_newton, truth.gauss_newton), (found.hessian, truth.hessian)):
        allowed = a.residuals[0] + b.residuals[0] + 1e4 * torch.finfo(getattr(torch, dtype)).eps * b.values[0]
        assert abs(a.values[0] - b.values[0]) <= allowed


@every_net
def test_attributions_drift_alike(name: str) -> None:
    found, truth = measured(name, "cuda", "float64").attribution, measured(name, "cpu", "float64").attribution
    assert found is not None and truth is not None
    assert found.random.mean.value == pytest.approx(truth.random.mean.value, rel=1e-6)
