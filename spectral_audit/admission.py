"""From a model and a probe set to a subject: what must hold of both before anything is measured."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from .errors import AuditError, RefusedError, UsageError
from .losses import Loss, output_basis
from .memory import halving, keep_freed_memory, memory_budget, out_of_memory, samples_within
from .passes.fusion import fusible
from .ranks import ALONE, Ranks
from .subject import DTYPES, DTypeName, Subject, exact_arithmetic, first_line, outputs_2d

# The least and the most samples per pass chosen, and the bytes that a forward pass of one chunk should save.
_CHUNKS = (32, 256)
_CACHED = 6 * 2**20
# A second derivative holds about this many times what a forward pass saves.
_DOUBLE_BACKWARD = 4


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
