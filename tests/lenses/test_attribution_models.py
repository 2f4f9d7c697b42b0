"""The score against brute force: smooth, ReLU and label-noise sample models come out in the same order."""

from __future__ import annotations

import dataclasses
import itertools

import pytest
import torch

from spectral_audit.admission import make_subject
from spectral_audit.inputs.architectures.architecture import build_model
from spectral_audit.inputs.checkpoints.checkpoint import load_checkpoint
from spectral_audit.inputs.data.dataset import load_probe
from spectral_audit.inputs.spec import load_spec
from spectral_audit.lenses.attribution import AttributionMap, AttributionSettings
from spectral_audit.lenses.attribution.draws import Ball
from spectral_audit.lenses.attribution.search import search, worse
from spectral_audit.results import Attribution
from spectral_audit.subject import Subject
from tests.lenses.explained import SAMPLES, explain

MODELS = ("mnist_cnn_gelu", "mnist_cnn_relu", "mnist_cnn_noisy")
SCALE = 23.7  # X of the whole probe set
SAMPLE_COUNT, DRAWS = 4, 2000


def subject(name: str, n: int) -> Subject:
    spec = load_spec(SAMPLES / f"{name}.audit.yaml")
    checkpoint = load_checkpoint(SAMPLES / f"{name}.safetensors")
    loaded = build_model(checkpoint, spec.model, spec_dir=SAMPLES, arch=None, arch_kwargs={}, trust="none")
    probe = load_probe(dataclasses.replace(spec, sample=dataclasses.replace(spec.sample, n=n)))
    return make_subject(loaded.model, probe.x, probe.y, loss="cross_entropy")


def brute_force(small: Subject, radius: float) -> float:
    """Mean over samples of the largest drift in 2,000 draws and a search of eight times 30 steps."""
    copies = dataclasses.replace(small, x=small.x.repeat(100, 1, 1, 1), y=small.y.repeat(100), chunk=100)
    generator = torch.Generator().manual_seed(7)
    drawn = AttributionMap(copies, AttributionSettings())
    ball = Ball(copies.x, AttributionSettings(), radius)
    best = [drawn.move(ball.draw(generator)).drift.view(100, -1).amax(0) for _ in range(DRAWS // 100)]
    alone = AttributionMap(small, AttributionSettings())
    ball = Ball(small.x, AttributionSettings(), radius)
    start = alone.move(ball.draw(generator))
    starts = [torch.randn(small.x.shape, generator=generator) for _ in range(8)]
    searched = search(alone, ball, worse(start, start), starts, 30).drift
    return float(torch.maximum(torch.stack(best).amax(0), searched).mean())


@pytest.fixture(scope="module")
def found() -> dict[str, Attribution]:
    return {name: explain(subject(name, 64), scale=SCALE, flat="gelu" not in name) for name in MODELS}


def test_the_score_orders_models_as_brute_force_does(found: dict[str, Attribution]) -> None:
    forced = [brute_force(subject(name, SAMPLE_COUNT), 0.1 * SCALE) for name in MODELS]
    assert forced == sorted(forced)
    scores = [found[name].score for name in MODELS]
    for better, worse_ in itertools.pairwise(scores):
        assert better.low is not None
        assert worse_.high is not None
        assert better.low > worse_.high  # and not by chance
    worst = [found[name].score_worst.value or 0.0 for name in MODELS]
    assert worst == sorted(worst, reverse=True)


def test_max_pooling_over_equal_pixels_is_seen_as_a_jump(found: dict[str, Attribution]) -> None:
    """The black margin of a digit ties in every window: an arbitrarily small perturbation moves the explanation."""
    relu = found["mnist_cnn_relu"]
    assert relu.curve[0].random is not None
    assert relu.curve[1].random is not None
    assert relu.curve[0].random > 0.5 * relu.curve[1].random
    assert relu.score_radius == pytest.approx(0.001)
    gelu = found["mnist_cnn_gelu"]
    assert gelu.curve[0].random == pytest.approx(0.1 * (gelu.curve[1].random or 0.0), rel=0.1)
