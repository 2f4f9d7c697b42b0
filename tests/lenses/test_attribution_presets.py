"""Presets: the figures of the libraries they are named after."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from captum.attr import Saliency
from captum.metrics import sensitivity_max

from spectral_audit.admission import make_subject
from spectral_audit.lenses.attribution import max_sensitivity
from spectral_audit.subject import Subject
from tests.lenses.explained import explain, photographs, trained


@pytest.fixture(scope="module")
def subject() -> Subject:
    x, y = photographs()
    return make_subject(trained("relu"), x[:20], y[:20], loss="cross_entropy", chunk=7)


def test_captums_sensitivity_draw_by_draw(subject: Subject) -> None:
    ours = max_sensitivity(subject, "captum", seed=5)
    model, target = subject.model, subject.forward(subject.x).argmax(1)
    before = torch.get_rng_state()
    torch.manual_seed(5)
    theirs = sensitivity_max(Saliency(model).attribute, subject.x.clone(), target=target)
    torch.set_rng_state(before)
    assert torch.allclose(ours, theirs.detach(), rtol=1e-5, atol=1e-5)


def test_captum_divides_zero_attributions_by_one(subject: Subject) -> None:
    class Dead(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.w = torch.nn.Parameter(torch.ones(2, 1))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.relu(x.flatten(1).sum(1, keepdim=True) - 1e6) @ self.w.T

    dead = make_subject(Dead(), subject.x, subject.y % 2, loss="cross_entropy")
    assert max_sensitivity(dead, "captum").tolist() == [0.0] * subject.n
    assert max_sensitivity(dead, "quantus", draws=2).isnan().all()


def test_quantus_definition_from_its_own_random_numbers(subject: Subject) -> None:
    """Written out with NumPy's legacy generator: gradients summed over channels, uniform in the cube of radius 0.2."""
    ours = max_sensitivity(subject, "quantus", seed=3, draws=6)
    random = np.random.RandomState(3)
    target = subject.forward(subject.x).argmax(1)

    def explained(x: torch.Tensor) -> torch.Tensor:
        x = x.clone().requires_grad_(True)
        (g,) = torch.autograd.grad(subject.forward(x).gather(1, target[:, None]).sum(), x)
        return g.sum(1).flatten(1)

    base = explained(subject.x)
    drifts = []
    for _ in range(6):
        noise = torch.from_numpy(random.uniform(-0.2, 0.2, (20, 3072))).float().view_as(subject.x)
        drifts.append((explained(subject.x + noise) - base).norm(dim=1) / base.norm(dim=1))
    assert torch.allclose(ours, torch.stack(drifts).amax(0), rtol=1e-4)


def test_a_preset_stands_beside_our_own_figures(subject: Subject) -> None:
    found = explain(subject, scale=55.0, flat=True, preset="captum", draws=2, search_steps=1)
    assert found.preset is not None
    assert (found.preset.name, found.preset.radius, found.preset.draws) == ("captum", 0.02, 10)
    assert found.preset.max_sensitivity.value == pytest.approx(float(max_sensitivity(subject, "captum").mean()), rel=1)
    assert found.draws == 2
