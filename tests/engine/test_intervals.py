"""The intervals of a whole measurement hold its own mean over probe sets about as often as they say."""

from __future__ import annotations

import statistics

import torch
from torch import nn

from spectral_audit.measure import Settings, measure


def test_intervals_of_repeated_audits_hold_their_mean() -> None:
    """40 probe sets of 40 points; fewer than 85 % would be 2.9 standard errors below 95 %."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 3))
    x = torch.randn(1000, 4)
    y = (x[:, 0] + 0.3 * torch.randn(1000) > 0).long() + (x[:, 1] > 0.5).long()
    optimiser = torch.optim.Adam(net.parameters(), 0.02)
    for _ in range(150):
        optimiser.zero_grad()
        nn.functional.cross_entropy(net(x), y).backward()
        optimiser.step()
    found: dict[str, list[tuple[float, float, float]]] = {}
    for seed in range(40):
        rows = torch.randint(0, 1000, (40,), generator=torch.Generator().manual_seed(seed))
        m = measure(net, x[rows], y[rows], settings=Settings(attribution=None, seed=seed))
        for name, e in {
            "input": m.axes.input.typical,
            "weights": m.axes.weights.typical,
            "kernel": m.axes.kernel.typical,
            "index": m.gmsi.typical,
        }.items():
            assert e.value is not None and e.low is not None and e.high is not None
            found.setdefault(name, []).append((e.low, e.value, e.high))
    for name, estimates in found.items():
        mean = statistics.mean(value for _, value, _ in estimates)
        held = statistics.mean(low <= mean <= high for low, _, high in estimates)
        assert held >= 0.85, name
