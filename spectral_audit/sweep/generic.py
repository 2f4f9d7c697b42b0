"""The fallback for any parameter without a rule: its per-sample Jacobian, one backward pass per sample and output."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from spectral_audit.subject import Subject, exact_arithmetic


def generic_rows(subject: Subject, names: Sequence[str], advance: Callable[[int], None]) -> dict[str, Tensor]:
    """∂(Bᵀf)/∂θ_t at every sample, {name: (n, C, p_t)}, for the orthogonal output basis B of `subject`.

    `advance(samples)` is told about progress.
    """
    rows: dict[str, list[Tensor]] = {name: [] for name in names}
    with subject.trainable() as parameters, exact_arithmetic():
        chosen = [parameters[name] for name in names]
        for x in subject.x.split(1):
            out = (subject.forward(x) @ subject.basis)[0]
            per_output = [torch.autograd.grad(f, chosen, retain_graph=True, materialize_grads=True) for f in out]
            for name, gradients in zip(names, zip(*per_output, strict=True), strict=True):
                rows[name].append(torch.stack([g.flatten() for g in gradients]))
            advance(1)
    return {name: torch.stack(parts) for name, parts in rows.items()}
