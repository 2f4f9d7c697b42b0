"""Distances between attributions against SciPy-free definitions, the score, and what is counted apart."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from spectral_audit.admission import make_subject
from spectral_audit.lenses.attribution import measures
from spectral_audit.lenses.attribution.maps import Moved
from spectral_audit.lenses.attribution.score import condition, score
from spectral_audit.lenses.attribution.study import summary
from tests.lenses.explained import explain, points, regression


def test_ranks_share_the_mean_of_equal_entries() -> None:
    assert measures.ranks(torch.tensor([[3.0, 1.0, 1.0, 7.0, 1.0]])).tolist() == [[3.0, 1.0, 1.0, 4.0, 1.0]]
    assert measures.ranks(torch.tensor([[5.0], [2.0]])).tolist() == [[0.0], [0.0]]


def test_spearman_is_pearson_of_ranks() -> None:
    a, b = points(7, 40), points(7, 40).flip(1).round()
    found = measures.spearman(measures.ranks(a), measures.ranks(b))
    for i in range(7):
        rows = []
        for t in (a[i], b[i]):
            rows.append(torch.stack([((t < v).sum() + (t <= v).sum() - 1) / 2 for v in t]).double())
        assert float(found[i]) == pytest.approx(float(torch.corrcoef(torch.stack(rows))[0, 1]), rel=1e-6)
    assert measures.spearman(measures.ranks(a), measures.ranks(a.exp()))[0] == pytest.approx(1.0)
    assert math.isnan(measures.spearman(measures.ranks(a), measures.ranks(torch.ones_like(a)))[0])


def test_relative_changes_leave_zero_entries_out() -> None:
    old, new = torch.tensor([[2.0, 0.0, -1.0]]), torch.tensor([[3.0, 5.0, -1.0]])
    assert float(measures.relative_change(new, old)) == pytest.approx(0.5)
    found = measures.relative_stability(new, old, torch.tensor([0.05]))
    assert float(found) == pytest.approx(1.0)


def test_overlap_cosine_and_lipschitz() -> None:
    base, a = torch.tensor([[4.0, -3.0, 1.0, 0.0]]), torch.tensor([[4.0, 0.0, 2.0, 0.0]])
    assert float(measures.top_k_overlap(measures.top_set(a, 2), measures.top_set(base, 2))) == 0.5
    assert float(measures.cosine(a, base)) == pytest.approx(18 / math.sqrt(20 * 26))
    assert float(measures.lipschitz(a, base, torch.tensor([[0.5, 0.0]]))) == pytest.approx(2 * math.sqrt(10))
    assert float(measures.relative_drift(a, base)) == pytest.approx(math.sqrt(10 / 26))


def test_the_score_is_the_worst_mean_over_radii() -> None:
    """κ = 1 for all at one radius, and 0 or 3 in equal parts at another: means 1/2 and 5/8."""
    one, other = torch.ones(100), torch.tensor([0.0, 3.0]).repeat(50)
    found, radius = score({0.1: other, 0.01: one}, torch.Generator().manual_seed(0))
    assert (found.value, radius) == (pytest.approx(0.5), 0.01)
    alone, _ = score({0.1: other}, torch.Generator().manual_seed(0))
    assert alone.value == pytest.approx(0.625)
    half = 1.96 * 0.375 / 10
    assert alone.low == pytest.approx(0.625 - half, abs=0.02)
    assert alone.high == pytest.approx(0.625 + half, abs=0.02)
    assert score({0.1: other[:0]}, torch.Generator())[0].status == "undefined"


def test_condition_is_relative_to_the_length_of_the_perturbation() -> None:
    delta = torch.tensor([[3.0, 4.0], [0.3, 0.4]])
    assert condition(torch.tensor([0.5, 0.5]), delta, 10.0).tolist() == pytest.approx([1.0, 10.0])


class Shifted(nn.Module):
    """Two logits ±(x₀ + 0.05 tanh x₁): the prediction turns where they change sign."""

    def __init__(self) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.tensor(1.0))

    def forward(self, x: Tensor) -> Tensor:
        f = self.gain * (x[:, :1] + 0.05 * torch.tanh(x[:, 1:]))
        return torch.cat([f, -f], dim=1)


def test_prediction_flips_are_counted_and_set_apart() -> None:
    """The attribution of the class predicted first barely moves where the prediction flips: flips are not drift."""
    x = torch.stack([torch.linspace(-0.5, 0.5, 40), torch.zeros(40)], dim=1).double()
    subject = make_subject(Shifted(), x, torch.zeros(40).long(), loss="cross_entropy", dtype="float64")
    found = explain(subject, radius=0.4, relative=False, draws=20)
    assert 0.1 < found.random.flips < 0.5
    assert found.random.maximum is not None
    assert found.random.maximum < 0.1
    assert found.random.same_class is not None
    assert found.sensitivity.relative_output_stability is not None


def test_the_drift_where_the_prediction_held_is_the_mean_over_the_others() -> None:
    drift, flipped = torch.tensor([1.0, 2.0, 3.0, 4.0]), torch.tensor([False, True, False, True])
    alive = torch.tensor([True, True, True, False])
    moved = Moved(drift, drift, drift, drift, flipped, drift, drift, drift)
    found = summary([moved], alive, classes=True)
    assert (found.mean.value, found.maximum, found.same_class) == (2.0, 3.0, 2.0)
    assert found.flips == pytest.approx(1 / 3)
    assert summary([moved, moved], alive, classes=False).flips == 0.0
    assert summary([moved], ~alive, classes=True).same_class is None


def test_sensitivities_are_the_means_of_sampled_maxima_and_means() -> None:
    """A = c·(a reflection): every draw of length r changes the gradient by cr, whatever its direction."""

    class Bowl(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.c = nn.Parameter(torch.tensor(3.0))

        def forward(self, x: Tensor) -> Tensor:
            return 0.5 * self.c * (x * x * torch.tensor([1.0, -1.0, 1.0], dtype=x.dtype)).sum(1, keepdim=True)

    x = points(15, 3)
    found = explain(regression(Bowl(), x), radius=0.2, relative=False)
    drift = (0.2 / x.norm(dim=1)).mean()
    assert found.sensitivity.max_sensitivity.value == pytest.approx(float(drift), rel=1e-9)
    assert found.sensitivity.avg_sensitivity.value == pytest.approx(float(drift), rel=1e-9)
    assert found.sensitivity.lipschitz.value == pytest.approx(3.0, rel=1e-9)
    assert [p.radius_absolute for p in found.curve] == pytest.approx([0.002, 0.02, 0.2])
    for point in found.curve:
        assert point.random == pytest.approx(point.random_predicted, rel=1e-6)
        assert point.worst == pytest.approx(point.worst_predicted, rel=1e-6)
    assert found.parts_at is None
    # κ = X/‖x‖ at every radius and in the limit, for X = 1.
    assert found.score.value == pytest.approx(float((1 / (1 + 1 / x.norm(dim=1))).mean()), rel=1e-6)
    assert found.score_worst.value == pytest.approx(found.score.value, rel=1e-6)
