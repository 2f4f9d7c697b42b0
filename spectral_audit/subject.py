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

from .errors import AuditError, RefusedError, UsageError
from .fusion import Fused, fused, fusible
from .losses import Loss, output_basis, per_sample_loss
from .memory import halving, keep_freed_memory, memory_budget, out_of_memory, samples_within
from .ranks import ALONE, Ranks

DTypeName = Literal["float32", "float64"]
DTYPES: dict[str, torch.dtype] = {"float32": torch.float32, "float64": torch.float64}
# The least and the most samples per pass chosen, and the bytes that a forward pass of one chunk should save.
_CHUNKS = (32, 256)
_CACHED = 6 * 2**20
# Of the budget, for the pass of one chunk: stored rows, kernels, graphs and Lanczos vectors share the rest.
_PASS_SHARE = 2
# A second derivative holds about this many times what a forward pass saves.
_DOUBLE_BACKWARD = 4


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


def make_subject(
    model: nn.Module,
    x: Tensor,
    y: Tensor | None,
    *,
    loss: Loss,
    device: str = "cpu",
    dtype: DTypeName = "float32",
    chunk: int | None = None,
    memory: int | None = None,
    ranks: Ranks = ALONE,
) -> Subject:
    """Copy `model` to `device` and `dtype` in eval mode, run it once, and check that the probe set fits it.

    `chunk` is chosen to fit into `memory` bytes (by default a share of what is free) when not given. `y` may be `None`
    for classifiers: the predicted class is the label then. Raises `RefusedError` when the model does not run on `x`,
    mixes the samples of a batch, gives non-finite outputs, or when labels do not fit its outputs.
    """
    x = x.to(device=device, dtype=DTYPES[dtype])
    keep_freed_memory()
    _require_real(model)
    own = _copy(model)
    for module in own.modules():
        module.training = False
    own = own.to(device=device, dtype=DTYPES[dtype]).requires_grad_(False)
    memory = memory_budget(None, device) if memory is None else memory
    # What follows from memory, such as the length of a Lanczos basis, is the same in all processes.
    memory = min(ranks.everyone(memory // ranks.sharing))
    f, usable = halving(min(chunk or _CHUNKS[0], len(x)), lambda size: _outputs(own, x, size))
    outputs = f.shape[1]
    _check_samples_apart(own, x, f)
    labels = _labels(y, f, loss).to(device=device)
    if loss == "mse":
        labels = labels.to(DTYPES[dtype])
    ranks.require_enough(len(x))
    ranks.require_same(f, labels)
    basis, rank = output_basis(outputs, loss)
    saved = 0 if chunk else saved_bytes(own, x[:2])
    if not chunk and usable == min(_CHUNKS[0], len(x)):
        usable = min(cached_chunk(saved), len(x))
    with exact_arithmetic():
        quick = fusible(own, x.split(usable), f)
    subject = Subject(
        *(own, x, labels, loss, outputs, basis.to(x), rank, min(ranks.everyone(usable)), memory, saved),
        _takes_channels_last(own, x[:2]),
        quick,
        ranks,
    )
    return subject.fitting(_DOUBLE_BACKWARD)


def _takes_channels_last(model: nn.Module, x: Tensor) -> bool:
    """Whether the model runs on images in this layout, which `view` may not be able to flatten."""
    if x.ndim != 4:
        return False
    try:
        with torch.no_grad(), exact_arithmetic():
            model(x.clone(memory_format=torch.channels_last))
    except RuntimeError:
        return False
    return True


def _copy(model: nn.Module) -> nn.Module:
    try:
        return copy.deepcopy(model)
    except RuntimeError as error:
        raise RefusedError(
            "the model cannot be copied",
            expected="a module whose tensors are parameters or buffers",
            found=first_line(error),
            remedy="remove old-style reparametrisations (torch.nn.utils.remove_weight_norm) and cached results",
        ) from error


def _require_real(model: nn.Module) -> None:
    named = [*model.named_parameters(), *model.named_buffers()]
    found = [name for name, t in named if t.is_complex()]
    if found:
        raise RefusedError(
            "the model has complex weights",
            expected="real parameters and buffers",
            found=", ".join(found[:4]),
            remedy="store real and imaginary parts as separate parameters",
        )


def cached_chunk(saved: int) -> int:
    """Samples per pass that save `saved` bytes each: few enough to stay in a cache, enough to amortise the calls."""
    return min(_CHUNKS[1], max(_CHUNKS[0], samples_within(_CACHED, saved)))


def saved_bytes(model: nn.Module, x: Tensor) -> int:
    """Bytes per sample, beside weights and buffers, that a forward pass over `x` (m, *shape) saves for backward.

    `model` is a private copy whose parameters do not require gradients.
    """
    weights = [*model.parameters(), *model.buffers()]
    known = {t.untyped_storage().data_ptr() for t in weights}
    held: dict[int, int] = {}

    def note(t: Tensor) -> Tensor:
        storage = t.untyped_storage()
        if storage.data_ptr() not in known:
            held[storage.data_ptr()] = storage.nbytes()
        return t

    with exact_arithmetic(), torch.autograd.graph.saved_tensors_hooks(note, lambda t: t):
        model.requires_grad_(True)
        try:
            # The output keeps the graph alive, so that no storage is used, and counted, twice.
            output = model(x.clone().requires_grad_(True))
        finally:
            model.requires_grad_(False)
    del output
    return -(-sum(held.values()) // len(x))


def _outputs(model: nn.Module, x: Tensor, chunk: int) -> Tensor:
    if len(x) < 2:
        raise RefusedError(
            "the probe set is too small",
            expected="at least 2 samples",
            found=f"{len(x)}",
            remedy="give more samples: `sample.n` in the spec, or a longer data file",
        )
    try:
        with torch.no_grad(), exact_arithmetic():
            f = torch.cat([outputs_2d(model(part)) for part in x.split(chunk)])
    except AuditError:
        raise
    except (Exception, SystemExit) as error:  # the model's own code runs here, and may end in any way
        if out_of_memory(error):
            raise
        raise RefusedError(
            "the model does not run on this data",
            expected="an input shape the model accepts",
            found=f"inputs of shape {tuple(x.shape[1:])} per sample; the model says: {first_line(error)}",
            remedy="check `input.layout` and the data's shape against the architecture",
        ) from error
    if not f.is_floating_point():
        raise RefusedError(
            "the model's outputs cannot be differentiated",
            expected="real numbers: logits or predictions",
            found=f"dtype {str(f.dtype).removeprefix('torch.')}",
            remedy="wrap it in a module that returns what it decides from, not the decision",
        )
    bad = ~f.isfinite().all(1)
    if bad.any():
        raise RefusedError(
            "the model's outputs are not finite",
            expected="finite logits or predictions",
            found=f"NaN or infinity for {int(bad.sum())} of {len(x)} samples, first at index {int(bad.nonzero()[0])}",
            remedy="check the weights and the normalisation of the inputs",
        )
    return f


def _check_samples_apart(model: nn.Module, x: Tensor, f: Tensor) -> None:
    """Refuse a model whose output for one sample depends on the others in the batch."""
    spread = float(f.abs().max())
    tolerance = max(1e4 * torch.finfo(f.dtype).eps * spread, torch.finfo(f.dtype).tiny)
    # In other company, in another order, and beside themselves: batch statistics, recurrences along the batch axis and
    # maxima over it all show up in one of these.
    spread_out = torch.linspace(0, len(x) - 1, min(len(x), 8)).round().long()
    companies = [spread_out.flip(0), *(i.repeat(2) for i in spread_out), *spread_out.flip(0).split(3)]
    with torch.no_grad(), exact_arithmetic():
        for rows in companies:
            out, again = outputs_2d(model(x[rows])), outputs_2d(model(x[rows]))
            fits = len(out) == len(again) == len(rows)
            if fits and float((again - out).abs().max()) > tolerance:
                raise RefusedError(
                    "the model's outputs are random",
                    expected="the same output for the same input in eval mode",
                    found=f"a difference of {float((again - out).abs().max()):.3g} between two runs",
                    remedy="make dropout and sampling depend on self.training",
                )
            difference = float((out - f[rows]).abs().max()) if fits else torch.inf
            if difference > tolerance:
                break
    if difference > tolerance:
        raise RefusedError(
            "the model mixes the samples of a batch",
            expected="the same output for a sample in any company",
            found=f"a difference of {difference:.3g}",
            remedy="normalise with running statistics (track_running_stats=True) or per sample in eval mode",
        )


def _labels(y: Tensor | None, f: Tensor, loss: Loss) -> Tensor:
    """Labels that fit the outputs `f` (n, C); predicted classes when there are none."""
    outputs = f.shape[1]
    if (loss == "cross_entropy" and outputs < 2) or (loss == "bce" and outputs != 1):
        raise UsageError(
            f"task.loss: {loss} does not fit this model",
            expected="one output for bce, two or more for cross_entropy",
            found=f"{outputs} output{'s' * (outputs != 1)}",
            remedy="set task.loss to the loss the model was trained with",
        )
    if y is None:
        if loss == "mse":
            raise UsageError(
                "a regression audit needs targets", expected="data.y", found="no labels", remedy="name them in the spec"
            )
        return f.argmax(1) if loss == "cross_entropy" else (f[:, 0] > 0).long()
    if loss == "mse":
        y = y[:, None] if y.ndim == 1 else y
        if y.shape != f.shape:
            raise RefusedError(
                "the targets do not fit the model's outputs",
                expected=f"shape {tuple(f.shape)}",
                found=f"shape {tuple(y.shape)}",
                remedy="check data.y and the architecture's number of outputs",
            )
        return y
    classes = max(2, outputs)
    wrong = (y < 0) | (y >= classes)
    if wrong.any():
        at = int(wrong.nonzero()[0])
        raise RefusedError(
            "labels are out of the model's range",
            expected=f"integers from 0 to {classes - 1}",
            found=f"{int(wrong.sum())} outside, first {int(y[at])} at probe index {at}",
            remedy="check data.y and the number of classes of the architecture",
        )
    return y.long()


def first_line(error: BaseException) -> str:
    """The first line of an exception's message, or its type when it has none."""
    text = str(error).strip().splitlines()
    return text[0][:200] if text else type(error).__name__
