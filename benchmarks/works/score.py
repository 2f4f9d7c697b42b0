"""The whole measurement on ResNet-20 against parts of it by peers, and against the arithmetic it needs at least."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from statistics import median
from typing import Any

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from benchmarks import ours, peers_hessian
from benchmarks.core import CLASSES, OURS, Contender, Outcome, Problem, Run, Work, fastest

FLOOR = "floor"
HESSIAN_WORKS = ("hessian", "trace", "density")
SIZE = 2048


def contenders(net: str) -> list[Contender]:
    top = "five eigenvalues of the Hessian, nothing else"
    return [
        Contender(OURS, "", ours.score, "everything"),
        *(
            Contender(
                "hessian-eigenthings, 20 steps",
                f"batch {b}",
                partial(peers_hessian.eigenthings_top, batch=b, steps=20),
                top,
            )
            for b in (64, 32)
        ),
        *(
            Contender(
                "curvlinops + SciPy eigsh",
                f"tol 0.01, batch {b}",
                partial(peers_hessian.curvlinops_top, batch=b, tolerance=1e-2),
                top,
            )
            for b in (64, 32)
        ),
        Contender(FLOOR, "", floor),
    ]


def floor(p: Problem) -> Run:
    """Floating-point operations of the parts of a measurement, and the machine's float32 matrix-product rate."""

    def run() -> Callable[[], Outcome]:
        facts = _counted(p)
        a = torch.randn(SIZE, SIZE)
        facts["rate"] = 2 * SIZE**3 / min(_seconds(lambda: a @ a) for _ in range(10))
        return lambda: Outcome(None, facts)

    return run


def _counted(p: Problem) -> dict[str, float]:
    """Operations for all n samples: forward and backward passes, one Hessian product, the Gram part."""
    chosen, x = list(p.model.parameters()), p.x.clone().requires_grad_()
    f: list[torch.Tensor] = []
    forward = _flops(lambda: f.append(p.model(x)))
    inputs = _flops(lambda: torch.autograd.grad(f[0].sum(), x, retain_graph=True))
    weights = _flops(lambda: torch.autograd.grad(f[0].sum(), [x, *chosen], retain_graph=True))
    loss = nn.functional.cross_entropy(f[0], p.y)
    gradients = torch.autograd.grad(loss, chosen, create_graph=True)
    product = _flops(lambda: torch.autograd.grad(gradients, chosen, [torch.ones_like(c) for c in chosen]))
    gram = float((len(p.x) * CLASSES) ** 2 * sum(c.numel() for c in chosen if c.ndim > 2))
    return {"forward": forward, "input pass": inputs, "weight pass": weights, "product": product, "gram": gram}


def _flops(run: Callable[[], object]) -> float:
    with FlopCounterMode(display=False) as counter:
        run()
    return float(counter.get_total_flops())


def _seconds(run: Callable[[], object]) -> float:
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def extra(net: str, records: dict[str, Any]) -> list[str]:
    """The floor, and the sum of the peers' Hessian works where those have been run."""
    runs = records["score"]["runs"]
    lines: list[str] = []
    if runs.get(OURS) and runs.get(FLOOR):
        lines += _floor_lines(runs[OURS][0]["facts"], runs[FLOOR][0]["facts"], _median(runs[OURS]), records)
    parts = {w: _cheapest(records[w]) for w in HESSIAN_WORKS if w in records}
    if len(parts) == len(HESSIAN_WORKS) and all(parts.values()) and runs.get(OURS):
        total, own = sum(seconds for _, seconds in parts.values()), _median(runs[OURS])
        named = " + ".join(f"{seconds:.1f} s ({family})" for family, seconds in parts.values())
        lines += ["", f"The cheapest peers' Hessian top five, trace and density add up to {named} = {total:.1f} s, "
                  f"{total / own:.1f} times the whole measurement."]  # fmt: skip
    return lines


def _floor_lines(cost: dict[str, float], counted: dict[str, float], own: float, records: dict[str, Any]) -> list[str]:
    samples = records["score"]["samples"]
    parts = {
        "one forward pass": counted["forward"],
        f"{cost['backward passes']:.0f} backward passes with weight gradients": cost["backward passes"]
        * counted["weight pass"],
        "half of one symmetric product of the convolutions' per-sample gradients": counted["gram"],
        f"{cost['products']:.0f} Hessian products": cost["products"] * counted["product"],
        f"{cost['gradients']:.0f} input gradients of single samples": cost["gradients"]
        / samples
        * (counted["forward"] + counted["input pass"]),
    }
    rate, total = counted["rate"], sum(parts.values())
    lines = ["", f"Counted work at {rate / 1e9:.0f} GFLOP/s, this machine's float32 product of {SIZE}² matrices:", ""]
    lines += ["| part | GFLOP | s at that rate |", "|---|---|---|"]
    lines += [f"| {name} | {flops / 1e9:.0f} | {flops / rate:.2f} |" for name, flops in parts.items()]
    lines += [f"| all | {total / 1e9:.0f} | {total / rate:.2f} |", ""]
    lines += [f"The measurement takes {own:.1f} s, {own * rate / total:.1f} times that floor."]
    stages = {k.removeprefix("stage "): v for k, v in cost.items() if k.startswith("stage ")}
    return [*lines, "Its stages: " + ", ".join(f"{k} {v:.1f} s" for k, v in stages.items()) + "."]


def _median(runs: list[dict[str, Any]]) -> float:
    return median(r["seconds"] for r in runs)


def _cheapest(record: dict[str, Any]) -> tuple[str, float] | None:
    """The fastest chosen peer of a work, and its median seconds."""
    peers = {f: _median(record["runs"][k]) for f, k in record.get("chosen", {}).items() if f != OURS}
    return min(peers.items(), key=lambda item: item[1]) if peers else None


WORK = Work(
    name="score",
    title="The whole measurement",
    text="`measure` with its defaults: input Jacobian, kernel, Gauss–Newton and Hessian spectra, the index, "
    "attributions and intervals, n = 256. Beside it, peers' five Hessian eigenvalues alone, in the same rounds.",
    nets=("ResNet-20",),
    samples=256,
    contenders=contenders,
    references=lambda net: {},
    errors=lambda value, truths: {},
    choose=fastest,
    columns=(),
    facts=("products",),
    extra=extra,
    hidden=(FLOOR,),
)
