"""The street: a request becomes a report.

spec → checkpoint → model → probe → measurement → report. Nothing returns upstream.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import torch

from . import __version__
from .errors import RefusedError, UsageError
from .explanations import Sheet
from .inputs.architectures.architecture import LoadedModel
from .inputs.architectures.builders import find_builder
from .inputs.spec import AuditSpec
from .lenses.attribution import AttributionSettings, Callback
from .measure import Settings, measure
from .memory import memory_budget
from .opening import DeviceName, Opened, Request, about, open_request
from .ranks import ALONE, Ranks
from .results import SCHEMA, DataInfo, Engine, Finding, Measurement, ModelInfo, Report, TaskInfo
from .stages import Progress


def audit(
    request: Request,
    progress: Progress = lambda stage, done, total: None,
    observe: Callable[[Sheet], None] | None = None,
    ranks: Ranks = ALONE,
) -> Report:
    """Audit one checkpoint; `observe` is handed pictures of a few attributions when the data are images.

    Every one of the processes `ranks` that share an audit makes the same call and is given the same report.

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
            settings=replace(_settings(request, opened.spec, device, observe), ranks=ranks),
            progress=progress,
        )
    return _report(request, opened, found, device)


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
        advice=found.advice,
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


__all__ = ["Request", "audit", "choose_device"]
