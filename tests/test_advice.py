"""The steps that are advised are where training does and does not diverge, and what is undefined has no number."""

from dataclasses import replace
from functools import partial

import pytest
import torch
from torch import nn

from spectral_audit import regularizers
from spectral_audit.advising import advise
from spectral_audit.measure import Settings, measure
from spectral_audit.reports import WRITERS
from spectral_audit.results import AXES, Layer, Spectrum
from tests.reports import example


def hessian(top: float, residual: float = 0.0, status: str = "ok") -> Spectrum:
    measures = dict.fromkeys(("entropy", "normalized_entropy", "effective_rank", "stable_rank", "condition"))
    found = Spectrum("H", "eigenvalues", 9, (top, -1.0), (residual, 0.0), False, **measures, trace=None, frobenius=None)
    return replace(found, status=status)


def layer(name: str, share: float) -> Layer:
    return Layer(name, (2, 2), 4, "linear", 1.0, 0.5, share, 0.5)


advised = partial(advise, loss="cross_entropy", gradient=0.1)


def regression() -> tuple[nn.Linear, torch.Tensor, torch.Tensor]:
    """A linear model at its least-squares optimum: the loss is exactly quadratic."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(40, 3, generator=generator) * torch.tensor([1.0, 2.0, 3.0])
    y = torch.randn(40, 1, generator=generator)
    model = nn.Linear(3, 1, bias=False)
    with torch.no_grad():
        model.weight.copy_(torch.linalg.lstsq(x, y).solution.T)
    return model, x, y


@pytest.mark.parametrize("momentum", [0.0, 0.9])
@pytest.mark.parametrize(("share", "diverges"), [(0.98, False), (1.02, True)])
def test_full_batch_training_diverges_above_the_advised_step_and_not_below(momentum, share, diverges):
    model, x, y = regression()
    found = measure(model, x, y, loss="mse", settings=Settings(dtype="float64", attribution=None))
    steps = found.advice.steps
    limit = steps.heavy_ball if momentum else steps.gradient_descent
    best = model.weight.detach().clone()
    with torch.no_grad():
        model.weight.add_(0.01)
    start = float((model.weight - best).norm().detach())
    optimizer = torch.optim.SGD(model.parameters(), lr=share * limit, momentum=momentum)
    for _ in range(200):
        optimizer.zero_grad()
        nn.functional.mse_loss(model(x), y).backward()
        optimizer.step()
    distance = float((model.weight - best).norm().detach())
    assert (distance > 10 * start) if diverges else (distance < start)


@pytest.mark.parametrize(("share", "diverges"), [(0.98, False), (1.02, True)])
def test_adams_figure_is_the_limit_of_averaged_gradients_at_a_fixed_preconditioner(share, diverges):
    """m ← β₁m + (1 − β₁)λx, x ← x − ηm: λ is that of the preconditioned Hessian."""
    eta, beta = 0.01, advised("weights", (), hessian=hessian(1.0)).steps.momentum
    curvature = share * advised("weights", (), hessian=hessian(1.0)).steps.adam / eta
    x, m = 1.0, 0.0
    for _ in range(2000):
        m = beta * m + (1 - beta) * curvature * x
        x -= eta * m
    assert (abs(x) > 1e3) if diverges else (abs(x) < 1e-3)


def test_an_unconverged_eigenvalue_counts_with_its_residual():
    steps = advised("kernel", (), hessian=hessian(3.0, 1.0, "unconverged")).steps
    assert (steps.status, steps.sharpness, steps.gradient_descent) == ("unconverged", 4.0, 0.5)
    assert steps.heavy_ball == pytest.approx(0.95)


@pytest.mark.parametrize(
    "spectrum", [hessian(-2.0, 1.0), hessian(0.0), hessian(1.0, 0.0, "undefined"), hessian(5e-324)]
)
def test_without_a_positive_eigenvalue_there_is_no_limit(spectrum):
    steps = advised("curvature", (), hessian=spectrum).steps
    assert (steps.status, steps.sharpness, steps.gradient_descent, steps.heavy_ball) == ("undefined", None, None, None)


def test_the_fewest_tensors_that_carry_the_axis_are_named():
    layers = (layer("a", 0.05), layer("b", 0.25), layer("c", 0.7))
    assert [carrier.name for carrier in advised("weights", layers, hessian=hessian(1.0)).carriers] == ["c", "b"]
    even = tuple(layer(str(k), 0.1) for k in range(10))
    assert len(advised("curvature", even, hessian=hessian(1.0)).carriers) == 3
    assert advised("input", layers, hessian=hessian(1.0)).carriers == ()
    assert advised("kernel", (layer("dead", 0.0),), hessian=hessian(1.0)).carriers == ()


@pytest.mark.parametrize("loss", ["cross_entropy", "mse", "bce"])
@pytest.mark.parametrize("axis", [*AXES, None])
def test_every_advised_penalty_is_a_function_of_the_package(axis, loss):
    penalties = advise(axis, (), loss, hessian(1.0), 0.1).penalties
    assert bool(penalties) == (axis is not None)
    for call in penalties:
        assert call.partition("(")[0] in regularizers.__all__


@pytest.mark.parametrize("writer", ["rich", "md"])
def test_reports_print_the_steps_and_the_gradient_and_older_reports_have_no_advice(writer):
    report = example.example()
    text = " ".join(WRITERS[writer](report).replace("\\", "").split())
    assert "regularizers.ntk_trace(relative=True)" in text
    assert "‖∇L‖ 0.0874" in text
    assert "Advice" not in WRITERS[writer](replace(report, advice=None))
    flat = replace(report, advice=advise(None, (), "mse", hessian(-1.0), 0.0874))
    said = " ".join(WRITERS[writer](flat).split())
    assert "No axis binds" in said
    assert "no positive eigenvalue" in said
