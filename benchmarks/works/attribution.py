"""Sampled max-sensitivity of saliency maps."""

from __future__ import annotations

from functools import partial
from typing import Any

from torch import Tensor

from benchmarks import ours, peers_attribution
from benchmarks.core import OURS, Contender, Errors, Work, fastest

BATCHES = (4, 8, 16, 32, 64, 256)
QUANTUS_BATCHES = (32, 64, 256)


def contenders(net: str) -> list[Contender]:
    captum, quantus = peers_attribution.captum_sensitivity, peers_attribution.quantus_sensitivity
    return [
        Contender(OURS, "", ours.max_sensitivity, "`max_sensitivity`, preset captum: captum's own random numbers"),
        *(Contender("captum", f"batch {b}", partial(captum, batch=b), "all draws of a batch at once") for b in BATCHES),
        *(Contender("Quantus", f"batch {b}", partial(quantus, batch=b)) for b in QUANTUS_BATCHES),
    ]


def errors(value: Tensor, truths: dict[str, Any]) -> Errors:
    return {"mean": float(value.mean())}


WORK = Work(
    name="attribution",
    title="Max-sensitivity of saliency",
    text="max over 10 draws of ‖a(x+δ) − a(x)‖/‖a(x)‖ for |∇f_c| of the predicted class, δ uniform in the cube of "
    "radius 0.02, for n = 256 images of 3×32×32. *mean* is that over the samples.",
    nets=("MLP", "CNN", "ResNet-20"),
    samples=256,
    contenders=contenders,
    references=lambda net: {},
    errors=errors,
    choose=fastest,
    columns=("mean",),
)
