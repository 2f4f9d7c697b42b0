"""The spectral density of the loss Hessian: the bulk, from one random probe."""

from __future__ import annotations

import re
from functools import partial
from typing import Any

import torch
from torch import Tensor

from benchmarks import ours, peers_hessian, truth
from benchmarks.core import OURS, Contender, Errors, Runs, Work, families, middle

STEPS = {"LeNet": (10, 15, 20, 30, 50, 100), "ResNet-20": (10, 15, 20, 30)}
REFERENCE = {"LeNet": {"probes": 8, "steps": 150}, "ResNet-20": {"probes": 3, "steps": 80}}
PEERS = {
    "hessian-eigenthings": peers_hessian.eigenthings_density,
    "curvlinops": peers_hessian.curvlinops_density,
    "PyHessian": peers_hessian.pyhessian_density,
}
NOTES = {
    "PyHessian": "calls torch.eig, which torch no longer has: given back for the run",
    "curvlinops": "without its search for the spectrum's bounds",
}
# The best of 256, 64 and 32 for the top eigenvalues; PyHessian retains the graph of one batch.
BATCH = {
    "LeNet": dict.fromkeys(PEERS, 256),
    "ResNet-20": {"hessian-eigenthings": 64, "curvlinops": 64, "PyHessian": 256},
}


def contenders(net: str) -> list[Contender]:
    steps = STEPS[net]
    return [
        *(Contender(OURS, f"{s} steps", partial(ours.density, steps=s)) for s in steps),
        *(
            Contender(name, f"{s} steps", partial(run, batch=BATCH[net][name], steps=s), NOTES.get(name, ""))
            for name, run in PEERS.items()
            for s in steps
        ),
    ]


def errors(value: dict[str, Tensor], truths: dict[str, Any]) -> Errors:
    """The Wasserstein-1 distance of the bulks, |λ| below the reference's cut, in standard deviations of the bulk."""
    t = truths["density"]
    (a, u), (b, w) = (_bulk(q["nodes"], q["weights"], t["cut"]) for q in (value, t))
    if len(a) == 0:
        return {"bulk error": float("inf")}
    points = torch.cat([a, b]).sort().values
    distance = ((_below(points, a, u) - _below(points, b, w)).abs()[:-1] * points.diff()).sum()
    mean = (w * b).sum()
    return {"bulk error": float(distance / (w * (b - mean).square()).sum().sqrt())}


def _bulk(nodes: Tensor, weights: Tensor, cut: float) -> tuple[Tensor, Tensor]:
    inside = nodes.abs() < cut
    return nodes[inside], weights[inside] / weights[inside].sum()


def _below(points: Tensor, nodes: Tensor, weights: Tensor) -> Tensor:
    """The distribution function of a quadrature at `points`."""
    order = nodes.argsort()
    summed = torch.cat([weights.new_zeros(1), weights[order].cumsum(0)])
    return summed[torch.searchsorted(nodes[order].contiguous(), points, right=True)]


def _steps(key: str) -> int:
    return int(re.search(r"(\d+) steps", key)[1])


def target(runs: Runs) -> float:
    """The least bulk error that a peer reaches at the largest number of steps."""
    stated = max((_steps(k) for k in runs), default=0)
    found = [r["errors"]["bulk error"] for k, r in runs.items() if not k.startswith(OURS) and _steps(k) == stated]
    return min(found, default=0.0)


def choose(contenders: list[Contender], runs: Runs) -> dict[str, str]:
    """The fewest steps that are as accurate as the best peer at its stated steps; else the most accurate."""
    goal, out = target(runs), {}
    for family, keys in families(contenders, runs).items():
        good = [k for k in keys if runs[k]["errors"]["bulk error"] <= goal]
        out[family] = min(good, key=_steps) if good else min(keys, key=lambda k: runs[k]["errors"]["bulk error"])
    return out


def curve(net: str, records: dict[str, Any]) -> list[str]:
    """Error and seconds at every number of steps, medians over rounds."""
    found = {k: middle(r) for k, r in records["density"]["runs"].items() if r}
    lines = [
        "",
        f"{net}, bulk error (seconds), medians over rounds; the best peer at its stated steps: {target(found):.2e}",
        "",
    ]
    steps = STEPS[net]
    lines += ["| | " + " | ".join(f"{s} steps" for s in steps) + " |", "|---" * (len(steps) + 1) + "|"]
    for family in (OURS, *PEERS):
        cells = [found.get(f"{family} | {s} steps") for s in steps]
        shown = [f"{c['errors']['bulk error']:.2e} ({c['seconds']:.2f})" if c else "—" for c in cells]
        lines.append(f"| {family} | " + " | ".join(shown) + " |")
    return lines


WORK = Work(
    name="density",
    title="The density of the Hessian's bulk",
    text="Cross-entropy, n = 256, one random probe. The error is the Wasserstein-1 distance between the quadrature and "
    "a long run (LeNet 8 probes of 150 steps, ResNet-20 3 of 80), both cut to |λ| below the 15 largest, in standard "
    "deviations of that bulk. Each contender is shown at the fewest steps that are as accurate as the best peer at "
    "100 (LeNet) or 30 (ResNet-20) steps, or at its most accurate. One probe is noisy: all step counts run in every "
    "round, each round with new probes.",
    nets=("LeNet", "ResNet-20"),
    samples=256,
    contenders=contenders,
    references=lambda net: {"density": partial(truth.density, **REFERENCE[net])},
    errors=errors,
    choose=choose,
    columns=("bulk error",),
    facts=("products",),
    extra=curve,
    every_variant=True,
)
