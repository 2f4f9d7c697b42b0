"""From weights to a model: who builds the architecture."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import torch
from torch import nn

from spectral_audit.errors import RefusedError, UsageError, nearest
from spectral_audit.inputs.architectures.builders import call_builder, call_on_meta, find_builder, is_builtin
from spectral_audit.inputs.architectures.families import FAMILIES
from spectral_audit.inputs.architectures.filling import fill, listed, misfit, require_modest, shapes_of
from spectral_audit.inputs.architectures.recognise import recognise
from spectral_audit.inputs.checkpoints.checkpoint import Checkpoint, Trust
from spectral_audit.inputs.checkpoints.huggingface import describe, described_model, is_transformers, timm_name
from spectral_audit.inputs.checkpoints.inspection import ARCHITECTURE_KEY
from spectral_audit.inputs.spec import ModelSpec

KWARGS_KEY = "spectral_audit.kwargs"


@dataclass(frozen=True)
class LoadedModel:
    """A model in eval mode with the checkpoint's float32 weights, and a line on its architecture.

    `assumed` says what the file does not; `missing` what of the model is not from the file, when that was allowed.
    """

    model: nn.Module
    architecture: str
    notes: tuple[str, ...]
    assumed: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Plan:
    """A builder by name, its arguments, where names are looked up, and who named it."""

    builder: str
    kwargs: dict[str, object]
    folder: Path
    named_by: Literal["user", "metadata", "shapes"] = "user"
    assumed: tuple[str, ...] = ()

    def __str__(self) -> str:
        arguments = ", ".join(f"{key}={value!r}" for key, value in self.kwargs.items())
        return f"{self.builder}({arguments})"


def build_model(
    checkpoint: Checkpoint,
    spec: ModelSpec,
    *,
    spec_dir: Path | None,
    arch: str | None,
    arch_kwargs: dict[str, object],
    trust: Trust,
    allow_partial: bool = False,
) -> LoadedModel:
    """The model of a checkpoint: the one it brings along, or an architecture filled strictly with its weights.

    The architecture is `arch` (the command line, looked up from the working directory), else `spec.builder` (looked up
    from `spec_dir`), else the built-in family named in the checkpoint's metadata, else the one its config.json
    describes, else a built-in family recognised from names and shapes. With `allow_partial`, weights that fit are
    loaded and the rest is left as built.

    Raises:
        UsageError: the builder does not exist, does not take the arguments, or returns no module.
        RefusedError: there is no architecture, running it needs consent, it fails, or the weights do not fit.
    """
    if checkpoint.program is not None:
        given = arch or spec.builder
        unused = [f"`{given}` not used: a {checkpoint.brings} brings its architecture"] if given else []
        return LoadedModel(checkpoint.program, checkpoint.brings, tuple(unused))
    if arch is None and spec.builder is None and ARCHITECTURE_KEY not in checkpoint.metadata:
        described = _described(checkpoint, allow_partial=allow_partial)
        if described is not None:
            return described
    plan = _plan(checkpoint, spec, spec_dir=spec_dir, arch=arch, arch_kwargs=arch_kwargs, trust=trust)
    model = _built(checkpoint, plan).to(torch.float32)
    filled = fill(checkpoint, model, str(plan), allow_partial=allow_partial)
    return LoadedModel(model.eval(), str(plan), filled.notes, plan.assumed, filled.missing)


def _described(checkpoint: Checkpoint, *, allow_partial: bool) -> LoadedModel | None:
    """The model that a config.json of transformers describes; `None` where there is none."""
    if checkpoint.config is None or not is_transformers(checkpoint.config):
        return None
    name = describe(checkpoint.config)
    described = described_model(checkpoint.path, checkpoint.config)
    require_modest(checkpoint, name, described.empty())
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model, left = described.load()
    problems = [line for what, names in left.items() for line in listed(what, names)]
    if problems and not allow_partial:
        raise misfit(checkpoint, name, "\n".join(problems))
    return LoadedModel(model.eval(), name, (), missing=tuple(problems))


def _built(checkpoint: Checkpoint, plan: _Plan) -> nn.Module:
    try:
        builder = find_builder(plan.builder, plan.folder)
        if is_builtin(plan.builder):
            require_modest(checkpoint, str(plan), call_on_meta(builder, plan.builder, plan.kwargs))
        return call_builder(builder, plan.builder, plan.kwargs, plan.folder)
    except UsageError as error:
        if plan.named_by == "shapes":
            raise _no_architecture(checkpoint) from None
        if plan.named_by == "user" and not is_builtin(plan.builder):
            raise  # it names the builder's file
        if plan.named_by == "user":
            raise UsageError(
                f"{checkpoint.path}: {error.message}",
                expected=error.expected,
                found=error.found,
                remedy=error.remedy,
            ) from None
        # The user named nothing: it is the file's own header that is wrong.
        raise RefusedError(
            f"{checkpoint.path}: the architecture in its metadata cannot be built: {error.message}",
            expected=error.expected,
            found=str(plan)[:300],
            remedy="give the architecture with --arch, or write the metadata again.",
        ) from None


def _plan(
    checkpoint: Checkpoint,
    spec: ModelSpec,
    *,
    spec_dir: Path | None,
    arch: str | None,
    arch_kwargs: dict[str, object],
    trust: Trust,
) -> _Plan:
    folder = spec_dir or Path()
    if arch is not None:
        # The spec's arguments belong to the spec's builder; another one starts without them.
        kept = spec.kwargs if spec.builder in (None, arch) else {}
        return _Plan(arch, {**kept, **arch_kwargs}, Path())
    if spec.builder is not None:
        if trust == "none" and not is_builtin(spec.builder):
            raise RefusedError(
                f"{checkpoint.path}: its spec names a builder, which runs Python code",
                expected="your consent: the spec may have come with the checkpoint",
                found=f"`model.builder: {spec.builder}` and --trust none",
                remedy=f"read that code, then add --trust code, or name it yourself: --arch {spec.builder}.",
            )
        return _Plan(spec.builder, {**spec.kwargs, **arch_kwargs}, folder)
    if ARCHITECTURE_KEY in checkpoint.metadata:
        return _metadata_plan(checkpoint, {**spec.kwargs, **arch_kwargs})
    found = recognise(shapes_of(checkpoint.tensors))
    if found is not None:
        # Arguments given without a builder correct what was assumed.
        given = {**spec.kwargs, **arch_kwargs}
        plan = _Plan(found.family, {**found.kwargs, **given}, Path(), assumed=found.assumed)
        return plan if given else replace(plan, named_by="shapes")
    raise _no_architecture(checkpoint)


def _metadata_plan(checkpoint: Checkpoint, overrides: dict[str, object]) -> _Plan:
    """The family named in the file's own header, which may name built-in ones only."""
    family = checkpoint.metadata[ARCHITECTURE_KEY]
    text = checkpoint.metadata.get(KWARGS_KEY, "{}")
    if family not in FAMILIES:
        raise RefusedError(
            f"{checkpoint.path}: its metadata names an architecture that is not built in",
            expected=f"one of: {', '.join(sorted(FAMILIES))}",
            found=f"{ARCHITECTURE_KEY} = {family[:80]!r}",
            remedy=f"give the architecture with --arch; {nearest(family[:80], FAMILIES)}.",
        )
    try:
        kwargs = json.loads(text)
    except (ValueError, RecursionError):
        kwargs = None
    if not isinstance(kwargs, dict):
        raise RefusedError(
            f"{checkpoint.path}: the architecture's arguments in its metadata cannot be read",
            expected=f"{KWARGS_KEY} = a JSON object",
            found=text[:80],
            remedy="give the architecture with --arch, or write the metadata again.",
        )
    return _Plan(family, {**kwargs, **overrides}, Path(), "metadata")


def _no_architecture(checkpoint: Checkpoint) -> RefusedError:
    weights = [(name, t) for name, t in checkpoint.tensors.items() if t.dim() > 1]
    ends = [f"{name} {tuple(tensor.shape)}" for name, tensor in (weights[:1] + weights[1:][-1:])]
    timm = timm_name(checkpoint.config or {})
    called = f"--arch timm:create_model --arch-kwargs model_name={timm}    (pip install timm)\n" if timm else ""
    return RefusedError(
        f"{checkpoint.path}: holds weights only, and nothing says which architecture they belong to",
        expected=f"a builder, a built-in family ({', '.join(sorted(FAMILIES))}), or an exported program",
        found=f"{len(checkpoint.tensors)} tensors, {' to '.join(ends) or 'none with two or more axes'}",
        remedy=f"one of:\n{called}"
        "--arch net.py:build                    (a function that returns the model)\n"
        "`model.builder` and `model.kwargs` in audit.yaml\n"
        f"safetensors metadata {ARCHITECTURE_KEY} and {KWARGS_KEY}\n"
        "torch.export.save(torch.export.export(model.eval(), inputs), 'model.pt2')",
    )
