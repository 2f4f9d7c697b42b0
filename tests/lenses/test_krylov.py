"""The Krylov regime against the exact one: the same extremes, and traces within their stated errors."""

from __future__ import annotations

from functools import cache

import pytest
import torch
from torch import nn

from spectral_audit.errors import UsageError
from spectral_audit.lenses.outputspace import OutputFactor
from spectral_audit.losses import output_hessian
from spectral_audit.measure import Settings, measure
from spectral_audit.regimes import MAX_ROWS
from spectral_audit.results import Measurement
from tests.cases import CASES

NAMES = (
    "mlp", "relu_mlp", "one_logit", "lstm", "attention", "layernorm_and_groupnorm", "same_layer_twice", "words",
    "unused_parameters", "embedding",
)  # fmt: skip
every = pytest.mark.parametrize("name", NAMES)


@cache
def both(name: str) -> tuple[Measurement, Measurement]:
    model, x, y, loss = CASES[name]()
    exact, krylov = (
        measure(model, x, y, loss=loss, settings=Settings(dtype="float64", regime=regime, attribution=None))
        for regime in ("exact", "krylov")
    )
    return exact, krylov


@every
@pytest.mark.parametrize("axis", ["input", "weights", "kernel", "curvature"])
def test_worst_cases_are_the_same(name: str, axis: str) -> None:
    """Six singular directions are fewer than the steps of a per-sample run; kernels stop at a residual of 1e-3."""
    exact, krylov = (getattr(m.axes, axis).worst.value for m in both(name))
    assert krylov == pytest.approx(exact, rel=1e-3, abs=1e-12)


@every
def test_raw_norms_are_the_same(name: str) -> None:
    exact, krylov = (m.raw for m in both(name))
    assert krylov.jacobian == pytest.approx(exact.jacobian, rel=1e-6, abs=1e-9)
    assert krylov.parameter_jacobian == pytest.approx(exact.parameter_jacobian, rel=1e-6)
    assert krylov.ntk == pytest.approx(exact.ntk, rel=1e-3)
    assert krylov.ntk_trace is None


@every
@pytest.mark.parametrize("spectrum", ["input_jacobian", "ntk", "gauss_newton"])
def test_traces_lie_within_four_standard_errors(name: str, spectrum: str) -> None:
    exact, krylov = (getattr(m.spectra, spectrum) for m in both(name))
    assert not krylov.exact
    assert abs(krylov.trace - exact.trace) <= 4 * krylov.trace_stderr + 1e-9 * exact.trace


@every
def test_residuals_hold_a_true_eigenvalue(name: str) -> None:
    exact, krylov = (m.spectra.ntk for m in both(name))
    truth = torch.tensor(exact.values)
    for value, residual in zip(krylov.values, krylov.residuals, strict=True):
        assert float((truth - value).abs().min()) <= residual + 1e-9 * exact.values[0]


@every
def test_layers_carry_nearly_the_same_shares(name: str) -> None:
    exact, krylov = ({layer.name: layer.share for layer in m.layers} for m in both(name))
    assert exact.keys() == krylov.keys()
    for layer, share in exact.items():
        assert krylov[layer] == pytest.approx(share, abs=0.06)


def test_large_problems_choose_it_by_themselves() -> None:
    torch.manual_seed(0)
    x = torch.randn(60, 5)
    net = nn.Sequential(nn.Linear(5, 4), nn.ReLU(), nn.Linear(4, 100))
    y = torch.randint(0, 100, (60,))
    assert MAX_ROWS < 60 * 100
    found = measure(net, x, y, settings=Settings(attribution=None))
    assert found.regime == "krylov"
    assert found.gmsi.worst.status == "ok"
    with pytest.raises(UsageError, match="too large for the exact regime"):
        measure(net, x, y, settings=Settings(attribution=None, regime="exact"))


@pytest.mark.parametrize(("loss", "width"), [("cross_entropy", 7), ("bce", 1), ("mse", 3)])
def test_the_output_factor_squares_to_the_output_hessian(loss: str, width: int) -> None:
    f = torch.randn(5, width, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    factor = OutputFactor(loss, f)  # type: ignore[arg-type]  # a name from the parameters of the test
    columns = [
        factor.transposed(factor(torch.eye(width, dtype=torch.float64)[k].expand(5, width))) for k in range(width)
    ]
    torch.testing.assert_close(torch.stack(columns, 2), output_hessian(loss, f).clone())  # type: ignore[arg-type]  # a name from the parameters of the test
