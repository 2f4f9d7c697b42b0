"""The full neural tangent kernel (nC × nC) of n samples."""

from __future__ import annotations

from functools import partial
from typing import Any

from torch import Tensor

from benchmarks import ours, peers_ntk, truth
from benchmarks.core import OURS, Contender, Errors, Work, fastest

CHUNKS = (8, 16, 32, 64)


def contenders(net: str) -> list[Contender]:
    once = "computes layer kernels, but a backward pass for every pair of outputs"
    return [
        Contender(OURS, "", ours.ntk),
        Contender(f"{OURS}, C − 1 outputs", "", ours.ntk_in_basis, "the kernel of the axes: mean-free outputs"),
        *(Contender("torch.func Jacobian", f"chunk {c}", partial(peers_ntk.torch_func_ntk, chunk=c)) for c in CHUNKS),
        Contender("BackPACK", "", peers_ntk.backpack_ntk, _backpack_note(net)),
        Contender("NNGeometry Jacobian", "", partial(peers_ntk.nngeometry_jacobian, batch=128)),
        Contender("NNGeometry GramMatrix", "", partial(peers_ntk.nngeometry_gram, batch=128), once),
        *(
            Contender(
                "torch.func products",
                f"{c} at a time",
                partial(peers_ntk.torch_func_products, chunk=c),
                "v ↦ J(Jᵀv) on all nC unit vectors",
            )
            for c in ((4,) if net == "ResNet-20" else (1, 8))
        ),
    ]


def _backpack_note(net: str) -> str:
    return "after its own module conversion (`use_converter`)" if net == "ResNet-20" else ""


def references(net: str) -> dict[str, Any]:
    # Pooling by maximum has gates of its own, which no ReLU mask fixes.
    gated = {} if net == "LeNet" else {"gates": partial(truth.kernel, gates=True)}
    return {"kernel": truth.kernel, **gated}


def errors(value: Tensor | ours.Projected, truths: dict[str, Tensor]) -> Errors:
    names = {"kernel": "error", "gates": "same gates"}
    if isinstance(value, ours.Projected):
        truths, value = {k: value.project(t) for k, t in truths.items()}, value.kernel
    return {names[k]: float((value - t).norm() / t.norm()) for k, t in truths.items()}


WORK = Work(
    name="ntk",
    title="The exact neural tangent kernel",
    text="All nC × nC entries, n = 128, C = 10. Errors are Frobenius norms relative to a float64 run of torch.func; "
    "for *same gates* that run keeps the ReLU gates of a float32 pass, so that what is left is arithmetic.",
    nets=("LeNet", "MLP", "ResNet-20"),
    samples=128,
    contenders=contenders,
    references=references,
    errors=errors,
    choose=fastest,
    columns=("error", "same gates"),
)
