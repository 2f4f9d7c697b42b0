"""Attribution methods with known answers, and what may be wrong with a user's own."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from spectral_audit.errors import RefusedError, UsageError
from spectral_audit.lenses.attribution import AttributionMap, AttributionSettings
from tests.lenses.explained import absolute_value, explain, points, regression

W = torch.tensor([1.0, -2.0, 0.5], dtype=torch.float64)


def attributions(model: nn.Module, x: Tensor, method: str, **settings: object) -> Tensor:
    chosen = AttributionSettings(methods=(method,), **settings)  # type: ignore[arg-type]  # keywords of the caller
    return AttributionMap(regression(model, x), chosen, method).base


def test_smoothgrad_of_an_absolute_value() -> None:
    """Averaged over x + σz, the gradient of |wᵀx| is (2Φ(wᵀx/(σ‖w‖)) − 1)w: within 3 standard errors."""
    x, sigma, draws = points(12, 3), 0.7, 3000
    noise = sigma / float(x.max() - x.min())
    found = attributions(absolute_value(W), x, "smoothgrad", smooth_noise=noise, smooth_draws=draws)
    for xi, a in zip(x, found, strict=True):
        cdf = 0.5 * (1 + math.erf(float(W @ xi) / (sigma * float(W.norm())) / math.sqrt(2)))
        stderr = 2 * math.sqrt(cdf * (1 - cdf) / draws)  # of the mean of ±1
        assert float(((a - (2 * cdf - 1) * W) / W).abs().max()) <= 3 * stderr + 1e-12


def test_integrated_gradients_add_up_to_the_output() -> None:
    """f = Σ x_k³/6 has ∫₀¹ x∘∇f(tx) dt = x³/6; the midpoint rule with n points misses 1/(4n²) of it."""

    class Cubic(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.scale = nn.Parameter(torch.ones(()))

        def forward(self, x: Tensor) -> Tensor:
            return self.scale * (x**3 / 6).sum(1, keepdim=True)

    x = points(5, 4)
    found = attributions(Cubic(), x, "integrated_gradients", ig_steps=20)
    assert torch.allclose(found, x**3 / 6 * (1 - 1 / (4 * 20**2)), rtol=1e-9)


def test_input_times_gradient_of_a_linear_model_moves_with_the_input() -> None:
    """a(x) = x∘w drifts by ‖w∘δ‖/‖w∘x‖, although the gradient does not move."""
    model = nn.Linear(3, 1).double()
    with torch.no_grad():
        model.weight.copy_(W[None])
    x = points(20, 3)
    found = explain(regression(model, x), flat=True, methods=("gradient", "input_x_gradient"), radius=0.1)
    assert found.methods["gradient"].score.value == 1.0
    other = found.methods["input_x_gradient"]
    bound = 2.0 * 0.1 / (W * x).norm(dim=1)  # the largest |w_k| is 2
    assert other.worst.maximum is not None
    assert 0.9 * float(bound.max()) <= other.worst.maximum <= float(bound.max()) * (1 + 1e-9)
    assert other.score.value is not None
    assert other.score.value < 1


def test_absolute_values_and_pooled_channels() -> None:
    x = points(4, 18).view(4, 2, 3, 3)
    model = nn.Sequential(nn.Flatten(), nn.Linear(18, 1)).double()
    subject = regression(model, x)
    weight = model[1].weight.view(2, 3, 3).abs().sum(0)
    settings = AttributionSettings(sign="absolute", channels="pooled")
    assert torch.allclose(AttributionMap(subject, settings).base, weight.expand(4, 1, 3, 3))
    found = explain(subject, flat=True, sign="absolute", channels="pooled")
    assert (found.sign, found.channels, found.score.value) == ("absolute", "pooled", 1.0)


def test_a_users_function_is_measured_like_the_built_in_one() -> None:
    def mine(forward: Callable[[Tensor], Tensor], x: Tensor, target: Tensor) -> Tensor:
        (g,) = torch.autograd.grad(forward(x).gather(1, target[:, None]).sum(), x)
        return g

    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(6, 30), nn.ReLU(), nn.Linear(30, 1)).double()
    subject = regression(net, points(20, 6))
    own = explain(subject, flat=True, methods=("mine",), functions={"mine": mine})
    theirs = explain(subject, flat=True)
    assert (own.method, own.random, own.worst, own.score) == ("mine", theirs.random, theirs.worst, theirs.score)
    assert replace(own.methods["mine"], method="", gradients=0) == replace(
        theirs.methods["gradient"], method="", gradients=0
    )


@pytest.mark.parametrize(
    ("function", "said"),
    [
        (lambda forward, x, target: x[:1], "shape"),
        (lambda forward, x, target: x.numpy(), "requires grad"),
        (lambda forward, x, target: x / 0, "NaN or infinity"),
        (lambda forward, x, target: "map", "a str"),
        (lambda forward, x, target: torch.rand_like(x), "another result"),
        (lambda forward, x, target: forward(x, x), "positional argument"),
    ],
)
def test_a_users_function_that_cannot_be_used_is_refused(function: Callable[..., Tensor], said: str) -> None:
    subject = regression(nn.Linear(3, 1), points(6, 3))
    with pytest.raises(RefusedError, match="the attribution mine cannot be used") as caught:
        explain(subject, flat=True, methods=("mine",), functions={"mine": function})
    assert said in caught.value.found


def test_an_unknown_method_names_the_known_ones() -> None:
    with pytest.raises(UsageError, match="no method `smothgrad`") as caught:
        explain(regression(nn.Linear(3, 1), points(6, 3)), flat=True, methods=("smothgrad",))
    assert "smoothgrad" in caught.value.remedy
