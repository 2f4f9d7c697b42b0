"""The street: a request becomes a report.

spec → checkpoint → model → probe → measurement → report. Nothing returns upstream.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

import torch

from . import __version__
from .errors import AuditError, RefusedError, UsageError
from .inputs.architecture import LoadedModel, build_model
from .inputs.checkpoint import Checkpoint, Trust, load_checkpoint
from .inputs.dataset import Probe, load_probe
from .inputs.spec import AuditSpec, find_spec, load_spec
from .lenses.attribution import AttributionSettings
from .measure import Settings, measure
from .memory import memory_budget
from .regimes import RegimeChoice
from .results import SCHEMA, DataInfo, Engine, Finding, Measurement, ModelInfo, Report, TaskInfo
from .stability import Aggregation
from .stages import Progress
from .subject import DTypeName

DeviceName = Literal["auto", "cpu", "cuda", "mps"]


@dataclass(frozen=True)
class Request:
    """What the user asked for; `None` leaves a choice to the spec or to the tool."""

    checkpoint: Path
    spec: Path | None = None
    arch: str | None = None
    arch_kwargs: dict[str, object] = field(default_factory=dict)
    weights: str | None = None
    trust: Trust = "none"
    n: int | None = None
    seed: int | None = None
    device: DeviceName = "auto"
    dtype: DTypeName = "float32"
    chunk: int | None = None
    memory: str | None = None
    aggregation: Aggregation = "rss"
    regime: RegimeChoice = "auto"


def audit(request: Request, progress: Progress = lambda stage, done, total: None) -> Report:
    """Audit one checkpoint.

    Raises `UsageError` or `RefusedError`, whose message names the file it is about.
    """
    progress("load", 0, None)
    spec = _spec(request)
    device = choose_device(request.device)
    checkpoint = load_checkpoint(request.checkpoint, trust=request.trust, weights=request.weights or spec.model.weights)
    loaded = build_model(
        checkpoint,
        spec.model,
        spec_dir=spec.source.parent if spec.source else None,
        arch=request.arch,
        arch_kwargs=request.arch_kwargs,
        trust=request.trust,
    )
    probe = load_probe(spec)
    try:
        found = measure(
            loaded.model,
            probe.x,
            probe.y,
            loss=spec.task.loss,
            settings=_settings(request, spec, device),
            progress=progress,
        )
    except AuditError as error:
        raise type(error)(
            f"{request.checkpoint} on {probe.path}: {error.message}",
            expected=error.expected,
            found=error.found,
            remedy=error.remedy,
        ) from error
    return _report(request, spec, checkpoint, loaded, probe, found, device)


def _spec(request: Request) -> AuditSpec:
    path = request.spec or find_spec(request.checkpoint)
    if path is None:
        # A missing checkpoint is the more useful thing to hear about.
        if not request.checkpoint.exists():
            load_checkpoint(request.checkpoint)
        raise UsageError(
            f"{request.checkpoint}: nothing says which data to audit it on",
            expected=f"--spec FILE, or {request.checkpoint.stem}.audit.yaml or audit.yaml beside the checkpoint",
            found="none of them",
            remedy="write an audit.yaml; its one required key is data.path",
        )
    spec = load_spec(path)
    n = spec.sample.n if request.n is None else request.n
    seed = spec.sample.seed if request.seed is None else request.seed
    if seed >= 2**63:
        raise UsageError(
            f"--seed {seed}: too large for a generator",
            expected="a whole number below 2**63",
            found=f"{seed.bit_length()} bits",
            remedy="choose a smaller seed",
        )
    return replace(spec, sample=replace(spec.sample, n=n, seed=seed))


def choose_device(name: DeviceName) -> str:
    """The device to run on; `auto` takes CUDA, else the CPU: sums run in float64, which MPS does not have."""
    here = ["cpu", "cuda"] if torch.cuda.is_available() else ["cpu"]
    if name == "auto":
        return here[-1]
    if name not in here:
        raise UsageError(
            f"--device {name}: no such device here" if name == "cuda" else f"--device {name}: it has no float64",
            expected=", ".join(here),
            found=name,
            remedy="choose another device, or install a torch build for it" if name == "cuda" else "add --device cpu",
        )
    return name


def _settings(request: Request, spec: AuditSpec, device: str) -> Settings:
    radius = spec.attribution.radius
    # One unit of pixel space is 1/std of the model's input, channel by channel.
    unit = torch.tensor(spec.input.std, dtype=torch.float64).reciprocal()
    return Settings(
        seed=spec.sample.seed,
        device=device,
        dtype=request.dtype,
        chunk=request.chunk,
        memory=memory_budget(request.memory, device),
        aggregation=request.aggregation,
        regime=request.regime,
        attribution=AttributionSettings(
            target=spec.attribution.target,
            radius=radius.value,
            relative=radius.relative,
            norm=radius.norm,
            space=radius.space,
            unit=unit,
        ),
    )


def _report(
    request: Request,
    spec: AuditSpec,
    checkpoint: Checkpoint,
    loaded: LoadedModel,
    probe: Probe,
    found: Measurement,
    device: str,
) -> Report:
    notes = tuple(Finding("checkpoint.note", "info", note) for note in (*checkpoint.notes, *loaded.notes))
    return Report(
        schema=SCHEMA,
        model=ModelInfo(
            path=str(request.checkpoint),
            format=checkpoint.format,
            sha256=checkpoint.sha256,
            parameters=sum(p.numel() for p in loaded.model.parameters()),
            architecture=loaded.architecture,
            dtypes=checkpoint.dtypes,
            trust=request.trust,
        ),
        data=DataInfo(
            path=probe.path,
            sha256=probe.sha256,
            probe_sha256=probe.probe_sha256,
            n=len(probe.x),
            available=probe.available,
            seed=spec.sample.seed,
            strategy=spec.sample.strategy,
            shape=tuple(probe.x.shape[1:]),
            accuracy=found.accuracy,
        ),
        task=TaskInfo(
            type=spec.task.type,
            loss=spec.task.loss,
            outputs=found.outputs,
            loss_value=found.loss,
            gradient_norm=found.gradient_norm,
            classes=_classes(request, spec, found.outputs),
        ),
        engine=Engine(__version__, str(torch.__version__), device, request.dtype, found.regime),
        scales=found.scales,
        axes=found.axes,
        gmsi=found.gmsi,
        raw=found.raw,
        spectra=found.spectra,
        attribution=found.attribution,
        layers=found.layers,
        findings=(*found.findings, *notes),
        cost=found.cost,
        samples=found.samples,
    )


def _classes(request: Request, spec: AuditSpec, outputs: int) -> tuple[str, ...]:
    expected = max(2, outputs)
    if spec.task.classes and spec.task.type == "classification" and len(spec.task.classes) != expected:
        raise RefusedError(
            f"{request.checkpoint}: task.classes does not fit the model",
            expected=f"{expected} names, one for each class",
            found=f"{len(spec.task.classes)}",
            remedy=f"correct task.classes in {spec.source}",
        )
    return spec.task.classes
