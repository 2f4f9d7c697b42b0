"""Second derivatives along a direction: all three ways, on nets that each of them could get wrong."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call

from spectral_audit.admission import make_subject
from spectral_audit.lenses import directional
from spectral_audit.lenses.directional import (
    QuadraticForms,
    first_right,
    one_sample,
    twice_backward,
    twice_forward,
)
from spectral_audit.lenses.space import ParameterSpace, parameter_space
from spectral_audit.sweep import study


class Encoder(nn.Module):
    """One layer of attention with layer norms before and behind it."""

    def __init__(self) -> None:
        super().__init__()
        layer = nn.TransformerEncoderLayer(4, 2, 6, 0.0, "gelu", batch_first=True, norm_first=True)
        self.encoder = nn.TransformerEncoder(layer, 1, nn.LayerNorm(4), enable_nested_tensor=False)
        self.head = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.encoder(x).mean(1))


class Recurrent(nn.Module):
    def __init__(self, cell: type[nn.RNNBase]) -> None:
        super().__init__()
        self.cell, self.head = cell(4, 3, batch_first=True), nn.Linear(3, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.cell(x)[0][:, -1])


class Native(nn.Module):
    """A layer norm that is called by another name, so that nobody writes it out."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(20, 5), nn.Linear(5, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.second(torch.native_layer_norm(self.first(x.flatten(1)), (5,), None, None, 1e-5)[0])


def convolutional(norm: nn.Module) -> nn.Module:
    return nn.Sequential(
        nn.Unflatten(1, (1, 5)), nn.Conv2d(1, 4, 2), norm, nn.Tanh(), nn.Flatten(), nn.Linear(4 * 4 * 3, 3)
    )


NETS = {
    "layer norm": Encoder,
    "group norm": lambda: convolutional(nn.GroupNorm(2, 4)),
    "instance norm": lambda: convolutional(nn.InstanceNorm2d(4, affine=True)),
    "instance norm, no parameters": lambda: convolutional(nn.InstanceNorm2d(4)),
    "batch norm": lambda: convolutional(nn.BatchNorm2d(4)),
    "rms norm": lambda: nn.Sequential(nn.Flatten(), nn.Linear(20, 6), nn.RMSNorm(6), nn.GELU(), nn.Linear(6, 3)),
    "lstm": lambda: Recurrent(nn.LSTM),
    "gru": lambda: Recurrent(nn.GRU),
    "native": Native,
}
N = 5


@pytest.fixture
def space(request) -> ParameterSpace:
    torch.manual_seed(0)
    net = NETS[request.param]()
    for p in net.parameters():  # norms are born with ones and zeros
        nn.init.normal_(p, 0.3, 0.5)
    x, y = torch.randn(N, 5, 4), torch.arange(N) % 3
    subject = make_subject(net, x, y, loss="cross_entropy", device="cpu", dtype="float64", chunk=2, memory=None)
    plan = study(subject, torch.Generator().manual_seed(0))
    with parameter_space(subject, [*plan.structured, *plan.generic]) as made:
        yield made


def direction(space: ParameterSpace) -> Tensor:
    return space.random_signs(torch.Generator().manual_seed(1))


def dense(space: ParameterSpace, v: Tensor) -> tuple[Tensor, Tensor]:
    """vᵀ∇²ℓ_i v (n,) from whole Hessians by double backward, and its Gauss–Newton part from whole Jacobians."""
    subject, names = space.subject, list(space.parameters)
    flat = torch.cat([p.detach().flatten() for p in space.parameters.values()])

    def outputs(theta: Tensor, i: int) -> Tensor:
        return functional_call(
            subject.model, dict(zip(names, space.split(theta), strict=True)), (subject.x[i : i + 1],)
        )

    def loss(theta: Tensor, i: int) -> Tensor:
        return nn.functional.cross_entropy(outputs(theta, i), subject.y[i : i + 1])

    whole, gauss_newton = [], []
    for i in range(subject.n):
        whole.append(v @ torch.autograd.functional.hessian(partial(loss, i=i), flat) @ v)
        move = torch.autograd.functional.jacobian(partial(outputs, i=i), flat)[0] @ v
        p = outputs(flat, i)[0].softmax(0)
        gauss_newton.append((p * move.square()).sum() - (p @ move) ** 2)
    return torch.stack(whole), torch.stack(gauss_newton)


def relative(found: Tensor, expected: Tensor) -> float:
    return float((found - expected).abs().max() / expected.abs().max())


@pytest.mark.parametrize("space", NETS, indirect=True)
def test_forms_are_those_of_the_whole_hessian(space):
    v = direction(space)
    whole, gauss_newton = dense(space, v)
    first, second = QuadraticForms(space, 1)(v)
    assert relative(first, gauss_newton) < 1e-10
    assert relative(first + second, whole) < 1e-10


@pytest.mark.parametrize("way", [twice_forward, twice_backward])
@pytest.mark.parametrize("space", [name for name in NETS if name != "native"], indirect=True)
def test_the_fast_ways_are_right_for_every_norm_and_recurrence(space, way):
    assert first_right(space, space.split(direction(space)), [way]) is way


@pytest.mark.parametrize(("much", "way"), [(0, twice_forward), (10**12, twice_backward)])
@pytest.mark.parametrize("space", ["batch norm"], indirect=True)
def test_forward_mode_is_loaded_for_much_work_only(space, much, way, monkeypatch):
    monkeypatch.setattr(directional, "_MUCH", much)
    forms = QuadraticForms(space, 1)
    forms(direction(space))
    assert forms._way is way


@pytest.mark.parametrize("space", ["native"], indirect=True)
def test_a_way_that_is_silently_wrong_is_not_taken(space):
    pieces = space.split(direction(space))
    for way in (twice_forward, twice_backward):
        found = way(space, slice(0, 1), pieces)[1]
        assert relative(found, one_sample(space, slice(0, 1), pieces)[1]) > 1e-3
    assert first_right(space, pieces, [twice_forward, twice_backward]) is one_sample
