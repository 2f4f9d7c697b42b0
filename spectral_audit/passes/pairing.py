"""Gradients along cotangents, by way of a number.

Given cotangents, `torch.autograd.grad` loads torch's symbolic algebra, which takes half a second.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def paired(outputs: Sequence[Tensor], cotangents: Sequence[Tensor]) -> Tensor:
    """Σ_k ⟨outputs_k, cotangents_k⟩, a number with a graph, with the gradient of the outputs along them."""
    return torch.stack([(f * c).sum() for f, c in zip(outputs, cotangents, strict=True)]).sum()
