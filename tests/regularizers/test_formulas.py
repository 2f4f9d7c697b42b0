"""Each penalty equals its definition, or does on average, and its gradient is that of its value."""

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from spectral_audit.errors import UsageError
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
    spectrally_normalised,
)

N, D, C = 4, 5, 3


def net(activation: type[nn.Module]) -> nn.Sequential:
    torch.manual_seed(1)
    return nn.Sequential(nn.Linear(D, 6), activation(), nn.Linear(6, 6), activation(), nn.Linear(6, C)).double()


def points() -> Tensor:
    return torch.randn(N, D, generator=torch.Generator().manual_seed(2), dtype=torch.float64)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def evaluated(model: nn.Module) -> tuple[Tensor, Tensor]:
    x = points().requires_grad_()
    return model(x), x


def jacobians(model: nn.Module, *, softmax: bool = False) -> Tensor:
    """(N, C, D), one sample and one output at a time."""
    x = points()
    found = torch.stack([torch.autograd.functional.jacobian(model, x[i : i + 1])[0, :, 0] for i in range(N)])
    return found - found.mean(1, keepdim=True) if softmax else found


def parameter_jacobians(model: nn.Module, scales: list[float] | None = None) -> Tensor:
    """(N, C, p): G_i, its columns multiplied by one number per tensor."""
    parameters = list(model.parameters())
    rows = []
    for i in range(N):
        outputs = model(points()[i : i + 1])[0]
        for k in range(C):
            gradients = torch.autograd.grad(outputs[k], parameters, retain_graph=True)
            parts = zip(gradients, scales or [1.0] * len(parameters), strict=True)
            rows.append(torch.cat([s * g.flatten() for g, s in parts]))
    return torch.stack(rows).view(N, C, -1)


def entropy(values: Tensor) -> float:
    shares = values[values > 1e-12] / values.sum()
    return float(-(shares * shares.log()).sum())


def averaged(draw: Callable[[torch.Generator], Tensor], draws: int = 4000) -> tuple[float, float]:
    """The mean of many draws and its standard error."""
    generator = seeded(7)
    values = torch.stack([draw(generator).detach() for _ in range(draws)])
    return float(values.mean()), float(values.std()) / math.sqrt(draws)


def at_layers(model: nn.Module) -> Tensor:
    return layer_spectral(model, layer_directions(model, generator=seeded()), steps=0)[0]


def at_directions(model: nn.Module) -> Tensor:
    return jacobian_spectral(*evaluated(model), random_directions(N, C, generator=seeded()), steps=0)[0]


def labels() -> Tensor:
    return torch.arange(N) % C


def cross_entropy(model: nn.Module) -> Tensor:
    return nn.functional.cross_entropy(model(points()), labels())


# Every penalty as a function of the weights alone, its random numbers fixed.
VALUES: dict[str, Callable[[nn.Module], Tensor]] = {
    "jacobian_frobenius": lambda m: jacobian_frobenius(*evaluated(m), generator=seeded(), projections=2, softmax=True),
    "jacobian_spectral": at_directions,
    "jacobian_entropy": lambda m: jacobian_entropy(*evaluated(m)),
    "jacobian_entropy, softmax": lambda m: jacobian_entropy(*evaluated(m), softmax=True),
    "layer_spectral": at_layers,
    "layer_entropy": layer_entropy,
    "gradient_norm": lambda m: gradient_norm(cross_entropy(m), m.parameters()),
    "ntk_trace": lambda m: ntk_trace(m(points()), m.parameters(), generator=seeded(), softmax=True),
    "ntk_trace, relative": lambda m: ntk_trace(m(points()), m.parameters(), generator=seeded(), relative=True),
    "gauss_newton_trace": lambda m: gauss_newton_trace(m(points()), m.parameters(), generator=seeded()),
    "attribution_curvature": lambda m: attribution_curvature(*evaluated(m), generator=seeded()),
    "attribution_drift": lambda m: attribution_drift(m, *evaluated(m), radius=0.3, generator=seeded()),
}
SMOOTH_ONLY = {"attribution_curvature"}
CASES = [(name, a) for name in VALUES for a in (nn.Tanh, nn.ReLU) if not (name in SMOOTH_ONLY and a is nn.ReLU)]


@pytest.mark.parametrize(("name", "activation"), CASES)
def test_gradient_is_that_of_finite_differences(name, activation):
    """Central differences in every single weight; no pre-activation of the ReLU net is within the step of its kink."""
    model, step = net(activation), 1e-5
    parameters = list(model.parameters())
    found = torch.autograd.grad(VALUES[name](model), parameters, allow_unused=True)
    for p, gradient in zip(parameters, found, strict=True):
        flat = p.detach().view(-1)
        expected = torch.empty_like(flat)
        for k in range(len(flat)):
            ends = []
            for sign in (1, -1):
                flat[k] += sign * step
                ends.append(float(VALUES[name](model).detach()))
                flat[k] -= sign * step
            expected[k] = (ends[0] - ends[1]) / (2 * step)
        got = torch.zeros_like(p) if gradient is None else gradient
        torch.testing.assert_close(got.flatten(), expected, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("softmax", [False, True])
def test_jacobian_frobenius_is_unbiased(softmax):
    model = net(nn.ReLU)
    mean, error = averaged(lambda g: jacobian_frobenius(*evaluated(model), generator=g, softmax=softmax))
    exact = float(jacobians(model, softmax=softmax).square().sum((1, 2)).mean())
    assert abs(mean - exact) < 4 * error < 0.1 * exact


@pytest.mark.parametrize("softmax", [False, True])
def test_jacobian_spectral_converges_to_the_largest_singular_values_from_below(softmax):
    model = net(nn.Tanh)
    exact = float(torch.linalg.matrix_norm(jacobians(model, softmax=softmax), 2).square().mean())
    directions = random_directions(N, C, generator=seeded()).double()
    first, _ = jacobian_spectral(*evaluated(model), directions, steps=1, softmax=softmax)
    for _ in range(60):  # the state goes on from call to call
        value, directions = jacobian_spectral(*evaluated(model), directions, steps=1, softmax=softmax)
    assert float(first.detach()) < exact
    assert float(value) == pytest.approx(exact, rel=1e-10)
    assert not directions.requires_grad


def test_jacobian_spectral_keeps_its_direction_where_the_jacobian_is_zero():
    directions = random_directions(N, C, generator=seeded())
    x = torch.ones(N, D, requires_grad=True)
    value, found = jacobian_spectral(x @ torch.zeros(D, C), x, directions)
    assert float(value) == 0
    torch.testing.assert_close(found, directions)


def test_jacobian_spectral_of_an_orthogonal_map_is_its_scale_from_any_direction():
    q = torch.linalg.qr(torch.randn(D, D, generator=seeded(), dtype=torch.float64)).Q
    x = points().requires_grad_()
    value, _ = jacobian_spectral(x @ (3 * q), x, random_directions(N, D, generator=seeded(4)).double(), steps=0)
    assert float(value) == pytest.approx(9, rel=1e-12)


@pytest.mark.parametrize("softmax", [False, True])
def test_jacobian_entropy_is_that_of_the_singular_values(softmax):
    model = net(nn.Tanh)
    singular = torch.linalg.svdvals(jacobians(model, softmax=softmax)).square()
    exact = sum(map(entropy, singular)) / N
    assert float(jacobian_entropy(*evaluated(model), softmax=softmax)) == pytest.approx(exact, rel=1e-10)


def test_jacobian_entropy_of_known_spectra():
    x = points().requires_grad_()
    even = torch.eye(D, C, dtype=torch.float64)
    assert float(jacobian_entropy(x @ even, x)) == pytest.approx(math.log(C))
    single = torch.zeros(D, C, dtype=torch.float64)
    single[0, 0] = 2.0
    assert float(jacobian_entropy(x @ single, x)) == 0
    assert float(jacobian_entropy(x @ (0 * single), x)) == 0


def test_layer_penalties_equal_their_dense_values():
    model = nn.Sequential(nn.Conv2d(2, 4, 3), nn.Flatten(), nn.Linear(16, 3)).double()
    matrices = [model[0].weight.detach().flatten(1), model[2].weight.detach()]
    value, _ = layer_spectral(model, layer_directions(model, generator=seeded()), steps=400)
    assert float(value) == pytest.approx(sum(float(torch.linalg.matrix_norm(w, 2)) ** 2 for w in matrices), rel=1e-9)
    exact = sum(entropy(torch.linalg.svdvals(w).square()) for w in matrices) / 2
    assert float(layer_entropy(model)) == pytest.approx(exact, rel=1e-10)


def test_spectrally_normalised_layers_have_norm_one_and_the_model_is_left_alone():
    model = net(nn.Tanh).train()
    before = [p.detach().clone() for p in model.parameters()]
    constrained = spectrally_normalised(model)
    for _ in range(200):  # torch takes one power step per call in train mode
        constrained(points())
    norms = [float(torch.linalg.matrix_norm(m.weight.detach(), 2)) for m in constrained if isinstance(m, nn.Linear)]
    assert norms == pytest.approx([1.0] * 3, rel=1e-6)
    assert all(torch.equal(p, old) for p, old in zip(model.parameters(), before, strict=True))


def test_gradient_norm_is_that_of_the_loss():
    model = net(nn.Tanh)
    gradients = torch.autograd.grad(cross_entropy(model), list(model.parameters()))
    exact = float(sum(g.square().sum() for g in gradients))
    assert float(gradient_norm(cross_entropy(model), model.parameters())) == pytest.approx(exact, rel=1e-12)


@pytest.mark.parametrize("relative", [False, True])
@pytest.mark.parametrize("softmax", [False, True])
def test_ntk_trace_is_unbiased(relative, softmax):
    model = net(nn.ReLU)
    scales = [float(p.norm()) / math.sqrt(p.numel()) * (p.ndim >= 2) for p in model.parameters()]
    g_i = parameter_jacobians(model, scales if relative else None)
    g_i = g_i - g_i.mean(1, keepdim=True) if softmax else g_i
    exact = float(g_i.square().sum((1, 2)).mean())
    outputs, parameters = model(points()), list(model.parameters())
    mean, error = averaged(lambda g: ntk_trace(outputs, parameters, generator=g, relative=relative, softmax=softmax))
    assert abs(mean - exact) < 4 * error < 0.1 * exact


def test_gauss_newton_trace_is_unbiased_and_the_trace_of_a_relu_nets_hessian():
    model = net(nn.ReLU)
    outputs, parameters = model(points()), list(model.parameters())
    mean, error = averaged(lambda g: gauss_newton_trace(outputs, parameters, generator=g))
    gradients = torch.autograd.grad(cross_entropy(model), parameters, create_graph=True)
    trace = 0.0
    for p, gradient in zip(parameters, gradients, strict=True):
        for k, entry in enumerate(gradient.flatten()):
            second = torch.autograd.grad(entry, p, retain_graph=True, allow_unused=True)[0]
            trace += float(second.flatten()[k]) if second is not None else 0.0
    assert abs(mean - trace) < 4 * error < 0.1 * trace


def test_gauss_newton_trace_of_a_saturated_softmax_has_a_finite_gradient():
    w = torch.eye(C, requires_grad=True)
    outputs = 200 * torch.eye(C) @ w
    (gradient,) = torch.autograd.grad(gauss_newton_trace(outputs, [w], generator=seeded()), w)
    assert gradient.isfinite().all()


def test_attribution_curvature_is_unbiased_for_a_quadratic_form():
    """f = xᵀBx: A = B + Bᵀ everywhere."""
    b = torch.randn(D, D, generator=seeded(), dtype=torch.float64)
    b.requires_grad_()
    x = points().requires_grad_()
    outputs = ((x @ b) * x).sum(1, keepdim=True)
    mean, error = averaged(lambda g: attribution_curvature(outputs, x, generator=g))
    exact = float((b + b.T).square().sum())
    assert abs(mean - exact) < 4 * error < 0.1 * exact


def test_attribution_drift_of_a_quadratic_form_is_that_of_its_input_hessian():
    """a(x) = (B + Bᵀ)x, so a(x + δ) − a(x) = (B + Bᵀ)δ: on average ‖A‖_F²r²/(d‖a‖²)."""
    b = torch.randn(D, D, generator=seeded(), dtype=torch.float64)
    b.requires_grad_()
    x, radius = points().requires_grad_(), 0.7

    def form(z: Tensor) -> Tensor:
        return ((z @ b) * z).sum(1, keepdim=True)

    outputs = form(x)
    mean, error = averaged(lambda g: attribution_drift(form, outputs, x, radius=radius, generator=g))
    a = b + b.T
    exact = float((a.square().sum() * radius**2 / D / (x @ a).square().sum(1)).mean())
    assert abs(mean - exact) < 4 * error < 0.1 * exact


def test_attribution_penalties_take_the_predicted_class_unless_told():
    model = net(nn.Tanh)
    predicted = model(points()).argmax(1)
    value = attribution_curvature(*evaluated(model), generator=seeded())
    assert float(value) == float(attribution_curvature(*evaluated(model), generator=seeded(), target=predicted))
    other = attribution_curvature(*evaluated(model), generator=seeded(), target=(predicted + 1) % C)
    assert float(other) != float(value)


def test_piecewise_linear_models_are_sent_to_the_drift():
    with pytest.raises(UsageError) as raised:
        attribution_curvature(*evaluated(net(nn.ReLU)))
    assert "attribution_drift" in raised.value.remedy


@pytest.mark.parametrize("penalty", [jacobian_frobenius, jacobian_entropy, attribution_curvature])
def test_inputs_without_a_graph_are_refused(penalty):
    x = points()
    with pytest.raises(UsageError, match="cannot be differentiated") as raised:
        penalty(net(nn.Tanh)(x), x)
    assert raised.value.remedy == "call x.requires_grad_() before the forward pass"


def test_a_seed_fixes_every_draw():
    model = net(nn.Tanh)
    for name, value in VALUES.items():
        assert float(value(model).detach()) == float(value(model).detach()), name
