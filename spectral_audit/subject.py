"""What is measured: one model in eval mode on one probe set, on one device, in one dtype."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from .errors import RefusedError
from .losses import Loss, per_sample_loss
from .memory import samples_within
from .passes.fusion import Fused, fused
from .ranks import ALONE, Ranks

DTypeName = Literal["float32", "float64"]
DTYPES: dict[str, torch.dtype] = {"float32": torch.float32, "float64": torch.float64}
# Of the budget, for the pass of one chunk: stored rows, kernels, graphs and Lanczos vectors share the rest.
_PASS_SHARE = 2


@dataclass(frozen=True)
class Subject:
    """A model and its probe set, ready to be differentiated.

    `model` is a private copy in eval mode whose parameters do not require gradients; `x` (n, *shape) and `y` live on
    the same device and dtype; `outputs` C counts the columns of f(x); `basis` (C, C) is orthogonal with the output
    basis Q in its first `rank` C' columns (C' = C−1 for softmax heads, C otherwise); `chunk` samples go through the
    model at a time. The audit may use `memory` bytes; a forward pass saves `saved` bytes per sample for the backward
    pass (0 where the user fixed the chunk). `channels_last`: the model takes images in that layout too. `fused` are
    the convolutions that `forward_fused` runs in a faster way. `ranks` are the processes that share out the samples.
    """

    model: nn.Module
    x: Tensor
    y: Tensor
    loss: Loss
    outputs: int
    basis: Tensor
    rank: int
    chunk: int
    memory: int
    saved: int = 0
    channels_last: bool = False
    fused: Fused = field(default_factory=dict)
    ranks: Ranks = ALONE

    @property
    def n(self) -> int:
        """Number of probe samples."""
        return len(self.x)

    def parameters(self) -> dict[str, nn.Parameter]:
        """Every parameter tensor once (tied ones under their first name)."""
        return dict(self.model.named_parameters())

    def forward(self, x: Tensor) -> Tensor:
        """Model outputs (n, C) for `x` (n, *shape)."""
        return outputs_2d(self.model(x))

    def forward_fused(self, x: Tensor) -> Tensor:
        """The same to rounding, with norms folded into convolutions that are faster to differentiate, up to twice."""
        return outputs_2d(fused(self.model, self.fused, x.contiguous(memory_format=self._layout)))

    def leaf(self, x: Tensor) -> Tensor:
        """A copy of `x` to differentiate by, in the faster layout."""
        return x.clone(memory_format=self._layout).requires_grad_(True)

    @property
    def _layout(self) -> torch.memory_format:
        """Images channels last, where convolutions are faster."""
        return torch.channels_last if self.channels_last else torch.contiguous_format

    def all_outputs(self) -> Tensor:
        """Model outputs (n, C) float64 of the whole probe set, without a graph."""
        with torch.no_grad():
            (outputs,) = self.over_samples(lambda where: [self.forward(self.x[where])])
        return outputs.double()

    @property
    def shard(self) -> slice:
        """The samples that this process differentiates: all of them, unless several share the audit."""
        return self.ranks.shard(self.n)

    def chunks(self) -> Iterator[slice]:
        """Slices that cover the shard, as few as `chunk` samples at most allow, and as even in size as possible.

        Libraries prepare anew for every batch size that they meet.
        """
        own = self.shard
        count = own.stop - own.start
        size = -(-count // -(-count // self.chunk))
        for first in range(own.start, own.stop, size):
            yield slice(first, min(first + size, own.stop))

    def over_samples(self, work: Callable[[slice], Sequence[Tensor]]) -> list[Tensor]:
        """Rows (n, …) of all samples, from `work` on the chunks of every process, which gives rows (m, …)."""
        columns = zip(*map(work, self.chunks()), strict=True)
        return [self.ranks.rows(torch.cat(column), self.n) for column in columns]

    def alone(self) -> Subject:
        """The same with all samples in this process."""
        return replace(self, ranks=ALONE)

    def fitting(self, copies: int) -> Subject:
        """The same with chunks small enough to hold `copies` times what a forward pass saves, in half the memory."""
        if not self.saved:
            return self
        return replace(self, chunk=min(self.chunk, samples_within(self.memory // _PASS_SHARE, copies * self.saved)))

    def losses(self, outputs: Tensor, where: slice) -> Tensor:
        """Loss of each sample (m,) for `outputs` (m, C) of the samples in `where`."""
        return per_sample_loss(self.loss, outputs, self.y[where])

    @contextmanager
    def trainable(self) -> Iterator[dict[str, nn.Parameter]]:
        """The parameters, requiring gradients for the time being."""
        parameters = self.parameters()
        for p in parameters.values():
            p.requires_grad_(True)
        try:
            yield parameters
        finally:
            for p in parameters.values():
                p.requires_grad_(False)


def in_float64(subject: Subject, rows: Tensor) -> Subject:
    """The samples `rows` of a subject, and a copy of its model, in float64, as one chunk."""
    y = subject.y[rows]
    return replace(
        subject,
        model=copy.deepcopy(subject.model).double(),
        x=subject.x[rows].double(),
        y=y.double() if y.is_floating_point() else y,
        basis=subject.basis.double(),
        chunk=len(rows),
        ranks=ALONE,
    )


def outputs_2d(value: object) -> Tensor:
    """A model's output as (n, C); a single column may come as (n,). Raises `RefusedError` for anything else."""
    if not isinstance(value, Tensor):
        raise RefusedError(
            "the model does not return one tensor",
            expected="a tensor of shape (n, outputs)",
            found=type(value).__name__,
            remedy="wrap it in a module that returns the logits or the predictions",
        )
    if value.ndim == 1:
        return value[:, None]
    if value.ndim != 2:
        raise RefusedError(
            "the model's output is not one row per sample",
            expected="shape (n, outputs)",
            found=f"shape {tuple(value.shape)}",
            remedy="wrap it in a module that flattens or pools its output",
        )
    return value


@contextmanager
def exact_arithmetic() -> Iterator[None]:
    """Attention with a double backward, no fused inference paths, no reduced-precision matrix products."""
    fastpath = torch.backends.mha.get_fastpath_enabled()
    precision = torch.get_float32_matmul_precision()
    tf32 = torch.backends.cudnn.allow_tf32
    torch.backends.mha.set_fastpath_enabled(False)
    torch.set_float32_matmul_precision("highest")
    torch.backends.cudnn.allow_tf32 = False
    try:
        with sdpa_kernel(SDPBackend.MATH):
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fastpath)
        torch.set_float32_matmul_precision(precision)
        torch.backends.cudnn.allow_tf32 = tf32


def first_line(error: BaseException) -> str:
    """The first line of an exception's message, or its type when it has none."""
    text = str(error).strip().splitlines()
    return text[0][:200] if text else type(error).__name__
