"""The fallback for any parameter without a rule: its per-sample Jacobian.

The base path, right for everything that autograd can differentiate, is one backward pass per sample and output. Batched
over samples and outputs it is many times faster, but some operations refuse to be batched (GRU) and scripted modules
cannot be called with other parameters; so the batched path is used where it agrees with the base path on two samples.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.func import functional_call, jacrev, vmap

from spectral_audit.subject import Subject, exact_arithmetic, outputs_2d

# Gradient rows of one batched pass, in bytes.
_BATCH_MEMORY = 256 * 2**20

Rows = dict[str, Tensor]


def generic_rows(subject: Subject, names: Sequence[str], basis: Tensor) -> Rows:
    """∂(Bᵀf)/∂θ_t at every sample of the shard, {name: (m, C', p_t)}, for an output `basis` B (C, C')."""
    with exact_arithmetic(), subject.trainable() as parameters:
        sure = [_one_by_one(subject, names, x, basis) for x in subject.x[:2].split(1)]
        if _batching_is_right(subject, names, sure, basis):
            entries = sum(parameters[name].numel() for name in names) * basis.shape[1] * subject.x.element_size()
            step, rows_of = max(1, _BATCH_MEMORY // entries), _batched
        else:
            step, rows_of = 1, _one_by_one
        parts = []
        for x in subject.x[subject.shard].split(step):
            parts.append(rows_of(subject, names, x, basis))
    return {name: torch.cat([part[name] for part in parts]) for name in names}


def _one_by_one(subject: Subject, names: Sequence[str], x: Tensor, basis: Tensor) -> Rows:
    """The rows of one sample `x` (1, *shape), one backward pass per output."""
    parameters = subject.parameters()
    chosen = [parameters[name] for name in names]
    out = (subject.forward(x) @ basis)[0]
    per_output = [torch.autograd.grad(f, chosen, retain_graph=True, materialize_grads=True) for f in out]
    return {
        name: torch.stack([g.flatten() for g in gradients])[None]
        for name, gradients in zip(names, zip(*per_output, strict=True), strict=True)
    }


def _batched(subject: Subject, names: Sequence[str], x: Tensor, basis: Tensor) -> Rows:
    """The rows of all samples in `x` (m, *shape) in one reverse-mode pass."""
    parameters = subject.parameters()

    def single(chosen: Rows, one: Tensor) -> Tensor:
        return (outputs_2d(functional_call(subject.model, chosen, (one[None],))) @ basis)[0]

    with warnings.catch_warnings():
        # Operations without a batching rule warn that they are slow; here they are still the faster way.
        warnings.simplefilter("ignore", UserWarning)
        jacobian = vmap(jacrev(single), (None, 0))({name: parameters[name].detach() for name in names}, x)
    return {name: rows.detach().reshape(len(x), basis.shape[1], -1) for name, rows in jacobian.items()}


def _batching_is_right(subject: Subject, names: Sequence[str], sure: list[Rows], basis: Tensor) -> bool:
    try:
        fast = _batched(subject, names, subject.x[:2], basis)
    except (RuntimeError, ValueError, NotImplementedError):
        return False
    tolerance = 1e4 * torch.finfo(subject.x.dtype).eps
    return all(
        bool((fast[name][i] - sure[i][name][0]).norm() <= tolerance * sure[i][name].norm())
        for name in names
        for i in range(2)
    )
