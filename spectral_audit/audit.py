"""The street: a request becomes a report.

spec → checkpoint → model → probe → measurement → report. Nothing returns upstream.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn

from . import __version__
from .errors import AuditError, RefusedError, UsageError
from .explanations import Sheet
from .inputs.architecture import LoadedModel, build_model
from .inputs.builders import find_builder
from .inputs.checkpoint import Checkpoint, Trust, load_checkpoint
from .inputs.dataset import Probe, load_probe
from .inputs.spec import SPEC_KEY, SYNTHETIC, AuditSpec, DataSpec, data_at, find_spec, load_spec, spec_in_metadata
from .inputs.tokens import from_embedding
from .lenses.attribution import AttributionSettings, Callback
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
    data: str | None = None
    arch: str | None = None
    arch_kwargs: dict[str, object] = field(default_factory=dict)
    weights: str | None = None
    trust: Trust = "none"
    allow_partial: bool = False
    n: int | None = None
    seed: int | None = None
    device: DeviceName = "auto"
    dtype: DTypeName = "float32"
    chunk: int | None = None
    memory: str | None = None
    aggregation: Aggregation = "rss"
    regime: RegimeChoice = "auto"
    attribution: tuple[str, ...] = ()


@dataclass(frozen=True)
class Opened:
    """What a request names, opened and checked, with nothing measured yet.

    `model` takes `x`: the loaded model and the probe's inputs, or, for tokens, both from the embedding's output on.
    """

    spec: AuditSpec
    checkpoint: Checkpoint
    loaded: LoadedModel
    probe: Probe
    model: nn.Module
    x: Tensor
    findings: tuple[Finding, ...]


def audit(
    request: Request,
    progress: Progress = lambda stage, done, total: None,
    observe: Callable[[Sheet], None] | None = None,
) -> Report:
    """Audit one checkpoint; `observe` is handed pictures of a few attributions when the data are images.

    Raises `UsageError` or `RefusedError`, whose message names the file it is about.
    """
    progress("load", 0, None)
    device = choose_device(request.device)
    opened = open_request(request)
    with about(request.checkpoint, opened.probe):
        found = measure(
            opened.model,
            opened.x,
            opened.probe.y,
            loss=opened.spec.task.loss,
            settings=_settings(request, opened.spec, device, observe),
            progress=progress,
        )
    return _report(request, opened, found, device)


def open_request(request: Request) -> Opened:
    """The checkpoint, its architecture and its data, as the first of these says: `--spec`, the spec beside the
    checkpoint, the checkpoint's own metadata; where there is none of them, noise stands in for data.

    Raises as `audit` does.
    """
    path = request.spec or find_spec(request.checkpoint)
    stated = None if path is None else load_spec(path)
    weights = request.weights or (stated.model.weights if stated else None)
    checkpoint = load_checkpoint(request.checkpoint, trust=request.trust, weights=weights)
    spec = _overridden(request, stated or _own_spec(checkpoint))
    loaded = build_model(
        checkpoint,
        spec.model,
        spec_dir=spec.source.parent if spec.source else None,
        arch=request.arch,
        arch_kwargs=request.arch_kwargs,
        trust=request.trust,
        allow_partial=request.allow_partial,
    )
    probe = load_probe(spec, model=loaded.model, consent=request.trust != "none")
    model, x, findings = loaded.model, probe.x, probe.findings
    if not x.is_floating_point():
        with about(request.checkpoint, probe):
            model, x, said = from_embedding(model, x)
        findings = (*findings, said)
    return Opened(_with_loss(spec, model, x), checkpoint, loaded, probe, model, x, findings)


@contextmanager
def about(checkpoint: Path, probe: Probe) -> Iterator[None]:
    """Errors from here on are about this checkpoint on this data, and say so."""
    try:
        yield
    except AuditError as error:
        raise type(error)(
            f"{checkpoint} on {probe.path}: {error.message}",
            expected=error.expected,
            found=error.found,
            remedy=error.remedy,
        ) from error


def _own_spec(checkpoint: Checkpoint) -> AuditSpec:
    """What the checkpoint says of itself, else noise for data and defaults for the rest."""
    own = checkpoint.metadata.get(SPEC_KEY)
    if own is not None:
        return spec_in_metadata(own, checkpoint.path)
    return AuditSpec(data=data_at(DataSpec(Path()), SYNTHETIC, Path()))


def _overridden(request: Request, spec: AuditSpec) -> AuditSpec:
    """The spec with what the command line says otherwise."""
    n = spec.sample.n if request.n is None else request.n
    seed = spec.sample.seed if request.seed is None else request.seed
    if seed >= 2**63:
        raise UsageError(
            f"--seed {seed}: too large for a generator",
            expected="a whole number below 2**63",
            found=f"{seed.bit_length()} bits",
            remedy="choose a smaller seed",
        )
    data = spec.data if request.data is None else replace(data_at(spec.data, request.data, Path()), consent=True)
    return replace(spec, data=data, sample=replace(spec.sample, n=n, seed=seed))


def _with_loss(spec: AuditSpec, model: nn.Module, x: Tensor) -> AuditSpec:
    """Where nobody stated the task, a model of one output is taken for a binary classifier."""
    if spec.source is not None:
        return spec
    try:
        with torch.no_grad():
            out = model(x[:2])
    except (Exception, SystemExit):  # noqa: BLE001 (what runs the model next says why it fails)
        return spec
    one = isinstance(out, Tensor) and (out.ndim == 1 or out.shape[-1] == 1)
    return replace(spec, task=replace(spec.task, loss="bce")) if one else spec


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


def _settings(
    request: Request, spec: AuditSpec, device: str, observe: Callable[[Sheet], None] | None = None
) -> Settings:
    attribution, radius = spec.attribution, spec.attribution.radius
    methods = request.attribution or attribution.methods
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
            methods=methods,
            functions=_functions(request, spec, methods),
            target=attribution.target,
            sign=attribution.sign,
            channels=attribution.channels,
            radius=radius.value,
            relative=radius.relative,
            norm=radius.norm,
            space=radius.space,
            unit=unit,
            draws=attribution.draws,
            search_steps=attribution.search_steps,
            ig_steps=attribution.ig_steps,
            smooth_draws=attribution.smooth_draws,
            smooth_noise=attribution.smooth_noise,
            surrogate=attribution.surrogate,
            preset=attribution.preset,
            observe=observe,
        ),
    )


def _functions(request: Request, spec: AuditSpec, methods: tuple[str, ...]) -> dict[str, Callback]:
    """The user's own attribution methods; those named on the command line come with consent."""
    own = [name for name in methods if ":" in name]
    if own and not request.attribution and request.trust == "none":
        raise RefusedError(
            f"{spec.source}: attribution.methods names a function, which runs Python code",
            expected="your consent: the spec may have come with the checkpoint",
            found=f"{own[0]} and --trust none",
            remedy=f"read that code, then add --trust code, or name it yourself: --attribution {own[0]}",
        )
    folder = Path() if request.attribution or spec.source is None else spec.source.parent
    asked = "--attribution or `attribution.methods`"
    return {name: find_builder(name, folder, returns="attributions", asked=asked) for name in own}


def _report(request: Request, opened: Opened, found: Measurement, device: str) -> Report:
    spec, checkpoint, loaded, probe = opened.spec, opened.checkpoint, opened.loaded, opened.probe
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
            partial=bool(loaded.missing),
            globals=checkpoint.globals,
        ),
        data=DataInfo(
            path=probe.path,
            sha256=probe.sha256,
            probe_sha256=probe.probe_sha256,
            n=len(probe.x),
            available=probe.available,
            seed=spec.sample.seed,
            strategy=spec.sample.strategy,
            shape=tuple(opened.x.shape[1:]),
            accuracy=None if probe.y is None else found.accuracy,
            kind=probe.kind,
            synthetic=probe.synthetic,
        ),
        task=TaskInfo(
            type=spec.task.type,
            loss=spec.task.loss,
            outputs=found.outputs,
            loss_value=found.loss,
            gradient_norm=found.gradient_norm,
            classes=_classes(request, spec, found.outputs, probe.classes),
        ),
        engine=Engine(__version__, str(torch.__version__), device, request.dtype, found.regime),
        scales=found.scales,
        axes=found.axes,
        gmsi=found.gmsi,
        raw=found.raw,
        spectra=found.spectra,
        attribution=found.attribution,
        layers=found.layers,
        findings=(*_doubts(loaded), *opened.findings, *found.findings, *notes),
        cost=found.cost,
        samples=found.samples,
    )


def _doubts(loaded: LoadedModel) -> Iterator[Finding]:
    """What makes the audited model another one than the file's, perhaps."""
    if loaded.missing:
        left = "; ".join(loaded.missing)
        message = f"only a part of the weights was loaded, the rest is as the builder made it: {left}"
        yield Finding("checkpoint.partial", "warning", message)
    if loaded.assumed:
        yield Finding(
            "architecture.assumed",
            "warning",
            f"the architecture was recognised from names and shapes, which do not say: {'; '.join(loaded.assumed)}",
        )


def _classes(request: Request, spec: AuditSpec, outputs: int, known: tuple[str, ...]) -> tuple[str, ...]:
    """The spec's names, else those the data has, where there are as many as classes."""
    expected = max(2, outputs)
    if spec.task.classes and spec.task.type == "classification" and len(spec.task.classes) != expected:
        raise RefusedError(
            f"{request.checkpoint}: task.classes does not fit the model",
            expected=f"{expected} names, one for each class",
            found=f"{len(spec.task.classes)}",
            remedy=f"correct task.classes in {spec.source}",
        )
    return spec.task.classes or (known if len(known) == expected else ())
