"""Attribution stability on models whose answers are known."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from spectral_audit.admission import make_subject
from spectral_audit.lenses.attribution import AttributionMap, AttributionSettings
from spectral_audit.measure import Settings, measure
from spectral_audit.results import Attribution


class Quadratic(nn.Module):
    """f(x) = ½ xᵀAx + bᵀx: gradient Ax + b, input Hessian A."""

    def __init__(self, a: Tensor, b: Tensor) -> None:
        super().__init__()
        self.a, self.b = nn.Parameter(a), nn.Parameter(b)

    def forward(self, x: Tensor) -> Tensor:
        return 0.5 * ((x @ self.a) * x).sum(1, keepdim=True) + x @ self.b[:, None]


def read(model: nn.Module, x: Tensor, **settings: object) -> Attribution:
    found = measure(
        model, x, torch.zeros(len(x), 1), loss="mse",
        settings=Settings(dtype="float64", attribution=AttributionSettings(**settings)),  # type: ignore[arg-type]  # keywords of the caller
    ).attribution  # fmt: skip
    assert found is not None
    return found


def points(n: int, d: int) -> Tensor:
    return torch.randn(n, d, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


@pytest.fixture
def quadratic() -> tuple[Quadratic, Tensor, Tensor]:
    q = torch.linalg.qr(points(6, 6)).Q
    a = q @ torch.diag(torch.tensor([5.0, -3, 2, 1, 0.5, 0.1], dtype=torch.float64)) @ q.T
    b = 10 * torch.ones(6, dtype=torch.float64)
    return Quadratic(a, b), a, b


def test_the_search_finds_the_worst_direction_of_a_quadratic(quadratic: tuple[Quadratic, Tensor, Tensor]) -> None:
    """At radius r no drift exceeds ‖A‖₂r/‖a‖, and the top eigenvector attains it."""
    model, a, b = quadratic
    x = points(20, 6)
    found = read(model, x, radius=0.5, relative=False, search_steps=40)
    size = (x @ a + b).norm(dim=1)
    assert found.worst.mean.value == pytest.approx(float((5.0 * 0.5 / size).mean()), rel=1e-3)
    assert found.worst.maximum == pytest.approx(float((5.0 * 0.5 / size).max()), rel=1e-3)
    assert found.random.maximum is not None
    assert found.worst.maximum is not None
    assert found.random.maximum <= found.worst.maximum


def test_drift_of_a_quadratic_is_exact() -> None:
    """f = xᵀBx: ‖a(x+δ) − a(x)‖ = ‖(B+Bᵀ)δ‖ for every δ, and nothing else."""
    b, x = points(5, 5), points(7, 5).flip(0)
    model = Quadratic(b + b.T, torch.zeros(5, dtype=torch.float64))
    subject = make_subject(model, x, torch.zeros(7, 1), loss="mse", dtype="float64")
    delta = points(7, 5).roll(1, 1)
    move = AttributionMap(subject, AttributionSettings()).move(delta)
    expected = (delta @ (b + b.T)).norm(dim=1) / (x @ (b + b.T)).norm(dim=1)
    assert torch.allclose(move.drift, expected, rtol=1e-12)


def test_curvature_of_a_quadratic(quadratic: tuple[Quadratic, Tensor, Tensor]) -> None:
    model, a, b = quadratic
    x = points(20, 6)
    found = read(model, x).curvature
    assert found is not None
    assert found.spectral.value == pytest.approx(5.0, rel=1e-6)
    scale = float((x - x.mean(0)).square().sum(1).mean().sqrt())
    size = (x @ a + b).norm(dim=1)
    assert found.condition_worst.value == pytest.approx(float((5.0 * scale / size).median()), rel=0.1)
    assert found.residual < 1e-6


def test_frobenius_norm_within_its_sampling_error() -> None:
    """Diagonal A: every Rademacher product has exactly ‖Az‖ = ‖A‖_F."""
    model = Quadratic(torch.diag(torch.tensor([4.0, 2, 1], dtype=torch.float64)), torch.ones(3, dtype=torch.float64))
    found = read(model, points(8, 3)).curvature
    assert found is not None
    assert found.frobenius.value == pytest.approx(math.sqrt(21), rel=1e-9)


def test_a_linear_model_does_not_drift() -> None:
    torch.manual_seed(0)
    found = read(nn.Linear(6, 1), points(10, 6))
    assert found.piecewise_linear
    assert found.curvature is None
    assert (found.random.maximum, found.worst.maximum) == (0.0, 0.0)
    assert found.worst.cosine == pytest.approx(1.0)
    assert found.worst.top_k_overlap == 1.0
    assert (found.score.value, found.score.low, found.score_worst.value) == (1.0, 1.0, 1.0)
    assert found.piecewise is not None
    assert found.piecewise.gates == 0


def test_a_relu_net_drifts_although_its_input_hessian_is_zero() -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(6, 40), nn.ReLU(), nn.Linear(40, 1))
    found = read(net, points(30, 6))
    assert found.piecewise_linear
    assert found.curvature is None
    assert found.random.mean.value is not None
    assert found.random.mean.value > 0.01
    assert found.worst.mean.value is not None
    assert found.worst.mean.value > found.random.mean.value


def test_zero_attributions_are_counted_and_left_out() -> None:
    """Negative inputs close the only gate: the gradient is zero there."""
    net = nn.Sequential(nn.Linear(1, 1, bias=False), nn.ReLU())
    nn.init.ones_(net[0].weight)
    x = torch.tensor([[-2.0], [-3.0], [2.0], [3.0]], dtype=torch.float64)
    found = read(net, x)
    assert found.excluded == 2
    assert found.random.maximum == 0.0
    assert found.score.status == "undefined"  # no gate flipped, but there is one


def test_no_attribution_at_all_is_undefined() -> None:
    net = nn.Sequential(nn.Linear(2, 1), nn.ReLU())
    nn.init.constant_(net[0].bias, -100.0)
    found = read(net, points(5, 2))
    assert found.excluded == 5
    assert found.random.mean.status == "undefined"
    assert found.random.mean.value is None


def test_linf_steps_stay_in_the_cube() -> None:
    """f = Σ x_k³/6 has A = diag(x): with ‖δ‖∞ = r the drift is at most r‖(x_k + r/2)‖ for positive x."""

    class Cubic(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.scale = nn.Parameter(torch.ones(1))

        def forward(self, x: Tensor) -> Tensor:
            return self.scale * (x**3 / 6).sum(1, keepdim=True)

    x = points(6, 4).abs() + 1
    found = read(Cubic(), x, radius=0.1, relative=False, norm="linf", search_steps=10)
    bound = (0.1 * (x + 0.05)).norm(dim=1) / (x**2 / 2).norm(dim=1)
    assert found.worst.maximum == pytest.approx(float(bound.max()), rel=1e-9)


def test_pixel_space_is_the_input_space_times_the_unit(quadratic: tuple[Quadratic, Tensor, Tensor]) -> None:
    model, _, _ = quadratic
    x = points(20, 6)
    unit = torch.tensor([4.0], dtype=torch.float64)
    pixel = read(model, x, radius=0.1, relative=False, space="pixel", unit=unit)
    plain = read(model, x, radius=0.4, relative=False)
    assert pixel.worst.mean.value == pytest.approx(plain.worst.mean.value, rel=1e-9)
