"""When memory runs out the audit goes on with smaller chunks, and its figures are those of such a run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import spectral_audit.measure
from spectral_audit.admission import make_subject, saved_bytes
from spectral_audit.measure import Settings, measure
from spectral_audit.results import Measurement

SHORT = "[enforce fail at alloc_cpu.cpp:118] DefaultCPUAllocator: can't allocate memory: you tried to allocate"


class Hungry(nn.Module):
    """A small net whose passes for gradients, or all of them, take at most `limit` samples."""

    def __init__(self, limit: int, error: Exception, *, always: bool = False) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.body = nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 3))
        self.limit, self.error, self.always = limit, error, always

    def forward(self, x: Tensor) -> Tensor:
        if (self.always or torch.is_grad_enabled()) and len(x) > self.limit:
            raise self.error
        return self.body(x)


def probe() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(24, 6, generator=generator), torch.randint(0, 3, (24,), generator=generator)


def figures(found: Measurement) -> Measurement:
    """Without what an accident may change: times, passes, and what is said of it."""
    return replace(found, cost=None, findings=())  # type: ignore[arg-type]  # only compared


def run(limit: int, chunk: int | None, error: Exception | None = None, regime: Any = "auto") -> Measurement:
    model = Hungry(limit, error or RuntimeError(SHORT))
    return measure(model, *probe(), settings=Settings(dtype="float64", chunk=chunk, regime=regime))


def said(found: Measurement) -> list[str]:
    return [f.message for f in found.findings if f.code == "engine.memory"]


@pytest.mark.parametrize(
    ("error", "regime"),
    [
        (RuntimeError(SHORT), "exact"),
        (RuntimeError(SHORT), "krylov"),
        (MemoryError(), "exact"),
        (torch.OutOfMemoryError("CUDA out of memory"), "exact"),
    ],
)
def test_the_audit_goes_on_with_smaller_chunks(error: Exception, regime: str) -> None:
    disturbed, calm = run(7, 24, error, regime), run(99, 6, regime=regime)
    assert figures(disturbed) == figures(calm)
    assert said(calm) == []
    assert len(said(disturbed)) == 1 and "from 24 to 6 samples" in said(disturbed)[0]


def test_a_first_pass_that_does_not_fit_is_halved_too() -> None:
    """Eight samples always go together, to see whether a model mixes them."""
    model = Hungry(9, RuntimeError(SHORT), always=True)
    found = measure(model, *probe(), settings=Settings(dtype="float64", chunk=24, attribution=None))
    assert "from 24 to 6 samples" in said(found)[0]


def test_also_where_the_chunk_was_chosen() -> None:
    assert "from 24 to 6 samples" in said(run(7, None))[0]


def test_one_sample_too_many_is_an_error_as_before() -> None:
    with pytest.raises(RuntimeError, match="allocate memory"):
        run(0, 24)


@pytest.mark.parametrize("stage", ["sweep", "read_hessian", "read_attribution"])
def test_a_stage_that_fails_halfway_draws_the_same_again(stage: str, monkeypatch: pytest.MonkeyPatch) -> None:
    stage_itself: Callable[..., Any] = getattr(spectral_audit.measure, stage)

    def fails(subject: Any, *args: Any, **kwargs: Any) -> Any:
        for one in args:
            if isinstance(one, torch.Generator):
                torch.rand(5, generator=one)
        if subject.chunk > 6:
            raise RuntimeError(SHORT)
        return stage_itself(subject, *args, **kwargs)

    monkeypatch.setattr(spectral_audit.measure, stage, fails)
    # Draws in advance move the figures of an undisturbed run too: the same number of them comes before every attempt.
    disturbed, shifted = run(99, 12), run(99, 6)
    assert said(disturbed) and not said(shifted)
    for a, b in zip(
        (disturbed.gmsi.worst, disturbed.gmsi.typical), (shifted.gmsi.worst, shifted.gmsi.typical), strict=True
    ):
        assert a.value == pytest.approx(b.value, rel=1e-11)
    assert disturbed.attribution is not None and shifted.attribution is not None
    assert disturbed.attribution.random.mean.value == pytest.approx(shifted.attribution.random.mean.value, rel=1e-11)
    assert disturbed.spectra.hessian.entropy == pytest.approx(shifted.spectra.hessian.entropy, rel=1e-9)


def test_saved_bytes_are_the_activations_of_one_sample() -> None:
    """tanh keeps its output (8), the two layers their inputs (6 and 8, the latter the same tensor)."""
    model = Hungry(99, MemoryError()).double().requires_grad_(False)
    x = probe()[0].double()
    assert saved_bytes(model, x[:2]) == (6 + 8) * 8 == saved_bytes(model, x[:7])
    assert not any(p.requires_grad for p in model.parameters())


@pytest.mark.parametrize(("memory", "chunk"), [(2**30, 24), (2 * 4 * 14 * 8 * 5 + 100, 5), (1, 1)])
def test_chunks_fit_into_the_memory_given(memory: int, chunk: int) -> None:
    """Half of the memory, four times what one sample saves."""
    x, y = probe()
    subject = make_subject(Hungry(99, MemoryError()), x, y, loss="cross_entropy", dtype="float64", memory=memory)
    assert (subject.chunk, subject.memory) == (chunk, memory)
    assert subject.fitting(8).chunk == max(1, chunk // 2) or memory == 2**30
    fixed = make_subject(Hungry(99, MemoryError()), x, y, loss="cross_entropy", memory=memory, chunk=9)
    assert fixed.chunk == 9 == fixed.fitting(100).chunk


def test_little_memory_changes_no_figure() -> None:
    model, (x, y) = Hungry(99, MemoryError()), probe()
    little = measure(model, x, y, settings=Settings(dtype="float64", memory=2 * 5 * 14 * 8 * 6))
    assert said(little) == []
    full = run(99, 6)
    for axis in ("input", "weights", "kernel"):
        assert getattr(little.axes, axis) == getattr(full.axes, axis)
    assert little.spectra.ntk == full.spectra.ntk
    # Few Lanczos vectors fit: other steps, the same eigenvalues to the tolerance of the run.
    assert little.axes.curvature.worst.value == pytest.approx(full.axes.curvature.worst.value, rel=1e-3)
    assert little.axes.curvature.typical.value == pytest.approx(full.axes.curvature.typical.value, rel=1e-12)
    ends = [(m.spectra.hessian.values[0], m.spectra.hessian.values[-1]) for m in (little, full)]
    assert ends[0] == pytest.approx(ends[1], abs=1e-3 * max(ends[1]))
