"""Models whose attributions are known, and small trained ones: what the attribution tests measure."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from spectral_audit.admission import make_subject
from spectral_audit.inputs.architectures.families import FAMILIES
from spectral_audit.lenses.attribution import AttributionSettings, read_attribution
from spectral_audit.results import Attribution
from spectral_audit.subject import Subject

SAMPLES = Path(__file__).parents[2] / "sample_models"


def explain(subject: Subject, *, scale: float = 1.0, flat: bool = False, **settings: object) -> Attribution:
    """The attribution part of a report, for input scale X = `scale`."""
    chosen = AttributionSettings(**settings)  # type: ignore[arg-type]  # keywords of the caller
    return read_attribution(subject, chosen, scale, torch.Generator().manual_seed(0), flat=flat)


def absolute_value(w: Tensor) -> nn.Module:
    """|wᵀx| as two ReLUs."""
    net = nn.Sequential(nn.Linear(len(w), 2, bias=False), nn.ReLU(), nn.Linear(2, 1, bias=False)).double()
    with torch.no_grad():
        net[0].weight.copy_(torch.stack([w, -w]))
        net[2].weight.fill_(1.0)
    return net


def regression(model: nn.Module, x: Tensor) -> Subject:
    return make_subject(model, x, torch.zeros(len(x), 1), loss="mse", dtype="float64")


def points(n: int, d: int) -> Tensor:
    return torch.randn(n, d, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def photographs() -> tuple[Tensor, Tensor]:
    """260 CIFAR-10 images (n, 3, 32, 32), standardised, with their labels."""
    with np.load(SAMPLES / "cifar10_resnet.npz", allow_pickle=False) as arrays:
        x, y = (
            torch.from_numpy(arrays["x"]).float().permute(0, 3, 1, 2).contiguous(),
            torch.from_numpy(arrays["y"]).long(),
        )
    return (x - x.mean()) / x.std(), y


def trained(activation: str, epochs: int = 10) -> nn.Module:
    """A small CNN fitted to the photographs, in about a second."""
    x, y = photographs()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = FAMILIES["cnn"](channels=3, outputs=10, width=8, hidden=32, size=32, activation=activation)
        optimiser = torch.optim.Adam(model.parameters(), lr=3e-3)
        for _ in range(epochs):
            for rows in torch.randperm(len(x)).split(52):
                optimiser.zero_grad()
                nn.functional.cross_entropy(model(x[rows]), y[rows]).backward()
                optimiser.step()
    return model.eval()
