"""From a request to what is measured: the spec, the checkpoint's model and the data, opened and checked."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn

from .errors import AuditError, UsageError
from .inputs.architectures.architecture import LoadedModel, build_model
from .inputs.checkpoints.checkpoint import Checkpoint, Trust, load_checkpoint
from .inputs.data.dataset import Probe, load_probe
from .inputs.data.tokens import from_embedding
from .inputs.spec import SPEC_KEY, SYNTHETIC, AuditSpec, DataSpec, data_at, find_spec, load_spec, spec_in_metadata
from .regimes import RegimeChoice
from .results import Finding
from .stability import Aggregation
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
