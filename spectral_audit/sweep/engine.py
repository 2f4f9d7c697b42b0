"""The sweep: one forward pass and C backward passes to activations give the Jacobians and three kernels at once.

With the orthogonal output basis B = [Q, rest], row (i, k) of G is the gradient of (Bᵀf(x_i))_k with respect to θ, and
row k of J_i that with respect to x_i. The leading C' outputs of every figure are those of Q; all C together have the
spectra of the untouched outputs, since B is orthogonal. So the raw and the relative figures come from the same passes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from spectral_audit.linalg.gram import GramSum
from spectral_audit.subject import Subject, exact_arithmetic

from .capture import Capture, contributions
from .cotangents import Buffers, cotangents
from .generic import generic_rows
from .rowstore import RowStore
from .rules import Contribution
from .study import Study

# Gradient rows formed at a time, and intermediates of a pairwise contraction, in bytes.
_ROWS_MEMORY = 256 * 2**20
# Parameters up to which adding to a kernel costs more than copying the rows into one product with others.
_SMALL = 4096

Advance = Callable[[int], None]
Keep = Callable[[slice, Tensor, Tensor], None]


@dataclass(frozen=True)
class TensorShare:
    """One parameter tensor's part in the kernel: its rule, its scale T, and ‖G_i‖_F² of its own in the Q basis (n,)."""

    name: str
    shape: tuple[int, ...]
    rule: str
    norm: float
    scale: float
    traces: Tensor

    @property
    def trace(self) -> float:
        """The trace of its block of the kernel."""
        return float(self.traces.sum())


@dataclass(frozen=True)
class Sweep:
    """What one sweep finds; everything float64.

    Where several processes share the audit, the kernels are those of all samples in the first process only.

    `outputs` (n, C) are f(x_i). `jacobian` (n, r, C) are factors F_i with F_iᵀF_i = (BᵀJ_i)(BᵀJ_i)ᵀ: any columns of F_i
    have the singular values of the same rows of BᵀJ_i. `kernel`, `kernel_worst` and `kernel_typical` (nC, nC), rows
    sample-major, are the sums over tensors of their Gram matrices: raw, times T_t², and times τ_t².
    """

    outputs: Tensor
    jacobian: Tensor
    kernel: Tensor
    kernel_worst: Tensor
    kernel_typical: Tensor
    tensors: tuple[TensorShare, ...]
    backward_passes: int


def relative_scale(parameter: Tensor) -> float:
    """T_t: ‖θ_t‖_F for tensors with two or more axes, 0 for biases, gains and scalars."""
    return float(parameter.detach().double().norm()) if parameter.ndim >= 2 else 0.0


def sweep(subject: Subject, plan: Study, advance: Advance = lambda samples: None) -> Sweep:
    """Run the sweep; `advance(samples)` is told about progress."""
    kept: list[tuple[Tensor, Tensor]] = []

    def keep(where: slice, out: Tensor, rows: Tensor) -> None:
        kept.append((out, _factor(rows)))
        advance(where.stop - where.start)

    stored = _gather(subject, plan, subject.basis, keep)
    outputs, factors = (subject.ranks.rows(torch.cat(c), subject.n) for c in zip(*kept, strict=True))
    sums = GramSum(subject.n, subject.outputs, 3, device=subject.x.device)
    tensors = _contract(subject, plan, stored, sums)
    kernel, worst, typical = sums.matrices
    passes = subject.outputs * (2 if plan.generic else 1)
    return Sweep(outputs, factors, kernel, worst, typical, tensors, passes)


def raw_kernel(subject: Subject, plan: Study, columns: int) -> Tensor:
    """The kernel (n·c, n·c) alone, for the first c = `columns` of the basis."""
    stored = _gather(subject, plan, subject.basis[:, :columns])
    sums = GramSum(subject.n, columns, 1, device=subject.x.device)
    _contract(subject, plan, stored, sums)
    return sums.matrices[0]


def _gather(subject: Subject, plan: Study, basis: Tensor, keep: Keep | None = None) -> dict[str, RowStore]:
    """Every parameter's gradient rows on the samples of the shard; `keep` is handed outputs and input-Jacobian rows,
    chunk by chunk."""
    own = subject.shard
    stored = {name: RowStore(own.stop - own.start) for name in (*plan.structured, *plan.generic)}
    buffers = Buffers()
    with exact_arithmetic():
        for where in subject.chunks():
            out, rows, found = sweep_chunk(subject, plan, basis, where, buffers, inputs=keep is not None)
            if keep is not None:
                keep(where, out, rows)
            for name, contribution in found.items():
                stored[name].put(slice(where.start - own.start, where.stop - own.start), contribution)
    if plan.generic:
        for name, dense in generic_rows(subject, plan.generic, basis).items():
            stored[name].rows = dense
    for name, store in stored.items():
        if store.rows is None:  # no sample of the shard uses it
            entries = subject.parameters()[name].numel()
            store.rows = subject.x.new_zeros(store.samples, basis.shape[1], entries)
    return stored


def input_singular_values(subject: Subject, basis: Tensor) -> Tensor:
    """Singular values of BᵀJ_i at every sample, (n, min(c, d)) float64, descending, for an output `basis` B (C, c)."""
    buffers = Buffers()

    def values(where: slice) -> list[Tensor]:
        x = subject.leaf(subject.x[where])
        rows = cotangents(subject.forward_fused(x) @ basis, x, [], buffers)[0].flatten(2).double()
        if subject.x.dtype == torch.float64:
            return [torch.linalg.svdvals(rows)]
        squares = torch.linalg.eigvalsh(rows @ rows.mT).flip(1)[:, : min(rows.shape[1:])]  # see _factor
        return [squares.clamp_min(0).sqrt()]

    with exact_arithmetic():
        return subject.over_samples(values)[0]


def sweep_chunk(
    subject: Subject, plan: Study, basis: Tensor, where: slice, buffers: Buffers, *, inputs: bool = True
) -> tuple[Tensor, Tensor, dict[str, Contribution]]:
    """Outputs (m, C) float64, input-Jacobian rows (m, C, d) (none unless `inputs`), and every structured parameter's
    gradient rows."""
    x = subject.x[where].clone().requires_grad_(True)
    capture = Capture(subject.parameters(), plan.structured)
    with capture:
        out = subject.forward(x)
    stacked = cotangents(out @ basis, x if inputs else None, capture.calls, buffers)
    rows = stacked.pop(0).flatten(2) if inputs else out.new_empty(0)
    return out.detach().double(), rows, contributions(capture.calls, stacked)


def _factor(rows: Tensor) -> Tensor:
    """F (m, r, C) float64 with FᵀF = rows rowsᵀ for `rows` (m, C, d).

    In float32 through the Gram matrix, whose rounding (σ₁√eps₆₄) is below that of the rows; in float64 by QR.
    """
    if rows.dtype == torch.float64:
        return torch.linalg.qr(rows.mT, mode="r").R
    rows = rows.double()
    values, vectors = torch.linalg.eigh(rows @ rows.mT)
    return values.clamp_min(0).sqrt()[:, :, None] * vectors.mT


def _contract(subject: Subject, plan: Study, stored: dict[str, RowStore], sums: GramSum) -> tuple[TensorShare, ...]:
    """Add every tensor's block to the kernels; what only the raw kernel counts, such as biases, in one product.

    Where several processes share the audit, each adds the blocks of some tensors, for all samples.
    """
    own = _handed_out(subject, stored)
    shares = []
    small: list[Tensor] = []
    raw_only = len(sums.matrices) == 1
    buffer = subject.x.new_empty(_ROWS_MEMORY // subject.x.element_size())
    for name, parameter in subject.parameters().items():
        if name not in own:
            continue
        store = stored.pop(name)
        scale = relative_scale(parameter)
        if isinstance(store.rows, Tensor) and (scale == 0 or (raw_only and parameter.numel() <= _SMALL)):
            small.append(store.rows)
            diagonal, how = _row_norms(store.rows), "rows"
        else:
            coefficients = (1.0, scale**2, scale**2 / parameter.numel())[: len(sums.matrices)]
            diagonal, how = store.contract(sums, coefficients, buffer)
        rule = f"{'+'.join(plan.uses[name])}:{how}" if name in plan.structured else "generic"
        traces = diagonal[:, : subject.rank].sum(1)
        norm = float(parameter.detach().double().norm())
        shares.append(TensorShare(name, tuple(parameter.shape), rule, norm, scale, traces))
    if small:
        sums.add_dense(torch.cat(small, dim=2), (1.0, 0.0, 0.0)[: len(sums.matrices)])
    subject.ranks.sum_on_first(sums.matrices)
    found = {share.name: share for part in subject.ranks.everyone(shares) for share in part}
    return tuple(found[name] for name in subject.parameters() if name in found)


def _handed_out(subject: Subject, stored: dict[str, RowStore]) -> frozenset[str]:
    """The tensors whose blocks this process adds, their rows brought here; the costly ones first, to who has least."""
    ranks, load = subject.ranks, [0.0] * subject.ranks.size
    if ranks.size == 1:
        return frozenset(stored)
    kinds = ranks.everyone({name: store.kind for name, store in stored.items()})
    costs = ranks.everyone({name: store.cost(subject.n) for name, store in stored.items()})[0]
    own = set()
    for name in sorted(stored, key=lambda name: -costs[name]):
        owner = load.index(min(load))
        load[owner] += costs[name]
        stored[name].hand_over(owner, ranks, subject.n, alike=len({kind[name] for kind in kinds}) == 1)
        if owner == ranks.rank:
            own.add(name)
    return frozenset(own)


def _row_norms(rows: Tensor) -> Tensor:
    """‖row‖² as (n, C) float64 for `rows` (n, C, q)."""
    return torch.linalg.vector_norm(rows, dim=2).double().square()
