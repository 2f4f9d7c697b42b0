"""Which regime is taken: by counted operations and by memory, and what is said where a wish cannot be met."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from spectral_audit import regimes
from spectral_audit.admission import make_subject
from spectral_audit.errors import UsageError
from spectral_audit.regimes import choose_regime
from spectral_audit.subject import Subject
from spectral_audit.sweep import Study, exact_needs, study

N, D, H, C = 12, 6, 8, 3


def problem(memory: int = 2**30, n: int = N) -> tuple[Subject, Study]:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(D, H), nn.Tanh(), nn.Linear(H, C))
    subject = make_subject(model, torch.randn(n, D), torch.arange(n) % C, loss="cross_entropy", memory=memory)
    return subject, study(subject, torch.Generator().manual_seed(0))


def test_operations_and_memory_are_counted() -> None:
    needs = exact_needs(*problem())
    rows = N * C
    assert needs.forward == N * (D * H + H * C)
    # A layer's kernel is (A Aᵀ) ∘ (G Gᵀ), its bias's G Gᵀ, by half each.
    weights = sum((N**2 * i + rows**2 * (o + 1)) // 2 for i, o in ((D, H), (H, C)))
    biases = sum(rows**2 * o / 2 for o in (H, C))
    assert needs.operations == needs.forward * (C + 1) + weights + biases + 4 / 3 * rows**3
    kept = N * (D + C * H + H + C * C) + rows * (H + C)
    assert needs.memory == 4 * kept + 11 * 8 * rows**2


def test_what_does_not_fit_is_multiplied_with(monkeypatch: pytest.MonkeyPatch) -> None:
    subject, plan = problem(memory=20_000)
    assert choose_regime(subject, plan, "auto") == "exact"  # far below what torch itself takes
    monkeypatch.setattr(regimes, "_LEAST_MEMORY", 0)
    assert choose_regime(subject, plan, "auto") == "krylov"
    with pytest.raises(UsageError) as refused:
        choose_regime(subject, plan, "exact")
    assert str(refused.value) == (
        "the exact regime does not fit into the memory that may be used\n"
        "  expected  at most 2e-05 GB\n"
        "  found     0.000118 GB for the rows and kernels of 36 samples × outputs\n"
        "  remedy    lower --n, raise --memory, or leave out --regime exact"
    )


def test_what_costs_far_more_is_multiplied_with_unless_the_exact_regime_is_asked_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    subject, plan = problem(n=120)
    needs = exact_needs(subject, plan)
    assert needs.operations > 420 * needs.forward
    assert choose_regime(subject, plan, "auto") == "exact"  # some milliseconds
    monkeypatch.setattr(regimes, "_AFFORDABLE", 0)
    assert [choose_regime(subject, plan, asked) for asked in ("auto", "exact")] == ["krylov", "exact"]
