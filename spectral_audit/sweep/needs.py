"""What the exact regime would cost, counted before it starts from the sweep of one sample."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from spectral_audit.linalg.gram import dense_cost, pair_cost
from spectral_audit.subject import Subject, exact_arithmetic

from .cotangents import Buffers
from .engine import sweep_chunk
from .rules import Contribution, Pair
from .study import Study

# Copies of the kernel, in float64, that are held while its spectra are found: measured.
_COPIES = 11
# An eigenvalue decomposition without vectors takes 4/3 R³ flops; two are full, and three extremes take some products.
_SPECTRA = 2


@dataclass(frozen=True)
class Needs:
    """Multiply-adds and bytes of the exact regime, and the multiply-adds of one forward pass over all samples."""

    operations: float
    memory: int
    forward: float


def exact_needs(subject: Subject, plan: Study) -> Needs:
    """Count the passes, every parameter's Gram product by its cheaper contraction, and the spectra of the kernels."""
    n, c = subject.n, subject.outputs
    rows = n * c
    forward = n * _forward(subject)
    with exact_arithmetic():
        _, _, found = sweep_chunk(subject, plan, subject.basis, slice(0, 1), Buffers())
    sizes = {name: p.numel() for name, p in subject.parameters().items()}
    products = sum(_product(part, n, c) for part in found.values())
    products += sum(sizes[name] * rows**2 / 2 for name in plan.generic)
    numbers = n * sum(_numbers(part) for part in found.values()) + rows * sum(sizes[name] for name in plan.generic)
    return Needs(
        operations=forward * (c + 1) + products + _SPECTRA * 4 / 3 * rows**3 / 2,
        memory=numbers * subject.x.element_size() + _COPIES * 8 * rows**2,
        forward=forward,
    )


def _forward(subject: Subject) -> float:
    """Multiply-adds of a forward pass of one sample, in its products and convolutions."""
    with _Flops() as counter, torch.no_grad(), exact_arithmetic():
        subject.forward(subject.x[:1])
    return counter.total / 2


class _Flops(TorchDispatchMode):
    """Counts flops by torch's own formulas."""

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False  # to skip the compiler torch loads it, which takes a second; nothing is compiled here

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # torch annotates it not
        self.total = 0.0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        formula = flop_registry.get(func.overloadpacket)
        if formula is not None:
            self.total += formula(*args, **(kwargs or {}), out_val=out)
        return out


def _product(part: Contribution, n: int, c: int) -> float:
    if not isinstance(part, Pair):
        return part[0, 0].numel() * (n * c) ** 2 / 2
    _, _, groups, s, out = part.g.shape
    shape = (n, c, s, groups, part.a.shape[3], out)
    return float(min(pair_cost(*shape), dense_cost(*shape)))


def _numbers(part: Contribution) -> int:
    """How many numbers are kept of one sample: see `RowStore`."""
    if not isinstance(part, Pair):
        return part.numel()
    _, c, groups, _, out = part.g.shape
    return min(part.a.numel() + part.g.numel(), c * groups * out * part.a.shape[3])
