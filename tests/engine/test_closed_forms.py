"""The engine against models whose spectra are known by formula. `mse` is torch's mean: 2/C of ½‖f − y‖²."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from spectral_audit.measure import Settings, measure
from spectral_audit.results import UNDEFINED, Measurement, Spectrum
from tests.networks import Forward

EXACT = 1e-9
LANCZOS = 1e-3


def audit(model: nn.Module, x: Tensor, y: Tensor, loss: str = "mse", *, explain: bool = False) -> Measurement:
    """Measure in float64; attributions only where the test is about them."""
    settings = Settings(dtype="float64") if explain else Settings(dtype="float64", attribution=None)
    return measure(model.eval(), x, y, loss=loss, settings=settings)


def draw(*shape: int, seed: int = 0) -> Tensor:
    """Standard normal numbers in float64."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def rotation(size: int, seed: int) -> Tensor:
    """A random orthogonal matrix."""
    return torch.linalg.qr(draw(size, size, seed=seed)).Q


def linear(weight: Tensor) -> nn.Linear:
    """A layer of this weight (out, in) without bias."""
    layer = nn.Linear(weight.shape[1], weight.shape[0], bias=False).double()
    layer.weight.data.copy_(weight)
    return layer


def nonzero(found: Spectrum, expected: Tensor, tolerance: float = EXACT) -> bool:
    """All nonzero values: those found, largest first, are the expected ones and then zeros."""
    expected = expected.sort(descending=True).values
    values = torch.tensor(found.values, dtype=torch.float64)
    head, tail = values[: len(expected)], values[len(expected) :]
    close = (head - expected[: len(head)]).abs().max() <= tolerance * expected[0]
    listed = expected[len(head) :].abs().max() <= tolerance * expected[0] if len(head) < len(expected) else True
    return bool(close) and bool(listed) and bool((tail.abs() <= tolerance * expected[0]).all())


def extremes(found: Spectrum, expected: Tensor) -> bool:
    """Largest and smallest eigenvalue, to the Lanczos tolerance of the largest magnitude."""
    size = expected.abs().max()
    ends = torch.tensor([found.values[0] - expected.max().item(), found.values[-1] - expected.min().item()])
    return bool((ends.abs() <= LANCZOS * size).all())


def test_01_linear_model() -> None:
    """J = W; H = (2/C) I_C ⊗ XᵀX/n; eig(Θ) = eig(XᵀX/n), C times each = (C/2) eig(H); the saliency never moves."""
    x, W, C = draw(20, 4), draw(3, 4, seed=1), 3
    m = audit(linear(W), x, draw(20, C, seed=2), explain=True)
    second_moment = torch.linalg.eigvalsh(x.T @ x / 20)
    assert nonzero(m.spectra.input_jacobian, torch.linalg.svdvals(W))
    assert m.raw.jacobian == pytest.approx(torch.linalg.matrix_norm(W, 2).item(), rel=EXACT)
    assert nonzero(m.spectra.ntk, second_moment.repeat_interleave(C))
    assert nonzero(m.spectra.gauss_newton, 2 / C * second_moment.repeat_interleave(C))
    assert extremes(m.spectra.hessian, 2 / C * second_moment)
    assert m.spectra.hessian.trace == pytest.approx(2 * second_moment.sum().item(), rel=EXACT)
    assert m.axes.curvature.typical.value == pytest.approx(
        math.sqrt(2 * second_moment.sum().item() / (4 * C)) * W.norm().item(), rel=EXACT
    )
    assert m.attribution is not None
    assert m.attribution.piecewise_linear
    assert m.attribution.curvature is None
    assert m.attribution.random.mean.value == pytest.approx(0, abs=1e-12)
    assert m.attribution.worst.maximum == pytest.approx(0, abs=1e-12)


def test_02_softmax_regression_at_zero() -> None:
    """Loss ln C; eig(H) = λ_j(XᵀX/n)/C, C − 1 times each, and 0 d times; J = 0, M = 0: undefined, not a number."""
    x, C = draw(20, 4), 3
    m = audit(linear(torch.zeros(C, 4)), x, torch.arange(20) % C, "cross_entropy")
    expected = torch.linalg.eigvalsh(x.T @ x / 20).repeat_interleave(C - 1) / C
    assert m.loss == pytest.approx(math.log(C), rel=EXACT)
    assert nonzero(m.spectra.gauss_newton, expected)
    assert extremes(m.spectra.hessian, torch.cat([expected, torch.zeros(4)]))
    assert m.spectra.hessian.trace == pytest.approx(expected.sum().item(), rel=EXACT)
    assert m.raw.jacobian == 0
    assert m.scales.output == 0
    for estimate in (m.gmsi.worst, m.gmsi.typical, m.axes.input.worst, m.axes.weights.worst, m.axes.kernel.typical):
        assert estimate == UNDEFINED
    assert m.gmsi.binding is None


def test_03_deep_linear_net_of_scaled_rotations() -> None:
    """W_l = a_l Q_l: all σ(J) = Π a_l, entropy ln d; Θ = (Σ_l Π_{k≠l} a_k²) XXᵀ/n ⊗ I_d."""
    scales, d = (0.5, 2.0, 3.0), 5
    x = draw(12, d)
    net = nn.Sequential(*(linear(a * rotation(d, seed)) for seed, a in enumerate(scales)))
    m = audit(net, x, draw(12, d, seed=9))
    product = math.prod(scales)
    assert nonzero(m.spectra.input_jacobian, torch.full((d,), product, dtype=torch.float64))
    assert m.spectra.input_jacobian.entropy == pytest.approx(math.log(d), rel=EXACT)
    assert m.spectra.input_jacobian.effective_rank == pytest.approx(d, rel=EXACT)
    assert m.spectra.input_jacobian.stable_rank == pytest.approx(d, rel=EXACT)
    gram = torch.linalg.eigvalsh(x.T @ x / 12) * sum((product / a) ** 2 for a in scales)
    assert nonzero(m.spectra.ntk, gram.repeat_interleave(d))


def test_04_geometric_spectrum() -> None:
    """σ_k² ∝ q^k, r terms: entropy −ln((1−q)/(1−q^r)) − ln q · [q/(1−q) − r q^r/(1−q^r)]."""
    q, r = 0.55, 6
    sigma = q ** (torch.arange(r, dtype=torch.float64) / 2)
    m = audit(linear(rotation(r, 0) @ torch.diag(3 * sigma) @ rotation(r, 1)), draw(10, r), draw(10, r, seed=3))
    entropy = -math.log((1 - q) / (1 - q**r)) - math.log(q) * (q / (1 - q) - r * q**r / (1 - q**r))
    found = m.spectra.input_jacobian
    assert nonzero(found, 3 * sigma)
    assert found.entropy == pytest.approx(entropy, rel=EXACT)
    assert found.normalized_entropy == pytest.approx(entropy / math.log(r), rel=EXACT)
    assert found.effective_rank == pytest.approx(math.exp(entropy), rel=EXACT)
    assert found.stable_rank == pytest.approx((1 - q**r) / (1 - q), rel=EXACT)
    assert found.condition == pytest.approx(q ** (-(r - 1) / 2), rel=1e-8)


def quadratic(B: Tensor) -> Forward:
    """f = xᵀBx."""
    return Forward(lambda m, x: torch.einsum("ni,ij,nj->n", x, m.B, x)[:, None], B=nn.Parameter(B.clone()))


def test_05_quadratic_form() -> None:
    """f = xᵀBx: A = B + Bᵀ everywhere, so ‖A‖₂ and the conditions ‖A‖₂ X/‖Ax‖, ‖A‖_F X/(√d‖Ax‖) are known."""
    d, B, x = 6, draw(6, 6), draw(15, 6, seed=1)
    A = B + B.T
    m = audit(quadratic(B), x, torch.zeros(15, 1, dtype=torch.float64), explain=True)
    assert m.attribution is not None and m.attribution.curvature is not None
    found, X, a = m.attribution.curvature, m.scales.input, (x @ A).norm(dim=1)
    spectral, frobenius = torch.linalg.matrix_norm(A, 2).item(), A.norm().item()
    assert not m.attribution.piecewise_linear
    assert found.spectral.value == pytest.approx(spectral, rel=LANCZOS)
    assert found.condition_worst.value == pytest.approx((spectral * X / a).median().item(), rel=LANCZOS)
    slack = max(1e-6 * frobenius, found.frobenius.high - found.frobenius.low)
    assert abs(found.frobenius.value - frobenius) <= slack
    typical = (frobenius * X / (math.sqrt(d) * a)).median().item()
    slack = max(1e-6 * typical, found.condition_typical.high - found.condition_typical.low)
    assert abs(found.condition_typical.value - typical) <= slack
    # no direction within the radius moves the gradient further than ‖A‖₂ r
    r = m.attribution.radius_absolute
    bound = (spectral * r / a).max().item()
    assert 0.5 * bound <= m.attribution.worst.maximum <= bound * (1 + 1e-9)
    assert m.attribution.worst.mean.value >= m.attribution.random.mean.value


def test_05_quadratic_form_that_turns_every_direction_alike() -> None:
    """B = c·(a reflection): A = 2B keeps lengths up to 2c, so every draw drifts by exactly ‖Aδ‖/‖Ax‖ = r/‖x‖."""
    d = 6
    R = rotation(d, 4)
    signs = torch.tensor([1.0, 1.0, 1.0, -1.0, -1.0, -1.0], dtype=torch.float64)
    x = draw(15, d, seed=1)
    m = audit(quadratic(0.7 * R @ torch.diag(signs) @ R.T), x, torch.zeros(15, 1, dtype=torch.float64), explain=True)
    assert m.attribution is not None
    r = m.attribution.radius_absolute
    assert r == pytest.approx(m.attribution.radius * m.scales.input, rel=EXACT)
    drift = r / x.norm(dim=1)
    assert m.attribution.random.mean.value == pytest.approx(drift.mean().item(), rel=1e-8)
    assert m.attribution.random.maximum == pytest.approx(drift.max().item(), rel=1e-8)
    assert m.attribution.worst.mean.value == pytest.approx(drift.mean().item(), rel=1e-8)


def test_05_random_drift_of_a_quadratic_form() -> None:
    """E‖Aδ‖/‖Ax‖ over the sphere of radius r, from 100 000 draws of the test's own; four standard errors."""
    d, B, x = 6, draw(6, 6, seed=5), draw(40, 6, seed=1)
    A = B + B.T
    m = audit(quadratic(B), x, torch.zeros(40, 1, dtype=torch.float64), explain=True)
    assert m.attribution is not None
    directions = torch.nn.functional.normalize(draw(100_000, d, seed=6), dim=1)
    lengths = (directions @ A).norm(dim=1)
    per_sample = m.attribution.radius_absolute / (x @ A).norm(dim=1)
    # draws may be shared by the samples: only their number counts as independent
    stderr = lengths.std().item() / math.sqrt(m.attribution.draws) * per_sample.mean().item()
    expected = lengths.mean().item() * per_sample.mean().item()
    assert abs(m.attribution.random.mean.value - expected) <= 4 * stderr


def test_06_product_of_two_weights() -> None:
    """½(uv − y)²: H = [[v², 2uv − y], [2uv − y, u²]]; torch's mse with one output is twice that."""
    u, v, y = 1.3, -0.4, 0.9
    x = torch.tensor([[1.0], [-1.0], [1.0], [-1.0]], dtype=torch.float64)
    net = nn.Sequential(linear(torch.tensor([[u]])), linear(torch.tensor([[v]])))
    u, v = net[0].weight.item(), net[1].weight.item()
    m = audit(net, x, y * x)
    H = 2 * torch.tensor([[v * v, 2 * u * v - y], [2 * u * v - y, u * u]], dtype=torch.float64)
    T = torch.diag(torch.tensor([abs(u), abs(v)], dtype=torch.float64))
    assert extremes(m.spectra.hessian, torch.linalg.eigvalsh(H))
    assert m.spectra.hessian.values[-1] < 0
    assert m.raw.hessian == pytest.approx(torch.linalg.eigvalsh(H).abs().max().item(), rel=LANCZOS)
    assert m.spectra.hessian.trace == pytest.approx(2 * (u * u + v * v), rel=EXACT)
    scaled = torch.linalg.eigvalsh(T @ H @ T).abs().max().item()
    assert m.axes.curvature.worst.value == pytest.approx(math.sqrt(scaled), rel=LANCZOS)
    assert m.axes.curvature.typical.value == pytest.approx(2 * abs(u * v), rel=EXACT)
    assert m.loss == pytest.approx((u * v - y) ** 2, rel=EXACT)


def test_07_bias_free_relu_net_is_homogeneous_in_one_dimension() -> None:
    """J x = f(x), and ∂f/∂θ_l · θ_l = f for each of L weights: ‖J‖ = |f/x|, ‖G T‖ = √L |f|."""
    x = torch.linspace(0.3, 4, 11, dtype=torch.float64)[:, None]
    weights, L = (0.8, 1.7, 0.6), 3
    layers = [linear(torch.tensor([[w]], dtype=torch.float64)) for w in weights]
    net = nn.Sequential(layers[0], nn.ReLU(), layers[1], nn.ReLU(), layers[2])
    m = audit(net, x, x.clone())
    f = math.prod(weights) * x[:, 0]
    M = (f - f.mean()).square().mean().sqrt().item()
    assert m.raw.jacobian == pytest.approx((f / x[:, 0]).mean().item(), rel=EXACT)
    assert m.scales.output == pytest.approx(M, rel=EXACT)
    assert m.axes.weights.worst.value == pytest.approx(math.sqrt(L) * f.quantile(0.95).item() / M, rel=EXACT)
    assert m.axes.weights.typical.value == pytest.approx(math.sqrt(L) * f.square().mean().sqrt().item() / M, rel=EXACT)
    assert m.axes.kernel.worst.value == pytest.approx(math.sqrt(L) * f.square().mean().sqrt().item() / M, rel=EXACT)


def test_07_bias_free_relu_net_is_homogeneous() -> None:
    """J x = f(x) bounds ‖J‖₂ ≥ |f|/‖x‖; ⟨∂f/∂θ_l, θ_l⟩ = f bounds ‖G T‖ ≥ √L |f| and each tensor's share from below."""
    x, L = draw(25, 4), 3
    net = nn.Sequential(linear(draw(9, 4)), nn.ReLU(), linear(draw(9, 9)), nn.ReLU(), linear(draw(1, 9)))
    m = audit(net, x, x[:, :1])
    f = net(x).detach()[:, 0].abs()
    assert m.raw.jacobian >= (f / x.norm(dim=1)).mean().item() * (1 - EXACT)
    assert m.axes.weights.worst.value * m.scales.output >= math.sqrt(L) * f.quantile(0.95).item() * (1 - EXACT)
    assert m.axes.kernel.worst.value * m.scales.output >= math.sqrt(L) * f.square().mean().sqrt().item() * (1 - EXACT)


def test_08_binary_logistic() -> None:
    """H = mean p(1 − p) x xᵀ, which is the Gauss–Newton matrix as well; M is the median |logit|."""
    x, w = draw(15, 4), draw(1, 4, seed=2)
    m = audit(linear(w), x, torch.arange(15) % 2, "bce")
    p = torch.sigmoid(x @ w[0])
    H = torch.linalg.eigvalsh((x.T * (p * (1 - p))) @ x / 15)
    assert nonzero(m.spectra.gauss_newton, H)
    assert extremes(m.spectra.hessian, H)
    assert m.scales.output == pytest.approx((x @ w[0]).abs().median().item(), rel=EXACT)
    assert m.scales.output_kind == "median |logit|"
    assert m.axes.curvature.worst.value == pytest.approx(math.sqrt(H.max().item()) * w.norm().item(), rel=LANCZOS)
    assert m.axes.input.worst.value == pytest.approx(w.norm().item() * m.scales.input / m.scales.output, rel=EXACT)
    assert m.axes.input.typical.value == pytest.approx(m.axes.input.worst.value / math.sqrt(4), rel=EXACT)


def test_10_cross_entropy_of_a_piecewise_linear_net() -> None:
    """∇²_x ℓ = Jᵀ S J inside a region; ℓ is logsumexp(z) minus one logit, so its log-sum-exp has the same A."""
    net = nn.Sequential(linear(draw(8, 5)), nn.ReLU(), linear(draw(3, 8, seed=1))).double()
    model = Forward(lambda m, x: m.net(x).logsumexp(dim=1, keepdim=True), net=net)
    x = 0.4 * draw(11, 5, seed=2)
    m = audit(model, x, torch.zeros(11, 1, dtype=torch.float64), explain=True)
    norms = []
    for xi in x:
        J = torch.autograd.functional.jacobian(net, xi)
        p = net(xi).softmax(dim=0).detach()
        norms.append(torch.linalg.matrix_norm(J.T @ (torch.diag(p) - torch.outer(p, p)) @ J, 2))
    assert m.attribution is not None and m.attribution.curvature is not None
    assert m.attribution.curvature.spectral.value == pytest.approx(torch.stack(norms).median().item(), rel=LANCZOS)


def test_11_circular_convolution() -> None:
    """Singular values of a circular convolution: |DFT(kernel)|."""
    L, kernel = 8, draw(3)
    conv = nn.Conv1d(1, 1, 3, padding=1, padding_mode="circular", bias=False).double()
    conv.weight.data.copy_(kernel.view(1, 1, 3))
    m = audit(nn.Sequential(conv, nn.Flatten()), draw(10, 1, L, seed=1), draw(10, L, seed=2))
    padded = torch.zeros(L, dtype=torch.float64)
    padded[:3] = kernel
    sigma = torch.fft.fft(padded).abs()
    assert nonzero(m.spectra.input_jacobian, sigma)
    assert m.raw.jacobian == pytest.approx(sigma.max().item(), rel=EXACT)
    assert m.spectra.input_jacobian.stable_rank == pytest.approx((sigma.norm() / sigma.max()).item() ** 2, rel=EXACT)


def test_12_relu_layer_with_all_gates_open() -> None:
    """f = aᵀrelu(Wx), Wx > 0: J = aᵀW and K_ij = ‖a‖² x_iᵀx_j + h_iᵀh_j."""
    x, W, a = draw(14, 4).abs() + 0.1, draw(7, 4, seed=1).abs(), draw(1, 7, seed=2)
    m = audit(nn.Sequential(linear(W), nn.ReLU(), linear(a)), x, draw(14, 1, seed=3))
    h = x @ W.T
    K = a.square().sum() * (x @ x.T) + h @ h.T
    assert nonzero(m.spectra.ntk, torch.linalg.eigvalsh(K / 14))
    assert m.raw.ntk == pytest.approx(torch.linalg.eigvalsh(K / 14).max().item(), rel=EXACT)
    assert m.raw.ntk_trace == pytest.approx(m.raw.ntk, rel=EXACT)
    assert m.raw.jacobian == pytest.approx((a @ W).norm().item(), rel=EXACT)
    assert m.raw.parameter_jacobian == pytest.approx(K.diagonal().sqrt().mean().item(), rel=EXACT)
    shares = {layer.name: layer.share for layer in m.layers}
    first = (a.square().sum() * x.square().sum() / K.trace()).item()
    assert shares == pytest.approx({"0.weight": first, "2.weight": 1 - first}, rel=EXACT)


def directional(weight: Tensor) -> Forward:
    """Logits x (w_k/‖w‖)_k: the loss is a function of the direction of the whole weight alone."""
    return Forward(lambda m, x: 3 * x @ (m.w / m.w.norm()).T, w=nn.Parameter(weight.clone()))


@pytest.mark.parametrize("c", [0.1, 7.0])
def test_13_scale_invariant_loss(c: float) -> None:
    """g(w/‖w‖): H(cw) = H(w)/c², while T grows by c and the curvature axis stays."""
    x, w, y = draw(15, 4), draw(3, 4, seed=1), torch.arange(15) % 3
    one, scaled = (audit(directional(k * w), x, y, "cross_entropy") for k in (1.0, c))
    assert scaled.raw.hessian == pytest.approx(one.raw.hessian / c**2, rel=2 * LANCZOS)
    assert scaled.spectra.hessian.values[-1] == pytest.approx(
        one.spectra.hessian.values[-1] / c**2, abs=2 * LANCZOS * scaled.raw.hessian
    )
    assert scaled.gradient_norm == pytest.approx(one.gradient_norm / c, rel=EXACT)
    assert scaled.axes.curvature.worst.value == pytest.approx(one.axes.curvature.worst.value, rel=2 * LANCZOS)
    assert scaled.axes.kernel.worst.value == pytest.approx(one.axes.kernel.worst.value, rel=EXACT)


@pytest.mark.parametrize("c", [0.2, 5.0])
def test_14_temperature(c: float) -> None:
    """f → c f: J·c, Θ·c²; input, weights and kernel axes unchanged."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(5, 8), nn.Tanh(), nn.Linear(8, 3)).double()
    x, y = draw(15, 5), torch.arange(15) % 3
    one = audit(net, x, y, "cross_entropy")
    hot = audit(Forward(lambda m, x: c * m.net(x), net=net), x, y, "cross_entropy")
    assert hot.raw.jacobian == pytest.approx(c * one.raw.jacobian, rel=EXACT)
    assert hot.raw.ntk == pytest.approx(c**2 * one.raw.ntk, rel=EXACT)
    assert nonzero(hot.spectra.ntk, c**2 * torch.tensor(one.spectra.ntk.values, dtype=torch.float64))
    for axis in ("input", "weights", "kernel"):
        before, after = getattr(one.axes, axis), getattr(hot.axes, axis)
        assert after.worst.value == pytest.approx(before.worst.value, rel=EXACT)
        assert after.typical.value == pytest.approx(before.typical.value, rel=EXACT)
