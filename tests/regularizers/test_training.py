"""Each penalty lowers the quantity it names in a short training on real digits, as the audit or an SVD measures it."""

from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from sample_models.training import Batch, Penalty, train
from spectral_audit.advising import advise
from spectral_audit.linalg.measures import entropy
from spectral_audit.measure import measure
from spectral_audit.regularizers import (
    attribution_curvature,
    attribution_drift,
    gauss_newton_trace,
    gradient_norm,
    jacobian_entropy,
    jacobian_frobenius,
    jacobian_spectral,
    layer_directions,
    layer_entropy,
    layer_spectral,
    ntk_trace,
    random_directions,
)
from spectral_audit.results import AXES, Measurement

PROBE = Path(__file__).parents[2] / "sample_models" / "mnist_probe.npz"
TRAIN = 220


@cache
def digits() -> tuple[Tensor, Tensor]:
    """300 real digits at 7×7 pixels, standardised."""
    with np.load(PROBE, allow_pickle=False) as arrays:
        x, y = torch.from_numpy(arrays["x"]).float(), torch.from_numpy(arrays["y"]).long()
    x = nn.functional.avg_pool2d(x, 4).flatten(1)
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(0))
    return ((x - x.mean()) / x.std())[order], y[order]


def trained(penalty: Penalty | None) -> nn.Module:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(49, 24), nn.GELU(), nn.Linear(24, 24), nn.GELU(), nn.Linear(24, 10))
    x, y = digits()
    train(model, x[:TRAIN], y[:TRAIN], epochs=12, lr=5e-3, batch=44, weight_decay=0.0, penalty=penalty)
    return model


def audited(model: nn.Module, *, on_training_set: bool = False) -> Measurement:
    x, y = digits()
    part = slice(0, TRAIN) if on_training_set else slice(TRAIN, None)
    return measure(model, x[part], y[part])


@cache
def plain() -> tuple[nn.Module, Measurement]:
    model = trained(None)
    return model, audited(model)


@cache
def penalised(name: str) -> tuple[nn.Module, Measurement]:
    model = trained(CASES[name][0]())
    return model, audited(model)


class Stateful:
    """A penalty that hands its directions on from step to step."""

    def __init__(self) -> None:
        self.inputs = random_directions(TRAIN, 10, generator=torch.Generator().manual_seed(0))
        self.layers: dict[str, Tensor] = {}

    def jacobian(self, b: Batch) -> Tensor:
        value, self.inputs[b.index] = jacobian_spectral(b.outputs, b.x, self.inputs[b.index], softmax=True)
        return 0.1 * value

    def weights(self, b: Batch) -> Tensor:
        self.layers = self.layers or layer_directions(b.model, generator=torch.Generator().manual_seed(0))
        value, self.layers = layer_spectral(b.model, self.layers)
        return 0.02 * value


def layer_norms(model: nn.Module) -> float:
    return sum(float(torch.linalg.matrix_norm(p.detach(), 2)) ** 2 for p in model.parameters() if p.ndim >= 2)


def layer_entropies(model: nn.Module) -> float:
    values = [torch.linalg.svdvals(p.detach().double()) for p in model.parameters() if p.ndim >= 2]
    return sum(entropy(v.square()) for v in values) / len(values)


def mean(values: tuple[float, ...]) -> float:
    return sum(values) / len(values)


Figure = Callable[[nn.Module, Measurement], float]


def jacobian_norm(m: nn.Module, f: Measurement) -> float:
    return mean(f.samples.input_typical)


def jacobian_top(m: nn.Module, f: Measurement) -> float:
    return mean(tuple(v**2 for v in f.samples.input_worst))


# What is added to the loss, and the figure that falls, to this share of the plain run's or below.
CASES: dict[str, tuple[Callable[[], Penalty], Figure, float]] = {
    "jacobian_frobenius": (
        lambda: lambda b: 0.03 * jacobian_frobenius(b.outputs, b.x, generator=b.rng, softmax=True),
        jacobian_norm,
        0.7,
    ),
    "jacobian_spectral": (lambda: Stateful().jacobian, jacobian_top, 0.7),
    "jacobian_entropy": (
        lambda: lambda b: 0.03 * jacobian_entropy(b.outputs, b.x, softmax=True),
        lambda m, f: f.spectra.input_jacobian.entropy,
        0.95,
    ),
    "layer_spectral": (lambda: Stateful().weights, lambda m, f: layer_norms(m), 0.8),
    "layer_entropy": (lambda: lambda b: 0.1 * layer_entropy(b.model), lambda m, f: layer_entropies(m), 0.95),
    "gradient_norm": (
        lambda: lambda b: 1.0 * gradient_norm(b.loss, b.model.parameters()),
        lambda m, f: audited(m, on_training_set=True).gradient_norm,
        0.9,
    ),
    "ntk_trace": (
        lambda: lambda b: 3e-4 * ntk_trace(b.outputs, b.model.parameters(), generator=b.rng, softmax=True),
        lambda m, f: f.spectra.ntk.trace,
        0.7,
    ),
    "ntk_trace, relative": (
        lambda: (
            lambda b: 0.01 * ntk_trace(b.outputs, b.model.parameters(), generator=b.rng, relative=True, softmax=True)
        ),
        lambda m, f: mean(f.samples.weights_typical),
        0.7,
    ),
    "gauss_newton_trace": (
        lambda: lambda b: 3e-3 * gauss_newton_trace(b.outputs, b.model.parameters(), generator=b.rng),
        lambda m, f: f.spectra.gauss_newton.trace,
        0.7,
    ),
    "gauss_newton_trace, relative": (
        lambda: lambda b: 0.3 * gauss_newton_trace(b.outputs, b.model.parameters(), generator=b.rng, relative=True),
        lambda m, f: mean(f.samples.curvature_typical),
        0.7,
    ),
    "attribution_curvature": (
        lambda: lambda b: 10.0 * attribution_curvature(b.outputs, b.x, generator=b.rng),
        lambda m, f: f.attribution.curvature.frobenius.value,
        0.8,
    ),
    "attribution_drift": (
        lambda: lambda b: 20.0 * attribution_drift(b.model, b.outputs, b.x, radius=0.7, generator=b.rng),
        lambda m, f: f.attribution.random.mean.value,
        0.8,
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_penalty_lowers_what_it_names(name):
    _, figure, share = CASES[name]
    assert figure(*penalised(name)) < share * figure(*plain())


@pytest.mark.parametrize("axis", AXES)
def test_the_advised_penalty_lowers_both_columns_of_its_axis(axis):
    nothing = plain()[1].spectra.hessian
    for call in advise(axis, (), "cross_entropy", nothing, 0.0).penalties:
        found, before = (
            getattr(f.axes, axis) for _, f in (penalised(call.replace("(relative=True)", ", relative")), plain())
        )
        assert found.worst.value < 0.95 * before.worst.value
        assert found.typical.value < 0.95 * before.typical.value


def test_subtracted_entropies_rise():
    even = audited(trained(lambda b: -0.3 * jacobian_entropy(b.outputs, b.x, softmax=True)))
    assert even.spectra.input_jacobian.entropy > 1.05 * plain()[1].spectra.input_jacobian.entropy
    assert layer_entropies(trained(lambda b: -layer_entropy(b.model))) > 1.01 * layer_entropies(plain()[0])
