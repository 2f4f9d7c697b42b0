"""Every kind of layer and every way to reach a parameter is measured by rule, and its rows are autograd's."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.rnn import pack_padded_sequence

from spectral_audit.admission import make_subject
from spectral_audit.subject import Subject, exact_arithmetic
from spectral_audit.sweep import Study, study
from spectral_audit.sweep.capture import Capture, contributions
from spectral_audit.sweep.pairs import Pair
from tests.cases import CASES
from tests.networks import Forward
from tests.sweep.nets import NETS, C, raw

# Three samples at a time: an uneven last chunk, of one.
n, CHUNK = 7, 3


def subject_of(model: nn.Module, shape: tuple[int, ...]) -> Subject:
    """The model in float64 away from its initial zeros and ones, on inputs that can also be read as word indices."""
    x = torch.randint(0, 5, (n, *shape)) + 0.5 * torch.rand(n, *shape)
    model(x[:2])  # makes lazy layers
    with torch.no_grad():
        for p in model.parameters():
            p.add_(0.2 * torch.randn_like(p))
    return make_subject(model, 0.3 * x if x.ndim > 2 else x, None, loss="cross_entropy", dtype="float64", chunk=CHUNK)


def built(name: str) -> Subject:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return subject_of(*NETS[name]())


def plan_of(subject: Subject) -> Study:
    return study(subject, torch.Generator().manual_seed(0))


def by_rule(subject: Subject, names: tuple[str, ...]) -> dict[str, Tensor]:
    """∂f/∂θ_t (n, C, p_t) by the rules."""
    found: dict[str, list[Tensor]] = {name: [] for name in names}
    with exact_arithmetic():
        for where in subject.chunks():
            x = subject.x[where].clone().requires_grad_(True)
            capture = Capture(subject.parameters(), names)
            with capture:
                out = subject.forward(x)
            torch.testing.assert_close(out.detach(), subject.forward(subject.x[where]), rtol=1e-12, atol=1e-12)
            edges = [call.edge for call in capture.calls]
            passes = [torch.autograd.grad(f, edges, retain_graph=True, allow_unused=True) for f in out.sum(0)]
            cotangents = [
                torch.stack([x.new_zeros(call.shape) if one is None else one for one in g], 1)
                for call, g in zip(capture.calls, zip(*passes, strict=True), strict=True)
            ]
            for name, rows in contributions(capture.calls, cotangents).items():
                found[name].append(rows.rows() if isinstance(rows, Pair) else rows.flatten(2))
    return {name: torch.cat(parts) for name, parts in found.items()}


def by_autograd(subject: Subject) -> dict[str, Tensor]:
    """The same by one backward pass for every sample and output."""
    with exact_arithmetic(), subject.trainable() as parameters:
        rows = []
        for x in subject.x.split(1):
            for f in subject.forward(x)[0]:
                rows.append(
                    torch.autograd.grad(f, list(parameters.values()), retain_graph=True, materialize_grads=True)
                )
    stacked = (torch.stack([g.flatten() for g in column]) for column in zip(*rows, strict=True))
    return {name: t.view(n, -1, t.shape[1]) for name, t in zip(parameters, stacked, strict=True)}


@pytest.mark.parametrize("name", NETS)
def test_every_parameter_has_a_rule_and_the_rule_is_right(name: str) -> None:
    subject = built(name)
    plan = plan_of(subject)
    assert plan.generic == ()
    truth = by_autograd(subject)
    found = by_rule(subject, plan.structured)
    assert {key for key, rows in truth.items() if rows.any()} == found.keys()
    for key, rows in found.items():
        assert (rows - truth[key]).norm() <= 1e-9 * truth[key].norm(), key


# ---- what has no rule -----------------------------------------------------------------------------------------------


def packed(m: Forward, x: Tensor) -> Tensor:
    lengths = torch.full((len(x),), x.shape[1])
    return m.head(m.cell(pack_padded_sequence(x, lengths, batch_first=True))[1][-1])


def twice_the_weight(m: Forward, x: Tensor) -> Tensor:
    return m.head(F.linear(x, 2 * m.W))


def overwritten_copy(m: Forward, x: Tensor) -> Tensor:
    w = m.W.clone()
    w.mul_(m.W)
    return m.head(F.linear(x, w))


def weight_as_data(m: Forward, x: Tensor) -> Tensor:
    return m.head(F.linear(x, m.W @ m.W))


@pytest.mark.parametrize(
    ("model", "shape", "generic"),
    [
        (raw(packed, cell=nn.GRU(4, 5), head=nn.Linear(5, C))[0], (5, 4), 4),
        (raw(twice_the_weight, W=(4, 4), head=nn.Linear(4, C))[0], (4,), 1),
        (raw(overwritten_copy, W=(4, 4), head=nn.Linear(4, C))[0], (4,), 1),
        (raw(weight_as_data, W=(4, 4), head=nn.Linear(4, C))[0], (4,), 1),
    ],
    ids=["packed", "twice_the_weight", "overwritten_copy", "weight_as_data"],
)
def test_what_no_rule_covers_falls_back(model: nn.Module, shape: tuple[int, ...], generic: int) -> None:
    plan = plan_of(subject_of(model, shape))
    assert len(plan.generic) == generic
    assert set(plan.structured) == {"head.weight", "head.bias"}


@pytest.mark.parametrize(
    ("name", "piecewise_linear", "multilinear"),
    [
        ("rnn", False, False), ("rnn_relu", True, False), ("lstm", False, False), ("gru", False, False),
        ("attention_self", False, False), ("views", False, False), ("gains_in_place", True, False),
        ("kernel_from_a_matrix", True, True), ("bilinear", False, False),
    ],
)  # fmt: skip
def test_explicit_forms_keep_the_facts_right(name: str, piecewise_linear: bool, multilinear: bool) -> None:
    plan = plan_of(built(name))
    assert (plan.piecewise_linear, plan.multilinear) == (piecewise_linear, multilinear)


@pytest.mark.parametrize(
    "activation", [nn.PReLU(), nn.PReLU(4), nn.InstanceNorm1d(4, affine=True, track_running_stats=True)]
)
def test_what_is_piecewise_linear_stays_so(activation: nn.Module) -> None:
    model = nn.Sequential(nn.Conv1d(2, 4, 2), activation, nn.Flatten(), nn.Linear(16, C))
    plan = plan_of(subject_of(model, (2, 5)))
    assert plan.piecewise_linear
    assert plan.multilinear


# What is computed from a parameter before it meets the data, a layer on a table without samples, and one whose samples
# could stand on two axes.
GENERIC = {
    "sequence_first_as_long_as_the_batch": {"inner.weight", "inner.bias", "second.weight", "second.bias"},
    "scale_invariant_weights": {"0.parametrizations.weight.original"},
    "linear_by_inheritance_only": {"0.weight"},
    "positions": {"table", "project.weight", "project.bias"},
    "as_many_positions_as_samples": {"table", "project.weight", "project.bias"},
}


@pytest.mark.parametrize("name", CASES)
def test_few_parameters_of_the_cases_lack_a_rule(name: str) -> None:
    model, x, y, loss = CASES[name]()
    plan = plan_of(make_subject(model, x, y, loss=loss, dtype="float64"))  # type: ignore[arg-type]  # a name from the case registry
    assert set(plan.generic) == GENERIC.get(name, set())


def turned(m: Forward, x: Tensor) -> Tensor:
    h = x.transpose(0, 1) if m.table is None else m.table(x.long()).transpose(0, 1)
    return m.head(torch.tanh(m.inner(h)).mean(0))


def straight(m: Forward, x: Tensor) -> Tensor:
    h = x if m.table is None else m.table(x.long())
    return m.head(torch.tanh(m.inner(h)).mean(1))


@pytest.mark.parametrize("table", [None, nn.Embedding(6, 4)])
def test_sequences_as_long_as_the_batch_are_read_along_the_right_axis_or_not_at_all(table: nn.Module | None) -> None:
    """The layer sees (n, n, F) either way; two samples alone do not show it."""
    for forward, generic in ((straight, ()), (turned, ("inner.weight", "inner.bias"))):
        model = Forward(forward, table=table, inner=nn.Linear(4, 4), head=nn.Linear(4, C))
        subject = subject_of(model, (CHUNK, 4) if table is None else (CHUNK,))
        plan = plan_of(subject)
        assert plan.generic == generic
        truth = by_autograd(subject)
        for key, rows in by_rule(subject, plan.structured).items():
            assert (rows - truth[key]).norm() <= 1e-9 * truth[key].norm(), key
