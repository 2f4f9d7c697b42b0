"""The five largest eigenvalues of the loss Hessian to 1e-3."""

from __future__ import annotations

from functools import partial
from typing import Any

from benchmarks import ours, peers_hessian, truth
from benchmarks.core import OURS, Contender, Errors, Work, fastest_within

TOLERANCE = 1e-3
BATCHES = (256, 64, 32)
STEPS = (30, 40, 60)


def contenders(net: str) -> list[Contender]:
    top, small = peers_hessian.eigenthings_top, BATCHES[1:]
    arpack = [(b, 1e-2) for b in BATCHES] + [(b, t) for t in (1e-1, 1e-3) for b in small]
    modulus = "largest in modulus, which is what it finds"
    return [
        Contender(OURS, "", ours.top_eigenvalues),
        *(
            Contender("hessian-eigenthings, its default (10 steps)", f"batch {b}", partial(top, batch=b, steps=None))
            for b in BATCHES
        ),
        *(Contender("hessian-eigenthings, 20 steps", f"batch {b}", partial(top, batch=b, steps=20)) for b in BATCHES),
        *(
            Contender("hessian-eigenthings, steps for 1e-3", f"{s} steps, batch {b}", partial(top, batch=b, steps=s))
            for s in STEPS
            for b in (BATCHES if net.startswith("LeNet") else small)
        ),
        *(
            Contender(
                "curvlinops + SciPy eigsh",
                f"tol {t:g}, batch {b}",
                partial(peers_hessian.curvlinops_top, batch=b, tolerance=t),
            )
            for b, t in arpack
        ),
        *(
            Contender("PyHessian", f"batch {b}", partial(peers_hessian.pyhessian_top, batch=b), modulus)
            for b in (256, 64)
        ),
    ]


def errors(value: dict[str, Any], truths: dict[str, Any]) -> Errors:
    t = truths["top"][value["by"]]
    found = value["values"]
    order = (found if value["by"] == "LA" else found.abs()).argsort(descending=True)
    return {"error": float(((found[order] - t).abs() / t.abs()).max())}


WORK = Work(
    name="hessian",
    title="The five largest eigenvalues of the loss Hessian",
    text="Cross-entropy, n = 256, wanted to 1e-3. The error is the largest relative error of the five against float64. "
    "Of the variants of a contender (batch size, tolerance, steps) the fastest that reaches 1e-3 in the first round is "
    "shown; if none does, the one that comes nearest.",
    nets=("LeNet", "LeNet-trained", "ResNet-20", "ResNet-20-trained"),
    samples=256,
    contenders=contenders,
    references=lambda net: {"top": truth.top_eigenvalues},
    errors=errors,
    choose=fastest_within("error", TOLERANCE),
    columns=("error",),
    facts=("products",),
)
