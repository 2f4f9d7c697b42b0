"""What must be said aloud in a report, from facts the measurement already has."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from .results import Finding, Severity
from .subject import Subject
from .sweep import Study

_SATURATED = 0.999
_NAMED = 4


def model_findings(original: nn.Module, plan: Study) -> Iterator[Finding]:
    """Facts about the model that no figure shows."""
    if any("batch_norm" in uses for uses in plan.uses.values()) or _has_batch_norm(original):
        yield _finding(
            "batchnorm.eval", "info", "BatchNorm ran in eval mode; with batch statistics the Hessian differs"
        )
    if plan.scale_invariant:
        yield _finding(
            "weights.scale_invariant",
            "info",
            f"the outputs ignore the length of {_names(plan.scale_invariant)}: curvature along it is zero, and "
            "elsewhere it depends on that length",
        )
    if plan.piecewise_linear:
        yield _finding(
            "input.piecewise_linear",
            "info",
            "the model is piecewise linear in its input: the input Hessian is zero almost everywhere, which is not "
            "stability",
        )
    frozen = [name for name, p in original.named_parameters() if not p.requires_grad]
    if frozen:
        yield _finding(
            "parameters.frozen", "info", f"frozen in the checkpoint and audited all the same: {_names(frozen)}"
        )
    shared = Counter(id(p) for _, p in original.named_parameters(remove_duplicate=False))
    tied = [name for name, p in original.named_parameters() if shared[id(p)] > 1]
    if tied:
        yield _finding("parameters.tied", "info", f"tied parameters are counted once: {_names(tied)}")
    if plan.unused:
        yield _finding("parameters.unused", "warning", f"these do not reach the output: {_names(plan.unused)}")
    if plan.generic:
        yield _finding(
            "engine.generic",
            "info",
            f"no contraction rule, so one backward pass per sample and output: {_names(plan.generic)}",
        )


def data_findings(subject: Subject, outputs: Tensor, accuracy: float | None, *, predicted: bool) -> Iterator[Finding]:
    """Facts about the probe set: chance accuracy, saturation, missing labels."""
    if predicted:
        yield _finding(
            "labels.predicted",
            "warning",
            "no labels: the predicted class stands in, so loss and curvature are optimistic",
        )
    if accuracy is not None and not predicted:
        share = _largest_class(subject.y)
        limit = share + 2 * math.sqrt(share * (1 - share) / subject.n)
        if accuracy <= limit:
            yield _finding(
                "accuracy.chance",
                "warning",
                f"accuracy {accuracy:.1%} is no better than naming one class ({share:.1%}): check normalisation and "
                "label map",
            )
    confidence = _confidence(subject, outputs)
    if confidence is not None and confidence > _SATURATED:
        yield _finding(
            "softmax.saturated",
            "warning",
            f"half of the samples have a probability of at least {min(confidence, 0.9999):.4f}: the loss is flat "
            "because the model is confident",
        )


def no_input_gradient() -> Finding:
    """The input axis is zero because nothing can be differentiated, not because the model is stable."""
    return _finding(
        "input.no_gradient",
        "warning",
        "no gradient reaches the input (it is rounded or used as an index): the input axis says nothing here",
    )


def regime_finding(rows: int) -> Finding:
    """What the Krylov regime leaves unmeasured."""
    return _finding(
        "engine.krylov",
        "info",
        f"kernels of {rows:,} rows were multiplied with and not formed: λmax of the trace-style kernel and the "
        "effective ranks of the input and weights axes are not measured",
    )


def ranks_finding(processes: int) -> Finding:
    """What sharing an audit changes: the last digits of sums."""
    return _finding("engine.ranks", "info", f"{processes} processes shared the samples of this audit out among them")


def memory_finding(chosen: int, last: int) -> Finding:
    """What running out of memory changed: the time, and the last digits of sums."""
    return _finding(
        "engine.memory",
        "info",
        f"memory ran out: chunks were halved from {chosen} to {last} samples, and the audit went on",
    )


def undefined_finding(reason: str) -> Finding:
    """The index has no value."""
    return _finding("index.undefined", "error", f"the index is undefined: {reason}")


def _finding(code: str, severity: Severity, message: str) -> Finding:
    return Finding(code, severity, message)


def _names(names: list[str] | tuple[str, ...]) -> str:
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return ", ".join(names[:_NAMED]) + more


def _has_batch_norm(model: nn.Module) -> bool:
    return any(isinstance(m, nn.modules.batchnorm._BatchNorm) for m in model.modules())


def _largest_class(y: Tensor) -> float:
    return float(torch.bincount(y.cpu()).max()) / len(y)


def _confidence(subject: Subject, outputs: Tensor) -> float | None:
    """The median over samples of the largest class probability."""
    if subject.loss == "mse":
        return None
    p = outputs.softmax(1).amax(1) if subject.loss == "cross_entropy" else outputs[:, 0].abs().sigmoid()
    return float(p.median())
