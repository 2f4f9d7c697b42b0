"""The judge judged: the dense reference against closed forms, finite differences and its own symmetries."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parameters_to_vector, vector_to_parameters

from tests.cases import CASES, PIECEWISE_LINEAR
from tests.networks import Forward
from tests.reference import Reference, mean_loss, outputs, reference, spectrum_measures


@pytest.fixture(scope="module")
def judged() -> dict[str, Reference]:
    return {name: reference(*build()) for name, build in CASES.items()}


def same(found: Tensor, expected: Tensor, tolerance: float = 1e-10) -> bool:
    return bool((found - expected).abs().max() <= tolerance * expected.abs().max().clamp(min=1e-300))


def directional(model: nn.Module, x: Tensor, y: Tensor, loss: str) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Central differences along one random θ direction u and x direction v: f'(θ;u), L'(θ;u), L''(θ;u,u), f'(x;v)."""
    model, x = copy.deepcopy(model).double().eval(), x.double()
    y = y if loss == "cross_entropy" else y.double()
    theta, step = parameters_to_vector(model.parameters()).detach(), 5e-5
    generator = torch.Generator().manual_seed(1)
    u = torch.randn(len(theta), generator=generator, dtype=torch.float64)
    u /= u.norm()
    v = torch.randn(x.shape, generator=generator, dtype=torch.float64)
    f, losses = [], []
    for h in (-step, 0.0, step):
        vector_to_parameters(theta + h * u, model.parameters())
        f.append(outputs(model, x).detach())
        losses.append(mean_loss(f[-1], y, loss))
    vector_to_parameters(theta, model.parameters())
    along_x = (outputs(model, x + 1e-6 * v) - outputs(model, x - 1e-6 * v)).detach() / 2e-6
    first = (losses[2] - losses[0]) / (2 * step)
    second = (losses[2] - 2 * losses[1] + losses[0]) / step**2
    return (f[2] - f[0]) / (2 * step), first, second, along_x


@pytest.mark.parametrize("name", CASES)
def test_derivatives_agree_with_finite_differences(name: str, judged: dict[str, Reference]) -> None:
    problem, r = CASES[name](), judged[name]
    generator = torch.Generator().manual_seed(1)
    u = torch.randn(r.H.shape[0], generator=generator, dtype=torch.float64)
    u /= u.norm()
    v = torch.randn(problem.x.shape, generator=generator, dtype=torch.float64)
    df, dL, ddL, along_x = directional(*problem)
    assert same(r.G @ u, df @ r.Q, 1e-4)
    assert same(u @ r.H @ u, ddL, 2e-3)
    assert abs(dL.item()) <= r.gradient_norm * (1 + 1e-4)
    if name not in ("words", "embedding"):  # moving an index by a little moves it by nothing, or by one
        assert same((r.J @ v.flatten(1)[:, :, None])[:, :, 0], along_x @ r.Q, 1e-6)


@pytest.mark.parametrize("name", CASES)
def test_hessian_is_symmetric(name: str, judged: dict[str, Reference]) -> None:
    assert same(judged[name].H, judged[name].H.T)


@pytest.mark.parametrize("name", CASES)
def test_every_axis_of_every_case_is_defined(name: str, judged: dict[str, Reference]) -> None:
    r = judged[name]
    assert r.M > 0
    assert all(map(math.isfinite, (*r.input, *r.weights, *r.kernel, *r.curvature, *r.gmsi)))
    assert all(share >= 0 for t in r.tensors for share in (t.share, t.share_worst, t.share_typical))
    assert sum(t.share for t in r.tensors) == pytest.approx(1)


@pytest.mark.parametrize("name", sorted(PIECEWISE_LINEAR))
def test_hessian_and_gauss_newton_share_their_diagonal_where_every_weight_is_linear(
    name: str, judged: dict[str, Reference]
) -> None:
    r = judged[name]
    gauss_newton = torch.einsum("ica,icd,ida->a", r.G, r.S, r.G) / len(r.f)
    assert same(r.H.diagonal(), gauss_newton)
    assert r.A.abs().max() == 0


def test_reused_weights_break_that(judged: dict[str, Reference]) -> None:
    r = judged["same_relu_layer_twice"]
    gauss_newton = torch.einsum("ica,icd,ida->a", r.G, r.S, r.G) / len(r.f)
    assert not same(r.H.diagonal(), gauss_newton, 1e-4)


def test_linear_model_has_hessian_of_the_inputs() -> None:
    """H = (2/C) I_C ⊗ XᵀX/n, and Θ has the eigenvalues of XᵀX/n, C times each."""
    x, C = torch.randn(20, 4, generator=torch.Generator().manual_seed(0)), 3
    model = nn.Linear(4, C, bias=False)
    r = reference(model, x, torch.zeros(20, C), "mse")
    second_moment = x.double().T @ x.double() / 20
    assert same(r.H, 2 / C * torch.kron(torch.eye(C, dtype=torch.float64), second_moment))
    values = torch.linalg.eigvalsh(second_moment).repeat_interleave(C).flip(0)
    assert same(r.ntk[: 4 * C], values)
    assert same(r.J, model.weight.detach().double().expand(20, C, 4))


def test_softmax_regression_at_zero() -> None:
    """Loss ln C; H has λ_j(XᵀX/n)/C, C − 1 times each; J = 0, M = 0 and no axis is defined."""
    x, C = torch.randn(20, 4, generator=torch.Generator().manual_seed(0)), 3
    model = nn.Linear(4, C, bias=False)
    nn.init.zeros_(model.weight)
    r = reference(model, x, torch.arange(20) % C, "cross_entropy")
    values = torch.linalg.eigvalsh(x.double().T @ x.double() / 20).flip(0).repeat_interleave(C - 1) / C
    assert r.loss == pytest.approx(math.log(C))
    assert same(r.hessian[:8], values)
    assert same(r.gauss_newton[:8], values)
    assert r.hessian[8:].abs().max() < 1e-12
    assert r.M == 0
    assert math.isnan(r.gmsi[0])


def test_bias_free_relu_net_is_homogeneous() -> None:
    """J x = f(x), and ⟨∂f/∂θ, θ⟩ = L f for L layers."""
    torch.manual_seed(0)
    model = nn.Sequential(
        *(nn.Linear(4, 8, bias=False), nn.ReLU(), nn.Linear(8, 8, bias=False), nn.ReLU(), nn.Linear(8, 2, bias=False))
    )
    x = torch.randn(9, 4)
    r = reference(model, x, torch.zeros(9, 2), "mse")
    assert same((r.J @ x.double()[:, :, None])[:, :, 0], r.f)
    assert same(r.G @ parameters_to_vector(model.parameters()).detach().double(), 3 * r.f)


def test_quadratic_form_has_constant_input_hessian() -> None:
    """f = xᵀBx: A = B + Bᵀ and ∇f = A x."""
    B = torch.randn(4, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    model = Forward(lambda m, x: torch.einsum("ni,ij,nj->n", x, m.B, x), B=nn.Parameter(B))
    x = torch.randn(5, 4, generator=torch.Generator().manual_seed(1))
    r = reference(model, x, torch.zeros(5), "mse")
    assert same(r.A, (B + B.T).expand(5, 4, 4))
    assert same(r.saliency, x.double() @ (B + B.T))


def test_binary_logistic_hessian() -> None:
    """H = mean p(1 − p) x xᵀ."""
    torch.manual_seed(0)
    x = torch.randn(15, 4)
    model = nn.Linear(4, 1, bias=False)
    r = reference(model, x, torch.arange(15) % 2, "bce")
    p = torch.sigmoid(x.double() @ model.weight.detach().double()[0])
    expected = (x.double().T * (p * (1 - p))) @ x.double() / 15
    assert same(r.H, expected)
    assert same(r.gauss_newton, torch.linalg.eigvalsh(expected).flip(0))
    assert pytest.approx(torch.special.logit(p).abs().median().item()) == r.M


def test_output_basis_ignores_a_constant_added_to_all_logits(judged: dict[str, Reference]) -> None:
    r = judged["mlp"]
    assert same(r.Q.T @ r.Q, torch.eye(2, dtype=torch.float64))
    assert r.Q.sum(dim=0).abs().max() < 1e-14


def test_geometric_spectrum_entropy() -> None:
    """σ_k² ∝ q^k, r terms: −log((1−q)/(1−q^r)) − log q · [q/(1−q) − r q^r/(1−q^r)]."""
    q, r = 0.6, 7
    expected = -math.log((1 - q) / (1 - q**r)) - math.log(q) * (q / (1 - q) - r * q**r / (1 - q**r))
    entropy, effective_rank, stable_rank = spectrum_measures(q ** torch.arange(r, dtype=torch.float64))
    assert entropy == pytest.approx(expected, rel=1e-12)
    assert effective_rank == pytest.approx(math.exp(expected))
    assert stable_rank == pytest.approx((1 - q**r) / (1 - q))


def test_tied_weights_count_once(judged: dict[str, Reference]) -> None:
    assert [t.name for t in judged["two_layers_one_weight"].tensors].count("2.weight") == 0
    assert len(judged["two_layers_one_weight"].tensors) == 5


def test_unused_parameters_move_nothing(judged: dict[str, Reference]) -> None:
    shares = {t.name: t.share for t in judged["unused_parameters"].tensors}
    assert shares["unused.weight"] == shares["unused.bias"] == 0
