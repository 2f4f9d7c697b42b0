"""Singular values of the input Jacobian at every sample."""

from __future__ import annotations

from functools import partial
from typing import Any

from torch import Tensor

from benchmarks import ours, peers_ntk, truth
from benchmarks.core import OURS, Contender, Errors, Work, fastest

BATCHES = (32, 64, 256)
WAYS = {"svdvals": peers_ntk.svd, "eigvalsh of JJᵀ": peers_ntk.gram}


def contenders(net: str) -> list[Contender]:
    settings = [(f"{size}, {way}", size, values) for size in BATCHES for way, values in WAYS.items()]
    return [
        Contender(OURS, "", ours.jacobian),
        *(
            Contender("torch.func jacrev", f"chunk {v}", partial(peers_ntk.torch_func_jacobian, chunk=s, values=f))
            for v, s, f in settings
        ),
        *(
            Contender(
                "autograd, one pass per output", f"batch {v}", partial(peers_ntk.loop_jacobian, batch=s, values=f)
            )
            for v, s, f in settings
        ),
    ]


def references(net: str) -> dict[str, Any]:
    gated = {} if net == "LeNet" else {"gates": partial(truth.input_singular_values, gates=True)}
    return {"values": truth.input_singular_values, **gated}


def errors(value: Tensor, truths: dict[str, Tensor]) -> Errors:
    names = {"values": "error", "gates": "same gates"}
    return {names[k]: float((value - t).norm() / t.norm()) for k, t in truths.items()}


WORK = Work(
    name="jacobian",
    title="Singular values of the input Jacobian",
    text="All C − 1 singular values of Qᵀ∂f/∂x at each of n = 256 samples, C = 10: Q spans the mean-free outputs, and "
    "peers subtract the mean of the outputs, which is the same. Peers may take the singular values by `svdvals` or by "
    "the eigenvalues of the small products JJᵀ in float64, whichever is faster.",
    nets=("LeNet", "ResNet-20"),
    samples=256,
    contenders=contenders,
    references=references,
    errors=errors,
    choose=fastest,
    columns=("error", "same gates"),
)
