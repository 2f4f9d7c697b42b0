"""On every sample model float32 and float64 agree to the errors that the float32 report states."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import pytest

import spectral_audit
from spectral_audit.audit import Request, audit
from spectral_audit.results import AXES, Report, Spectrum
from spectral_audit.subject import DTypeName

FOLDER = Path(spectral_audit.__file__).parent.parent / "sample_models"
# Each with the samples that keep its float64 run short.
MODELS = {
    "breast_cancer_mlp.pt": 64,
    "diabetes_mlp.pt2": 64,
    "mnist_mlp.safetensors": 64,
    "mnist_cnn_relu.safetensors": 48,
    "mnist_cnn_gelu.safetensors": 16,
    "mnist_cnn_noisy.safetensors": 48,
    "cifar10_resnet.pt": 8,
}
every_model = pytest.mark.parametrize("name", MODELS)


@cache
def report(name: str, dtype: DTypeName) -> Report:
    return audit(Request(FOLDER / name, dtype=dtype, n=MODELS[name], trust="code"))


def test_every_sample_model_is_here() -> None:
    files = {path.name for path in FOLDER.iterdir() if path.suffix in (".pt", ".pt2", ".safetensors")}
    assert files == MODELS.keys()


@every_model
@pytest.mark.parametrize("operator", ["input_jacobian", "ntk", "gauss_newton"])
def test_exact_spectra_differ_by_no_more_than_their_residuals(name: str, operator: str) -> None:
    narrow: Spectrum = getattr(report(name, "float32").spectra, operator)
    wide: Spectrum = getattr(report(name, "float64").spectra, operator)
    assert len(narrow.values) == len(wide.values) == len(narrow.residuals)
    for a, b, error in zip(narrow.values, wide.values, narrow.residuals, strict=True):
        assert abs(a - b) <= error


@every_model
def test_the_ends_of_the_hessian_differ_by_no_more_than_their_residuals(name: str) -> None:
    narrow, wide = (report(name, dtype).spectra.hessian for dtype in ("float32", "float64"))
    for k in (0, -1):
        assert abs(narrow.values[k] - wide.values[k]) <= narrow.residuals[k] + wide.residuals[k]


@every_model
def test_no_negative_eigenvalue_is_rounding(name: str) -> None:
    """Operators that are sums of squares have none; of the Hessian's, each has one in float64 that it stands for."""
    narrow, wide = report(name, "float32").spectra, report(name, "float64").spectra
    for spectrum in (narrow.ntk, narrow.gauss_newton):
        assert min(v + r for v, r in zip(spectrum.values, spectrum.residuals, strict=True)) >= 0
    for value, error in zip(narrow.hessian.values, narrow.hessian.residuals, strict=True):
        if value + error < 0:
            assert wide.hessian.values[-1] - wide.hessian.residuals[-1] < 0


@every_model
def test_axes_agree(name: str) -> None:
    """To the tolerance at which Lanczos stops; exact axes far better, gates that flip aside."""
    narrow, wide = report(name, "float32"), report(name, "float64")
    for axis in AXES:
        for column in ("worst", "typical"):
            a, b = (getattr(getattr(r.axes, axis), column).value for r in (narrow, wide))
            assert a == pytest.approx(b, rel=1e-3)
