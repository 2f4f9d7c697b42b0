"""The first-order picture: random draws see ‖A‖_F, the search finds ‖A‖₂, and both are known for some models."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from spectral_audit.admission import make_subject
from spectral_audit.lenses.attribution.maps import AttributionMap
from spectral_audit.lenses.attribution.settings import AttributionSettings
from spectral_audit.subject import Subject
from tests.lenses.explained import explain, photographs, points, regression, trained


@pytest.fixture(scope="module")
def gelu() -> Subject:
    x, y = photographs()
    return make_subject(trained("gelu"), x[:24], y[:24], loss="cross_entropy", dtype="float64")


def test_random_drift_of_a_gelu_cnn_is_what_the_frobenius_norm_predicts(gelu: Subject) -> None:
    """Root mean square over 24 samples and 200 draws, within 2 %."""
    point = explain(gelu, scale=55.0, radius=1e-4, draws=200, search_steps=0, fractions=()).curve[-1]
    assert point.random == pytest.approx(point.random_predicted, rel=0.02)


def test_the_search_on_a_gelu_cnn_finds_what_random_draws_miss(gelu: Subject) -> None:
    """At least ten times the best of 15 random draws, and ‖A‖₂r within 5 %."""
    found = explain(gelu, scale=55.0, radius=1e-4, draws=15)
    assert found.worst.mean.value is not None
    assert found.sensitivity.max_sensitivity.value is not None
    assert found.worst.mean.value >= 10 * found.sensitivity.max_sensitivity.value
    assert found.curve[-1].worst == pytest.approx(found.curve[-1].worst_predicted, rel=0.05)
    assert found.score_worst.value is not None
    assert found.score.value is not None
    assert found.score_worst.value < found.score.value


def test_power_steps_alone_come_close_to_the_spectral_norm(gelu: Subject) -> None:
    """Of the secant map, from first gradients: what piecewise-linear models have to rely on."""
    few = explain(gelu, scale=55.0, radius=1e-4, methods=("mine",), functions={"mine": gradient}, search_steps=12)
    full = explain(gelu, scale=55.0, radius=1e-4)
    assert few.curvature is None
    assert few.worst.mean.value is not None
    assert full.worst.mean.value is not None
    assert 0.9 * full.worst.mean.value <= few.worst.mean.value <= full.worst.mean.value * 1.001


def gradient(forward: nn.Module, x: Tensor, target: Tensor) -> Tensor:
    (g,) = torch.autograd.grad(forward(x).gather(1, target[:, None]).sum(), x)
    return g


class Quartic(nn.Module):
    """f = Σ_k (λ_k x_k²/2 + x_k⁴/24): A = diag(λ_k + x_k²/2)."""

    def __init__(self, eigenvalues: Tensor) -> None:
        super().__init__()
        self.eigenvalues = nn.Parameter(eigenvalues)

    def forward(self, x: Tensor) -> Tensor:
        return (self.eigenvalues * x**2 / 2 + x**4 / 24).sum(1, keepdim=True)


def test_rank_entropy_and_errors_of_a_known_spectrum() -> None:
    """Diagonal A at x = 0: |λ| = 4, 2, 1, 1."""
    eigenvalues = torch.tensor([4.0, -2.0, 1.0, -1.0], dtype=torch.float64)
    x = 1e-6 * points(8, 4) + torch.tensor([1e-3, 0, 0, 0], dtype=torch.float64)
    found = explain(regression(Quartic(eigenvalues), x), radius=1e-3, relative=False).curvature
    assert found is not None
    assert found.stable_rank.value == pytest.approx(22 / 16, rel=1e-4)
    p = eigenvalues.abs() / 8
    assert found.entropy.value == pytest.approx(-float((p * p.log()).sum()), rel=1e-4)
    assert found.entropy_samples == 8
    assert found.residual < 1e-6
    assert found.frobenius_stderr == 0.0  # the Krylov space is the whole space


def test_the_radius_where_first_order_parts_from_the_measured_drift() -> None:
    """A = diag(1 + x²/2): at |x| ≪ r the drift outgrows r by r³/6, a tenth at r = √0.6 ≈ 0.77."""
    x = 0.01 * torch.ones(6, 1, dtype=torch.float64)
    subject = regression(Quartic(torch.ones(1, dtype=torch.float64)), x)
    for radius, parted in ((0.5, None), (1.0, 1.0)):
        found = explain(subject, radius=radius, relative=False)
        assert found.parts_at == parted


def test_the_cube_is_searched_by_signs() -> None:
    """Of the 2⁸ corners of the cube one pair has the largest ‖Aδ‖: the search comes close, and never beyond."""
    matrix = points(8, 8)
    matrix = (matrix + matrix.T) / 2

    class Form(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a = nn.Parameter(matrix)

        def forward(self, x: Tensor) -> Tensor:
            return 0.5 * ((x @ self.a) * x).sum(1, keepdim=True)

    x = points(30, 8)
    found = explain(regression(Form(), x), radius=0.1, relative=False, norm="linf", search_steps=20)
    corners = torch.cartesian_prod(*[torch.tensor([-0.1, 0.1], dtype=torch.float64)] * 8)
    best = (corners @ matrix).norm(dim=1).max()
    expected = best / (x @ matrix).norm(dim=1)
    assert found.worst.maximum is not None
    assert found.worst.mean.value is not None
    assert 0.95 * float(expected.max()) <= found.worst.maximum <= float(expected.max()) * (1 + 1e-9)
    assert 0.9 * float(expected.mean()) <= found.worst.mean.value <= float(expected.mean()) * (1 + 1e-9)
    assert found.curve[-1].worst_predicted is None  # no spectral norm bounds a cube tightly


def test_searching_counts_its_gradients() -> None:
    subject = regression(Quartic(torch.ones(3, dtype=torch.float64)), points(5, 3))
    settings = AttributionSettings()
    plain = AttributionMap(subject, settings)
    assert plain.gradients == 5
    found = explain(subject, methods=("mine",), functions={"mine": gradient}, draws=4, search_steps=3, fractions=(0.1,))
    assert found.restarts == 2
    assert found.gradients == 5 * (1 + 4 + 2 * 3 + 2)  # the map, draws, steps, and two at the smaller radius
