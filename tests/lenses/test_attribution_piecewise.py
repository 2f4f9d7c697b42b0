"""Piecewise-linear models: gates, surrogates, proven links, and that none of them passes for perfectly stable."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from spectral_audit.admission import make_subject
from spectral_audit.lenses.attribution.gates import flipped, gate_states, same_region
from spectral_audit.subject import Subject
from tests.lenses.explained import absolute_value, explain, photographs, points, regression, trained


@pytest.fixture(scope="module")
def relu() -> Subject:
    x, y = photographs()
    return make_subject(trained("relu"), x[:24], y[:24], loss="cross_entropy", dtype="float64")


@pytest.mark.parametrize("radius", [1e-6, 1e-3, 0.1])
def test_a_relu_cnn_is_never_perfectly_stable(relu: Subject, radius: float) -> None:
    found = explain(relu, scale=55.0, flat=True, radius=radius)
    assert found.piecewise_linear
    assert found.score.value is None or found.score.value < 0.99
    assert found.score_worst.value is None or found.score_worst.value < 0.99


def test_no_flipped_gate_leaves_the_score_undefined() -> None:
    """Inside a linear region nothing drifts: that says the radius is small, not that the model is stable."""
    net = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 1)).double()
    nn.init.constant_(net[0].bias, 100.0)
    found = explain(regression(net, points(10, 2)), flat=True)
    assert (found.random.maximum, found.worst.maximum) == (0.0, 0.0)
    assert found.score.status == found.score_worst.status == "undefined"
    assert found.piecewise is not None
    assert (found.piecewise.gates, found.piecewise.flips_worst) == (3, 0.0)


def test_gates_of_every_kind_are_seen() -> None:
    class Mixed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a = nn.Parameter(torch.ones(()))

        def forward(self, x: Tensor) -> Tensor:
            h = torch.relu(x) + nn.functional.leaky_relu(x) + x.abs() + x.clamp(-1, 1) + nn.functional.relu6(x)
            pooled = nn.functional.max_pool2d(h[:, None], (1, 2))
            return self.a * pooled.flatten(1).sum(1, keepdim=True)

    x = points(3, 8).view(3, 1, 8)[:, 0].view(3, 2, 4)
    subject = regression(Mixed(), x)
    before = gate_states(subject, x)
    assert len(before) == 6
    assert flipped(before, gate_states(subject, x)) == 0.0
    assert flipped(before, gate_states(subject, -x)) > 0.5
    moved = x.clone()
    moved[1] = -moved[1]
    assert same_region(before, gate_states(subject, moved), 3).tolist() == [True, False, True]


OPERATIONS = {
    "relu6": functional.relu6, "softshrink": functional.softshrink,
    "hardsigmoid": lambda x: functional.hardsigmoid(3 * x),
    "threshold": lambda x: functional.threshold(x, 0.1, 0.0), "clamp_max": lambda x: x.clamp(max=0.1),
    "clamp": lambda x: x.clamp(min=-0.5, max=0.1), "maximum": lambda x: torch.maximum(x, -x),
    "max": lambda x: x.max(1)[0], "amax": lambda x: x.amax(1), "topk": lambda x: x.topk(2, 1)[0],
    "sort": lambda x: x.sort(1)[0][:, :2], "where": lambda x: torch.where(x > 0, x, 2 * x),
    "pool": lambda x: functional.max_pool1d(x[:, None], 2)[:, 0],
    "prelu": lambda x: functional.prelu(x, 0.2 * x.new_ones(1)),
}  # fmt: skip


@pytest.mark.parametrize("name", OPERATIONS)
def test_a_gate_flips_where_the_gradient_does(name: str) -> None:
    """Two points with the same states of all gates have the same gradient, and others exist."""

    class Switched(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a = nn.Parameter(torch.ones(()))

        def forward(self, x: Tensor) -> Tensor:
            h = OPERATIONS[name](x).reshape(len(x), -1)
            return self.a * (h * torch.arange(1, h.shape[1] + 1)).sum(1, keepdim=True)

    x = points(60, 4)
    subject = regression(Switched(), x)
    moved = x + 0.1 * points(60, 4).flip(0)
    inside = same_region(gate_states(subject, x), gate_states(subject, moved), 60)
    assert inside is not None
    gradients = []
    for at in (x, moved):
        leaf = at.clone().requires_grad_(True)
        gradients.append(torch.autograd.grad(subject.forward(leaf).sum(), leaf)[0])
    same = (gradients[0] == gradients[1]).all(1)
    assert bool(same[inside].all())
    assert 0 < int((~inside).sum()) < 60
    assert int((~same).sum()) > 0


def test_the_share_of_flipped_gates() -> None:
    """|wᵀx|: both gates flip where wᵀx changes sign, and none elsewhere."""
    subject = regression(absolute_value(torch.ones(2, dtype=torch.float64)), points(40, 2))
    moved = subject.x - 0.5
    turned = (subject.x.sum(1) > 0) != (moved.sum(1) > 0)
    assert flipped(gate_states(subject, subject.x), gate_states(subject, moved)) == float(turned.double().mean())


def test_the_surrogate_is_the_softplus_model() -> None:
    """softplus_β(wᵀx) + softplus_β(−wᵀx) has A = 2β s(1 − s) wwᵀ with s the sigmoid of βwᵀx."""
    w, beta = torch.tensor([0.6, -0.8], dtype=torch.float64), 5.0
    x = 0.3 * points(31, 2)
    found = explain(regression(absolute_value(w), x), flat=True, surrogate=beta, radius=0.3)
    assert found.piecewise is not None
    assert found.piecewise.surrogate is not None
    s = torch.sigmoid(beta * (x @ w))
    size = (2 * s - 1).abs()
    expected = (2 * beta * s * (1 - s) / size).quantile(0.5)
    assert found.piecewise.surrogate.condition_worst.value == pytest.approx(float(expected), rel=1e-6)
    assert found.piecewise.surrogate.condition_typical.value == pytest.approx(float(expected) / math.sqrt(2), rel=1e-6)


@pytest.mark.parametrize(("loss", "outputs"), [("cross_entropy", 4), ("bce", 1), ("mse", 3)])
def test_loss_gradients_keep_their_proven_bound(loss: str, outputs: int) -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(5, 20), nn.ReLU(), nn.Linear(20, outputs)).double()
    x = points(20, 5)
    y = torch.zeros(20, outputs) if loss == "mse" else torch.zeros(20).long()
    found = explain(make_subject(net, x, y, loss=loss, dtype="float64"), flat=True)  # type: ignore[arg-type]  # a name from the case registry
    (link,) = found.links
    assert link.holds
    assert link.samples >= 6
    assert link.bound >= link.measured > 0


def test_the_bound_of_one_linear_output_is_attained() -> None:
    """½·2(wᵀx − y)²… for mse with one output ∇²ℓ = 2wwᵀ: a step along ∇ℓ has slope 2‖w‖² exactly."""
    model = nn.Linear(4, 1).double()
    x = points(10, 4)
    (link,) = explain(regression(model, x), flat=True).links
    assert link.bound == pytest.approx(2 * float(model.weight.square().sum()), rel=1e-9)
    assert link.measured == pytest.approx(link.bound, rel=1e-4)
    assert link.holds


def test_smoothgrad_keeps_its_bound_for_an_absolute_value() -> None:
    """sup‖∇f‖ = ‖w‖: the bound √(2/π)‖w‖/σ is the slope of (2Φ − 1)w at wᵀx = 0, up to ‖w‖."""
    w = torch.tensor([0.6, -0.8], dtype=torch.float64)
    subject = regression(absolute_value(w), points(30, 2))
    found = explain(subject, flat=True, methods=("smoothgrad",), smooth_draws=400, radius=0.5, relative=False)
    link = next(item for item in found.links if item.name == "SmoothGrad")
    sigma = 0.15 * float(subject.x.max() - subject.x.min())
    assert link.bound == pytest.approx(math.sqrt(2 / math.pi) / sigma, rel=1e-9)
    assert link.holds
    assert 0.3 * link.bound < link.measured <= link.bound + 3 * link.stderr
    assert link.assumes
