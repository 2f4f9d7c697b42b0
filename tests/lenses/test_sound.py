"""Figures that would be wrong without a word are refused, or have no value."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from spectral_audit.errors import InconclusiveError, RefusedError
from spectral_audit.measure import Settings, measure
from spectral_audit.results import Measurement


def audit(model: nn.Module, x: Tensor, **settings: object) -> Measurement:
    y = torch.arange(len(x)) % 3
    return measure(model, x, y, settings=Settings(attribution=None, **settings))  # type: ignore[arg-type]


def draw(n: int = 12, d: int = 4) -> Tensor:
    return torch.randn(n, d, generator=torch.Generator().manual_seed(0))


class Square(torch.autograd.Function):
    """x² whose gradient says that it cannot be differentiated again."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x * x

    @staticmethod
    @once_differentiable
    def backward(ctx, g):
        (x,) = ctx.saved_tensors
        return 2 * x * g


class Through(nn.Module):
    """A linear layer, a function, a linear layer."""

    def __init__(self, function) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.second, self.function = nn.Linear(4, 5), nn.Linear(5, 3), function

    def forward(self, x: Tensor) -> Tensor:
        return self.second(self.function(self.first(x)))


def test_a_gradient_cut_from_its_graph_is_refused() -> None:
    with pytest.raises(RefusedError, match="second derivatives of this model are wrong"):
        audit(Through(Square.apply), draw())


def test_weight_norm_is_refused_where_its_double_backward_is_wrong() -> None:
    net = Through(torch.tanh)
    torch.nn.utils.parametrizations.weight_norm(net.first)
    with pytest.raises(RefusedError, match="second derivatives of this model are wrong"):
        audit(net, draw())


def test_an_asymmetric_hessian_is_refused_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    """The second line of defence, for models that do not run in float64."""
    monkeypatch.setattr("spectral_audit.measure.require_second_derivatives", lambda *_: None)
    net = Through(torch.tanh)
    torch.nn.utils.parametrizations.weight_norm(net.first)
    with pytest.raises(RefusedError, match="not symmetric"):
        audit(net, draw())


@pytest.mark.parametrize("function", [torch.tanh, torch.relu, lambda h: nn.functional.layer_norm(h, (5,))])
def test_sound_functions_pass(function) -> None:
    assert audit(Through(function), draw()).gmsi.worst.status == "ok"


@pytest.mark.parametrize("cut", [torch.detach, lambda h: h.data, lambda h: torch.from_numpy(h.detach().numpy())])
def test_outputs_without_a_gradient_are_refused(cut) -> None:
    class Cut(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(4, 3)

        def forward(self, x: Tensor) -> Tensor:
            return cut(self.layer(x))

    with pytest.raises(RefusedError, match="carry no gradient"):
        audit(Cut(), draw())


def test_a_gradient_that_is_zero_everywhere_is_not_stability() -> None:
    class Rounded(Through):
        def forward(self, x: Tensor) -> Tensor:
            return torch.round(10 * super().forward(x))

    found = audit(Rounded(torch.tanh), draw())
    assert found.gmsi.worst.value is None
    assert found.axes.weights.worst.status == "undefined"
    assert [f.code for f in found.findings if f.severity == "error"] == ["index.undefined"]


def test_equal_inputs_leave_the_input_axis_undefined() -> None:
    found = audit(Through(torch.tanh), torch.ones(12, 4))
    assert found.axes.input.worst.value is None
    assert found.axes.weights.worst.value is not None
    assert found.gmsi.worst.value is None
    without = audit(
        Through(torch.tanh), torch.ones(12, 4), weights={"input": 0.0, "weights": 1, "kernel": 1, "curvature": 1}
    )
    assert without.gmsi.worst.value is not None


def test_overflow_is_inconclusive() -> None:
    """Outputs of order one, but gradients of 1e20 whose squares float32 cannot hold."""
    net = Through(torch.relu)
    with torch.no_grad():
        net.first.weight.mul_(1e-20)
    with pytest.raises(InconclusiveError, match="overflow in float32"):
        audit(net, 1e20 * draw())
    assert audit(net, 1e20 * draw(), dtype="float64").gmsi.worst.status == "ok"


def test_random_outputs_are_told_from_mixed_batches() -> None:
    with pytest.raises(RefusedError, match="outputs are random"):
        audit(Through(lambda h: nn.functional.dropout(h, 0.5, training=True)), draw())
