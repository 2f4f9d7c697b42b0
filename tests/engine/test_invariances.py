"""What must not change the index: the order of the probe set, and rewritings of the same function."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from spectral_audit.measure import Settings, measure
from spectral_audit.results import AXES, Measurement
from tests.cases import CASES, Problem
from tests.networks import Forward

SWEEP = 1e-8
LANCZOS = 2e-3
SWEPT_AXES = ("input", "weights", "kernel")
rectified = pytest.mark.parametrize("name", ["relu_mlp", "cnn"])


def in_double(name: str) -> Problem:
    """The case in float64, so that rewriting its weights loses nothing."""
    model, x, y, loss = CASES[name]()
    return Problem(model.double(), x.double(), y, loss)


def audit(problem: Problem) -> Measurement:
    model, x, y, loss = problem
    return measure(model, x, y, loss=loss, settings=Settings(dtype="float64", attribution=None))


def rewritten(problem: Problem, change: Callable[[nn.Module], object]) -> Problem:
    """The same problem with a changed copy of the model."""
    model = copy.deepcopy(problem.model)
    with torch.no_grad():
        change(model)
    return problem._replace(model=model)


def unchanged(before: Measurement, after: Measurement, axes: tuple[str, ...] = AXES, tolerance: float = SWEEP) -> None:
    """Both columns of these axes; the worst curvature, which Lanczos finds, to its own tolerance."""
    for axis in axes:
        old, new = getattr(before.axes, axis), getattr(after.axes, axis)
        lanczos = axis == "curvature"
        assert new.worst.value == pytest.approx(old.worst.value, rel=LANCZOS if lanczos else tolerance), axis
        assert new.typical.value == pytest.approx(old.typical.value, rel=tolerance), axis
    if axes == AXES:
        assert after.gmsi.worst.value == pytest.approx(before.gmsi.worst.value, rel=LANCZOS)
        assert after.gmsi.typical.value == pytest.approx(before.gmsi.typical.value, rel=tolerance)
        assert after.gmsi.binding == before.gmsi.binding


@rectified
def test_order_of_the_probe_set(name: str) -> None:
    problem = in_double(name)
    order = torch.randperm(len(problem.x), generator=torch.Generator().manual_seed(3))
    shuffled = problem._replace(x=problem.x[order], y=problem.y[order])
    before, after = audit(problem), audit(shuffled)
    unchanged(before, after, tolerance=1e-9)
    assert after.raw.ntk == pytest.approx(before.raw.ntk, rel=1e-9)
    assert after.spectra.ntk.entropy == pytest.approx(before.spectra.ntk.entropy, rel=1e-9)


@rectified
def test_a_probe_set_seen_twice_is_the_same_probe_set(name: str) -> None:
    """Doubling every sample changes no mean, no top eigenvalue and no trace; quantiles are left out."""
    problem = in_double(name)
    twice = problem._replace(x=problem.x.repeat_interleave(2, dim=0), y=problem.y.repeat_interleave(2))
    before, after = audit(problem), audit(twice)
    unchanged(before, after, ("kernel", "curvature"))
    assert after.axes.weights.typical.value == pytest.approx(before.axes.weights.typical.value, rel=SWEEP)
    assert after.axes.input.typical.value == pytest.approx(before.axes.input.typical.value, rel=SWEEP)


@rectified
@pytest.mark.parametrize("constant", [-40.0, 3.0])
def test_a_constant_added_to_all_logits(name: str, constant: float) -> None:
    problem = in_double(name)
    shifted = problem._replace(model=Forward(lambda m, x: m.net(x) + constant, net=problem.model).eval())
    unchanged(audit(problem), audit(shifted))


@rectified
@pytest.mark.parametrize("constant", [-40.0, 3.0])
def test_a_constant_added_through_the_last_bias(name: str, constant: float) -> None:
    problem = in_double(name)
    unchanged(audit(problem), audit(rewritten(problem, lambda model: model[-1].bias.add_(constant))))


@rectified
@pytest.mark.parametrize("c", [0.1, 8.0])
def test_temperature(name: str, c: float) -> None:
    """Curvature changes with the temperature, as it should; the other axes stay."""
    problem = in_double(name)
    hot = problem._replace(model=Forward(lambda m, x: c * m.net(x), net=problem.model).eval())
    before, after = audit(problem), audit(hot)
    unchanged(before, after, SWEPT_AXES)
    assert after.axes.curvature.typical.value != pytest.approx(before.axes.curvature.typical.value, rel=1e-2)


@rectified
@pytest.mark.parametrize("c", [0.1, 8.0])
def test_temperature_in_the_last_layer(name: str, c: float) -> None:
    def heat(model: nn.Module) -> None:
        model[-1].weight.mul_(c)
        model[-1].bias.mul_(c)

    problem = in_double(name)
    unchanged(audit(problem), audit(rewritten(problem, heat)), SWEPT_AXES)


@rectified
@pytest.mark.parametrize("c", [0.2, 30.0])
def test_rescaling_a_rectified_layer(name: str, c: float) -> None:
    """Its weight and bias times c, the next weight over c: the same function, and the same index."""

    def rescale(model: nn.Module) -> None:
        first, second = [module for module in model if hasattr(module, "weight")][:2]
        first.weight.mul_(c)
        first.bias.mul_(c)
        second.weight.div_(c)

    problem = in_double(name)
    before, after = audit(problem), audit(rewritten(problem, rescale))
    unchanged(before, after)
    assert after.raw.hessian != pytest.approx(before.raw.hessian, rel=1e-2)


@pytest.mark.parametrize("name", ["relu_mlp", "mlp", "cnn"])
@pytest.mark.parametrize("c", [1 / 255, 12.0])
def test_a_global_input_unit(name: str, c: float) -> None:
    """x → c x with the first weight over c."""

    def convert(model: nn.Module) -> None:
        model[0].weight.div_(c)

    problem = in_double(name)
    other: Tensor = c * problem.x
    before, after = audit(problem), audit(rewritten(problem, convert)._replace(x=other))
    exact_trace = name != "mlp"  # elsewhere part of the trace is sampled
    unchanged(before, after, AXES if exact_trace else SWEPT_AXES)
    assert after.axes.curvature.worst.value == pytest.approx(before.axes.curvature.worst.value, rel=LANCZOS)
