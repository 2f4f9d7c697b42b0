"""Does the attribution score put models into the order that brute force finds?

    .venv/bin/python studies/attribution_order.py [--samples 64] [--draws 2000] [--restarts 10] [--steps 50]

Three sample models of one architecture: smooth (GELU and a Jacobian penalty), ReLU, and ReLU fitted to labels of which
30 % are drawn at random. Brute force is the mean over samples of the largest drift in 2,000 random draws and in a long
search, at the radius 0.1 X of an audit; the score comes from an audit's defaults.
"""

from __future__ import annotations

import argparse
import sys
import time

import torch
from attribution_models import load
from torch import Tensor

from spectral_audit.lenses.attribution import AttributionMap, AttributionSettings, read_attribution
from spectral_audit.lenses.attribution.draws import Ball
from spectral_audit.lenses.attribution.search import search, worse
from spectral_audit.subject import Subject, exact_arithmetic

MODELS = ("mnist_cnn_gelu", "mnist_cnn_relu", "mnist_cnn_noisy")


def input_scale(subject: Subject) -> float:
    flat = subject.x.flatten(1).double()
    return float((flat - flat.mean(0)).square().sum(1).mean().sqrt())


def brute_force(subject: Subject, radius: float, draws: int, restarts: int, steps: int) -> tuple[Tensor, Tensor]:
    """The largest drift (n,) in random draws, and that in the draws and a search from random starts."""
    generator = torch.Generator().manual_seed(0)
    settings = AttributionSettings()
    with exact_arithmetic():
        attribution_map = AttributionMap(subject, settings)
        ball = Ball(subject.x, settings, radius)
        best = attribution_map.move(ball.draw(generator))
        for _ in range(draws - 1):
            best = worse(best, attribution_map.move(ball.draw(generator)))
        random = best.drift
        starts = [torch.randn(subject.x.shape, generator=generator) for _ in range(restarts - 1)]
        best = search(attribution_map, ball, best, [attribution_map.base, *starts], steps)
    return random, best.drift


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--samples", type=int, default=64)
    parser.add_argument("--draws", type=int, default=2000)
    parser.add_argument("--restarts", type=int, default=10)
    parser.add_argument("--steps", type=int, default=50)
    options = parser.parse_args()
    print("| model | score | 95 % | score, worst | worst drift, audit | largest of draws | draws and search |")
    print("|---|---|---|---|---|---|---|")
    for name in MODELS:
        subject, start = load(name, options.samples), time.perf_counter()
        scale, generator = input_scale(subject), torch.Generator().manual_seed(0)
        flat = "gelu" not in name
        found = read_attribution(subject, AttributionSettings(), scale, generator, flat=flat)
        random, worst = brute_force(subject, found.radius_absolute, options.draws, options.restarts, options.steps)
        score = found.score
        print(
            f"| `{name}` | {score.value:.3g} | {score.low:.3g}–{score.high:.3g} | {found.score_worst.value:.3g} | "
            f"{found.worst.mean.value:.3f} | {float(random.mean()):.3f} | {float(worst.mean()):.3f} |",
            flush=True,
        )
        print(f"{name}: {time.perf_counter() - start:.0f} s", file=sys.stderr)


if __name__ == "__main__":
    main()
