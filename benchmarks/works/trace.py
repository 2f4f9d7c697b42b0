"""The trace of the loss Hessian."""

from __future__ import annotations

from functools import partial
from typing import Any

from benchmarks import ours, peers_hessian, truth
from benchmarks.core import OURS, Contender, Errors, Work, fastest

BATCHES = (256, 64, 32)


def contenders(net: str) -> list[Contender]:
    things, curv, small = peers_hessian.eigenthings_trace, peers_hessian.curvlinops_trace, BATCHES[1:]
    # A third of the probes goes through the net at once: samples times probes must fit in memory.
    vectorised = (8,) if net == "ResNet-20" else (64, 16)
    early = "stops by its own rule, when the mean of the probes moves by less than 1e-3"
    return [
        Contender(OURS, "", ours.trace, "no random probes on these nets"),
        *(
            Contender("hessian-eigenthings, Hutch++", f"batch {b}", partial(things, batch=b, method="hutch++"))
            for b in small
        ),
        *(
            Contender("hessian-eigenthings, Hutchinson", f"batch {b}", partial(things, batch=b, method="hutchinson"))
            for b in small
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
    return {"error": abs(value / float(truths["trace"]) - 1)}


WORK = Work(
    name="trace",
    title="The trace of the loss Hessian",
    text="Cross-entropy, n = 256. Peers estimate it with 99 random probes, about their defaults, with new probes in "
    "every round. The reference adds up the Gauss–Newton diagonal from float64 per-sample Jacobians, which is the "
    "Hessian's for piecewise-linear nets.",
    nets=("LeNet", "ResNet-20"),
    samples=256,
    contenders=contenders,
    references=lambda net: {"trace": truth.gauss_newton_trace},
    errors=errors,
    choose=fastest,
    columns=("error",),
    facts=("products",),
)
