"""Figures that would be wrong without a word are refused, or have no value."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from spectral_audit.errors import InconclusiveError, RefusedError
from spectral_audit.measure import Settings, measure
from spectral_audit.results import Measurement
from tests.reference import reference


def audit(model: nn.Module, x: Tensor, **settings: object) -> Measurement:
    y = torch.arange(len(x)) % 3
    return measure(model, x, y, settings=Settings(attribution=None, **settings))  # type: ignore[arg-type]  # keywords of the caller


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


def test_a_unit_with_enormous_weights_is_inconclusive() -> None:
    """It is saturated, and the others have gradients; but the norm of the whole tensor is 1e20."""
    net = Through(torch.tanh)
    with torch.no_grad():
        net.first.weight[0] = 1e20
    with pytest.raises(InconclusiveError, match="overflow in float32"):
        audit(net, draw())
    assert audit(net, draw(), dtype="float64").gmsi.worst.status == "ok"


def test_random_outputs_are_told_from_mixed_batches() -> None:
    with pytest.raises(RefusedError, match="outputs are random"):
        audit(Through(lambda h: nn.functional.dropout(h, 0.5, training=True)), draw())


class Recurrent(nn.Module):
    """Takes the batch axis for time, as nn.RNN does without batch_first."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.cell, self.head = nn.RNN(4, 5), nn.Linear(5, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.cell(x[:, None])[0][:, 0])


class Largest(nn.Module):
    """Divides the batch by its largest entry."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.head = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(x / x.abs().max())


@pytest.mark.parametrize("model", [Recurrent, Largest])
def test_mixing_along_the_batch_is_seen_wherever_the_first_sample_stands(model: type[nn.Module]) -> None:
    x = draw()
    x[0] *= 10
    with pytest.raises(RefusedError, match="mixes the samples"):
        audit(model(), x)


def test_layers_that_only_later_samples_reach_are_audited() -> None:
    class Routed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            torch.manual_seed(0)
            self.experts = nn.ModuleList([nn.Linear(4, 3), nn.Sequential(nn.Linear(4, 3), nn.Tanh())])

        def forward(self, x: Tensor) -> Tensor:
            return torch.stack([self.experts[int(row[0] > 0)](row) for row in x])

    x = draw()
    x[:, 0] = x[:, 0].abs()
    x[:6, 0] *= -1
    net, y = Routed(), torch.arange(12) % 3
    truth = reference(net, x, y, "cross_entropy")
    found = measure(net, x, y, settings=Settings(dtype="float64", attribution=None))
    assert found.axes.weights.typical.value == pytest.approx(truth.weights[1], rel=1e-8)
    assert found.axes.curvature.worst.value == pytest.approx(truth.curvature[0], rel=1e-3)
    assert "parameters.unused" not in [f.code for f in found.findings]
    assert found.spectra.hessian.trace_stderr > 0 or found.spectra.hessian.trace == pytest.approx(
        float(truth.hessian.sum()), rel=1e-8
    )


def test_curvature_survives_a_softmax_that_is_saturated_to_the_last_digit() -> None:
    """Wrong labels and logits of 1e6: the Gauss–Newton part is exactly zero, the rest of the Hessian is not."""
    net = Through(torch.tanh)
    with torch.no_grad():
        net.second.weight.mul_(1e6)
    x = draw()
    with torch.no_grad():
        y = (net(x).argmax(1) + 1) % 3
    truth = reference(net, x, y, "cross_entropy")
    found = measure(net, x, y, settings=Settings(dtype="float64", attribution=None))
    assert found.axes.curvature.worst.value == pytest.approx(truth.curvature[0], rel=1e-3)


def test_few_parameters_have_an_exact_trace() -> None:
    """Four sign patterns are all there are for two parameters: probing them at random proves nothing."""

    class Product(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.u, self.v = nn.Parameter(torch.tensor([[1.2]])), nn.Parameter(torch.tensor([[-0.7]]))

        def forward(self, x: Tensor) -> Tensor:
            return torch.tanh(x @ self.u) @ self.v

    x = draw(12, 1)
    net, y = Product(), draw(12, 1)
    truth = reference(net, x, y, "mse")
    found = measure(net, x, y, loss="mse", settings=Settings(dtype="float64", attribution=None))
    assert found.spectra.hessian.trace == pytest.approx(float(truth.hessian.sum()), rel=1e-8)
    assert found.spectra.hessian.trace_stderr == 0


def test_a_condition_number_does_not_read_rounding() -> None:
    """A linear map to three outputs: the kernel's nonzero eigenvalues span a factor of a few, the rest is rounding."""
    torch.manual_seed(0)
    net, x, y = nn.Linear(6, 3), draw(40, 6), torch.arange(40) % 3
    single, double = (
        measure(net, x, y, settings=Settings(dtype=dtype, attribution=None)).spectra.ntk.condition
        for dtype in ("float32", "float64")
    )
    assert single == pytest.approx(double, rel=1e-3)


def test_half_precision_inside_a_float64_run_is_not_taken_for_wrong_derivatives() -> None:
    """An RMS norm in float32, as many language models have it."""

    def rms(h: Tensor) -> Tensor:
        wide = h.float()
        return (wide * torch.rsqrt(wide.square().mean(-1, keepdim=True) + 1e-6)).to(h.dtype)

    assert audit(Through(rms), draw()).gmsi.worst.status == "ok"


def test_complex_weights_are_refused() -> None:
    net = Through(torch.tanh)
    net.register_buffer("phase", torch.ones(2, dtype=torch.complex64))
    with pytest.raises(RefusedError, match="complex"):
        audit(net, draw())


def test_a_model_that_cannot_be_differentiated_twice_is_refused() -> None:
    class Sparse(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.table, self.head = nn.Embedding(5, 4, sparse=True), nn.Linear(4, 3)

        def forward(self, x: Tensor) -> Tensor:
            return self.head(self.table(x[:, 0].abs().long().clamp(max=4)))

    with pytest.raises(RefusedError, match="cannot be differentiated"):
        audit(Sparse(), draw())
