"""A spec tried out: its data drawn as an audit would draw it and, where there is a model, run through it once."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch

from .admission import make_subject
from .errors import UsageError
from .findings import data_findings
from .inputs.data.dataset import Probe, load_probe
from .inputs.spec import AuditSpec, load_spec
from .measure import accuracy_of
from .opening import Opened, Request, about, open_request
from .results import Finding, Validation, Values

SUFFIXES = (".pt", ".pth", ".pt2", ".ckpt", ".bin", ".safetensors")


@dataclass(frozen=True)
class _Tried:
    """The model on the probe set."""

    opened: Opened
    outputs: int
    accuracy: float | None
    findings: tuple[Finding, ...]


def validate(request: Request | None, spec: Path, *, consent: bool = False) -> Validation:
    """Check the spec in a file and the data it names and, where a request names a model, run that on one draw.

    Raises what an audit would raise before it measures anything.
    """
    if request is None:
        stated = load_spec(spec)
        return _validation(stated, load_probe(stated, consent=consent), None)
    opened = open_request(request)
    with about(request.checkpoint, opened.probe):
        return _validation(opened.spec, opened.probe, _try(request, opened))


def model_beside(spec: Path) -> Path | None:
    """The checkpoint that `<stem>.audit.yaml` belongs to: the one file of that stem with a checkpoint's suffix.

    Raises `UsageError` when there are several.
    """
    if not spec.name.endswith(".audit.yaml"):
        return None
    stem = spec.name.removesuffix(".audit.yaml")
    found = [path for suffix in SUFFIXES if (path := spec.with_name(stem + suffix)).is_file()]
    if len(found) > 1:
        raise UsageError(
            f"{spec}: several models of its name stand beside it",
            expected="one",
            found=", ".join(path.name for path in found),
            remedy="name one: spectral-audit validate SPEC MODEL.",
        )
    return found[0] if found else None


def _try(request: Request, opened: Opened) -> _Tried:
    y = opened.probe.y
    subject = make_subject(opened.model, opened.x, y, loss=opened.spec.task.loss, dtype=request.dtype)
    outputs = subject.all_outputs()
    accuracy = accuracy_of(subject, outputs)
    findings = data_findings(subject, outputs, accuracy, predicted=y is None)
    return _Tried(opened, subject.outputs, None if y is None else accuracy, tuple(findings))


def _validation(spec: AuditSpec, probe: Probe, tried: _Tried | None) -> Validation:
    findings = tried.opened.findings + tried.findings if tried else (*probe.findings, *_without_model(probe))
    x, stored = probe.x.double(), probe.stored
    return Validation(
        spec=str(spec.source or ""),
        data=probe.path,
        kind=probe.kind,
        available=probe.available,
        n=len(probe.x),
        stored=Values(stored.dtype, stored.shape, stored.low, stored.high),
        inputs=Values(
            str(probe.x.dtype).removeprefix("torch."),
            tuple(probe.x.shape[1:]),
            float(x.min()),
            float(x.max()),
            float(x.mean()),
            float(x.std(correction=0)),
        ),
        labels=_labels(spec, probe),
        classes=_balance(spec, probe),
        probe_sha256=probe.probe_sha256,
        model=str(tried.opened.checkpoint.path) if tried else None,
        architecture=tried.opened.loaded.architecture if tried else None,
        outputs=tried.outputs if tried else None,
        accuracy=tried.accuracy if tried else None,
        findings=findings,
    )


def _without_model(probe: Probe) -> tuple[Finding, ...]:
    missing = Finding("model.none", "info", "no model was given or found beside the spec: only the data was checked")
    labels = Finding("labels.none", "warning", "no labels: an audit would take the class the model predicts")
    return (missing, labels) if probe.y is None else (missing,)


def _labels(spec: AuditSpec, probe: Probe) -> str:
    if probe.y is None:
        return "none"
    return "class numbers" if spec.task.type == "classification" else f"{probe.y.shape[1]} targets"


def _balance(spec: AuditSpec, probe: Probe) -> dict[str, int]:
    """How many samples of the draw each class has, by name where there are names."""
    if probe.y is None or spec.task.type != "classification":
        return {}
    names = spec.task.classes or probe.classes
    counts = torch.bincount(probe.y, minlength=len(names)).tolist()
    return {names[k] if k < len(names) else str(k): count for k, count in enumerate(counts) if count or k < len(names)}
