"""Which parameters get a contraction rule, and what the dataflow says about a model."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from spectral_audit.admission import make_subject
from spectral_audit.errors import RefusedError
from spectral_audit.measure import Settings, measure
from spectral_audit.sweep import Study, study
from tests.reference import reference


class Net(nn.Module):
    """A module whose forward is a function of itself and x."""

    def __init__(self, forward: Callable[..., Tensor], **modules: nn.Module | nn.Parameter) -> None:
        super().__init__()
        for name, module in modules.items():
            setattr(self, name, module)
        self._forward = forward

    def forward(self, x: Tensor) -> Tensor:
        return self._forward(self, x)


def studied(model: nn.Module, *shape: int) -> Study:
    torch.manual_seed(0)
    x = torch.randn(6, *shape)
    subject = make_subject(model, x, None, loss="cross_entropy", dtype="float64")
    return study(subject, torch.Generator().manual_seed(0))


def sequential(activation: nn.Module) -> nn.Module:
    return nn.Sequential(nn.Linear(5, 4), activation, nn.Linear(4, 3))


@pytest.mark.parametrize(
    "activation",
    [nn.ReLU(), nn.ReLU(inplace=True), nn.LeakyReLU(), nn.Hardtanh(), nn.ReLU6(), nn.PReLU(), nn.Identity()],
)
def test_piecewise_linear_activations_are_recognised(activation: nn.Module) -> None:
    found = studied(sequential(activation), 5)
    assert found.piecewise_linear
    assert found.multilinear


@pytest.mark.parametrize("activation", [nn.GELU(), nn.Tanh(), nn.Softplus(), nn.SiLU(), nn.Softmax(1), nn.LayerNorm(4)])
def test_smooth_activations_are_recognised(activation: nn.Module) -> None:
    found = studied(sequential(activation), 5)
    assert not found.piecewise_linear
    assert not found.multilinear


def test_a_gate_multiplies_two_functions_of_the_input() -> None:
    net = Net(
        lambda self, x: self.head(self.a(x) * self.b(x)), a=nn.Linear(5, 4), b=nn.Linear(5, 4), head=nn.Linear(4, 3)
    )
    found = studied(net, 5)
    assert not found.piecewise_linear
    assert found.multilinear  # each single weight still enters once


def test_a_weight_applied_twice_in_a_row_is_not_multilinear() -> None:
    net = Net(lambda self, x: self.head(self.a(F.relu(self.a(x)))), a=nn.Linear(5, 5), head=nn.Linear(5, 3))
    found = studied(net, 5)
    assert found.piecewise_linear
    assert not found.multilinear


def test_a_weight_applied_in_two_branches_that_are_added_is_multilinear() -> None:
    net = Net(
        lambda self, x: self.head(F.relu(self.a(x)) + F.relu(self.a(-x))), a=nn.Linear(5, 4), head=nn.Linear(4, 3)
    )
    assert studied(net, 5).multilinear


def test_everything_unknown_is_generic_and_not_called_linear() -> None:
    class Cube(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            ctx.save_for_backward(x)
            return x**3

        @staticmethod
        def backward(ctx, g):
            (x,) = ctx.saved_tensors
            return 3 * x**2 * g

    found = studied(Net(lambda self, x: self.head(Cube.apply(self.a(x))), a=nn.Linear(5, 4), head=nn.Linear(4, 3)), 5)
    assert not found.piecewise_linear
    assert not found.multilinear


def test_a_parameter_used_in_two_ways_falls_back() -> None:
    net = Net(
        lambda self, x: self.head(F.relu(self.a(x)) * self.a.weight.sum()), a=nn.Linear(5, 4), head=nn.Linear(4, 3)
    )
    found = studied(net, 5)
    assert found.generic == ("a.weight",)
    assert set(found.structured) == {"a.bias", "head.weight", "head.bias"}


def test_a_layer_whose_first_axis_is_not_the_batch_falls_back() -> None:
    """Two positions and two watched samples: shapes agree, only the numbers tell."""
    net = Net(
        lambda self, x: self.head(F.relu(self.a(x.transpose(0, 1))).sum(0)), a=nn.Linear(5, 4), head=nn.Linear(4, 3)
    )
    found = studied(net, 2, 5)
    assert "a.weight" in found.generic
    assert "head.weight" in found.structured


def test_unused_and_scale_invariant_parameters_are_named() -> None:
    net = Net(
        lambda self, x: self.head(F.layer_norm(self.a(x), (4,), eps=0.0)),
        a=nn.Linear(5, 4, bias=False), head=nn.Linear(4, 3), spare=nn.Linear(2, 2),
    )  # fmt: skip
    found = studied(net, 5)
    assert found.unused == ("spare.weight", "spare.bias")
    assert found.scale_invariant == ("a.weight",)


def test_overwriting_an_input_after_its_use_is_refused() -> None:
    def forward(self: Net, x: Tensor) -> Tensor:
        h = x * 1.0
        out = self.a(h)
        h.zero_()
        return self.head(out)

    # Autograd itself refuses this as soon as the weights need gradients.
    with pytest.raises((RefusedError, RuntimeError)):
        studied(Net(forward, a=nn.Linear(5, 4), head=nn.Linear(4, 3)), 5)


def test_a_model_that_mixes_its_batch_is_refused() -> None:
    net = nn.Sequential(nn.Linear(5, 4), nn.BatchNorm1d(4, track_running_stats=False), nn.Linear(4, 3))
    with pytest.raises(RefusedError, match="mixes the samples"):
        studied(net, 5)


class Experts(nn.Module):
    """Every sample goes to one of two experts by the sign of its first entry, in one batch each."""

    def __init__(self) -> None:
        super().__init__()
        self.experts = nn.ModuleList([nn.Linear(5, 3), nn.Linear(5, 3)])

    def forward(self, x: Tensor) -> Tensor:
        out = x.new_zeros(len(x), 3)
        for expert, mask in zip(self.experts, (x[:, 0] > 0, x[:, 0] <= 0), strict=True):
            out = out.index_put((mask.nonzero()[:, 0],), expert(x[mask]))
        return out


class Sorted(nn.Module):
    """Samples pass the layer in the order of their first entry and come back in their own."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(5, 4), nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        order = x[:, 0].argsort()
        return self.second(torch.tanh(self.first(x[order]))[order.argsort()])


@pytest.mark.parametrize("model", [Experts, Sorted])
def test_samples_that_are_routed_or_sorted_are_still_told_apart(model: type[nn.Module]) -> None:
    """The first two samples keep their order and share an expert: only the others show that rows are not samples."""
    torch.manual_seed(0)
    net = model()
    x = torch.randn(9, 5)
    x[:2, 0] = torch.tensor([0.1, 0.2])
    y = torch.arange(9) % 3
    truth = reference(net, x, y, "cross_entropy")
    found = measure(net, x, y, settings=Settings(dtype="float64", attribution=None))
    torch.testing.assert_close(
        torch.tensor(found.spectra.ntk.values, dtype=torch.float64), truth.ntk, rtol=1e-8, atol=1e-10
    )
    assert found.axes.weights.worst.value == pytest.approx(truth.weights[0], rel=1e-8)


def test_writing_into_a_view_is_seen_in_its_base() -> None:
    def forward(self: Net, x: Tensor) -> Tensor:
        h = torch.zeros(len(x), 4, dtype=x.dtype)
        h[:, :2].add_(self.a(x))
        return self.head(h * h)

    assert not studied(Net(forward, a=nn.Linear(5, 2), head=nn.Linear(4, 3)), 5).piecewise_linear


def test_writing_into_a_base_is_seen_in_its_views() -> None:
    def forward(self: Net, x: Tensor) -> Tensor:
        h = self.a(x).clone()
        view = h[:, :2]
        h.mul_(self.q)
        return self.head(view * self.q[:2])

    net = Net(forward, a=nn.Linear(5, 4), head=nn.Linear(2, 3), q=nn.Parameter(torch.ones(4)))
    assert not studied(net, 5).multilinear
