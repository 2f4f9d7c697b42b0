"""The trace of the loss Hessian."""

from __future__ import annotations

from functools import partial
from statistics import median
from typing import Any

from benchmarks import ours, peers_hessian, truth
from benchmarks.core import OURS, Contender, Errors, Work, fastest

BATCHES = (256, 64, 32)
GOAL = 0.01


def contenders(net: str) -> list[Contender]:
    things, curv = peers_hessian.eigenthings_trace, peers_hessian.curvlinops_trace
    # A third of the probes goes through the net at once: samples times probes must fit in memory.
    vectorised = (8,) if net.startswith("ResNet") else (64, 16)
    early = "stops by its own rule, when the mean of the probes moves by less than 1e-3"
    return [
        Contender(OURS, "", ours.trace, "no random probes on these nets"),
        *(
            Contender("hessian-eigenthings, Hutch++", f"batch {b}", partial(things, batch=b, method="hutch++"))
            for b in BATCHES
        ),
        *(
            Contender("hessian-eigenthings, Hutchinson", f"batch {b}", partial(things, batch=b, method="hutchinson"))
            for b in BATCHES
        ),
        *(
            Contender("curvlinops, Hutch++", f"batch {b}", partial(curv, batch=b, method="hutch++", at_once=33))
            for b in vectorised
        ),
        *(
            Contender(
                "curvlinops, Hutchinson",
                f"batch {b}, {k} at once",
                partial(curv, batch=b, method="hutchinson", at_once=k),
            )
            for b, k in ((64, 1), (32, 3))
        ),
        *(
            Contender("PyHessian", f"batch {b}", partial(peers_hessian.pyhessian_trace, batch=b), early)
            for b in (256, 64)
        ),
    ]


def errors(value: float, truths: dict[str, Any]) -> Errors:
    truth = float(truths["trace"])
    return {"error": abs(value / truth - 1), "truth": truth}


def extra(net: str, records: dict[str, Any]) -> list[str]:
    """What 1 % costs with Hutchinson's probes, from the standard error that the peer tells: it falls as 1/√probes."""
    record = records["trace"]
    key = record.get("chosen", {}).get("hessian-eigenthings, Hutchinson")
    if key is None:
        return []
    runs = record["runs"][key]
    share = median(r["facts"]["stderr"] / abs(r["errors"]["truth"]) for r in runs)
    probes = peers_hessian.SAMPLES * max(1.0, (share / GOAL) ** 2)
    seconds = median(r["seconds"] for r in runs) / peers_hessian.SAMPLES * probes
    return [
        "",
        f"{net}: the trace is {runs[0]['errors']['truth']:.4g}. Hutchinson's standard error with "
        f"{peers_hessian.SAMPLES} probes is {share:.1%} of it (hessian-eigenthings' own figure): 1 % takes about "
        f"{probes:.0f} probes, {seconds:.0f} s at this rate.",
    ]


WORK = Work(
    name="trace",
    title="The trace of the loss Hessian",
    text="Cross-entropy, n = 256. Peers estimate it with 99 random probes, about their defaults, with new probes in "
    "every round. The reference adds up the Gauss–Newton diagonal from float64 per-sample Jacobians, which is the "
    "Hessian's for piecewise-linear nets.",
    nets=("LeNet", "LeNet-trained", "ResNet-20", "ResNet-20-trained"),
    samples=256,
    contenders=contenders,
    references=lambda net: {"trace": truth.gauss_newton_trace},
    errors=errors,
    choose=fastest,
    columns=("error",),
    facts=("products",),
    extra=extra,
)
