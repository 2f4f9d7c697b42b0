"""From weights to a model: who builds the architecture, and whether the weights fit it exactly."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from spectral_audit.errors import AuditError, RefusedError, UsageError, nearest
from spectral_audit.inputs.builders import call_builder, find_builder, is_builtin
from spectral_audit.inputs.checkpoint import Checkpoint, Trust
from spectral_audit.inputs.families import FAMILIES
from spectral_audit.inputs.inspection import ARCHITECTURE_KEY
from spectral_audit.inputs.spec import ModelSpec

KWARGS_KEY = "spectral_audit.kwargs"
_LISTED = 8


@dataclass(frozen=True)
class LoadedModel:
    """A model in eval mode with the checkpoint's float32 weights, and a line on its architecture."""

    model: nn.Module
    architecture: str
    notes: tuple[str, ...]


@dataclass(frozen=True)
class _Plan:
    """A builder by name, its arguments, where names are looked up, and whether the checkpoint itself named it."""

    builder: str
    kwargs: dict[str, object]
    folder: Path
    from_file: bool = False

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
) -> LoadedModel:
    """The model of a checkpoint: its own program, or an architecture filled strictly with its weights.

    The architecture is `arch` (the command line, looked up from the working directory), else `spec.builder` (looked up
    from `spec_dir`), else the built-in family named in the checkpoint's metadata.

    Raises:
        UsageError: the builder does not exist, does not take the arguments, or returns no module.
        RefusedError: there is no architecture, running it needs consent, it fails, or the weights do not fit.
    """
    if checkpoint.program is not None:
        given = arch or spec.builder
        unused = [f"`{given}` not used: an exported program brings its architecture"] if given else []
        return LoadedModel(checkpoint.program, "exported program", tuple(unused))
    assert checkpoint.tensors is not None  # a checkpoint without a program has tensors
    plan = _plan(checkpoint, spec, spec_dir=spec_dir, arch=arch, arch_kwargs=arch_kwargs, trust=trust)
    try:
        builder = find_builder(plan.builder, plan.folder)
        model = call_builder(builder, plan.builder, plan.kwargs, plan.folder)
    except UsageError as error:
        if not plan.from_file:
            raise
        # The user named nothing: it is the file's own header that is wrong.
        raise RefusedError(
            f"{checkpoint.path}: the architecture in its metadata cannot be built: {error.message}",
            expected=error.expected,
            found=str(plan),
            remedy="give the architecture with --arch, or write the metadata again.",
        ) from None
    model = model.to(torch.float32)
    notes = _fill(checkpoint, checkpoint.tensors, model, plan)
    return LoadedModel(model.eval(), str(plan), notes)


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
    raise _no_architecture(checkpoint)


def _metadata_plan(checkpoint: Checkpoint, overrides: dict[str, object]) -> _Plan:
    """The family named in the file's own header, which may name built-in ones only."""
    family = checkpoint.metadata[ARCHITECTURE_KEY]
    text = checkpoint.metadata.get(KWARGS_KEY, "{}")
    if family not in FAMILIES:
        raise RefusedError(
            f"{checkpoint.path}: its metadata names an architecture that is not built in",
            expected=", ".join(sorted(FAMILIES)),
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
    return _Plan(family, {**kwargs, **overrides}, Path(), from_file=True)


def _no_architecture(checkpoint: Checkpoint) -> RefusedError:
    weights = [(name, t) for name, t in (checkpoint.tensors or {}).items() if t.dim() > 1]
    ends = [f"{name} {tuple(tensor.shape)}" for name, tensor in (weights[:1] + weights[1:][-1:])]
    return RefusedError(
        f"{checkpoint.path}: holds weights only, and nothing says which architecture they belong to",
        expected=f"a builder, a built-in family ({', '.join(sorted(FAMILIES))}), or an exported program",
        found=f"{len(checkpoint.tensors or {})} tensors, {' to '.join(ends) or 'none with two or more axes'}",
        remedy="one of:\n"
        "--arch net.py:build                    (a function that returns the model)\n"
        "`model.builder` and `model.kwargs` in audit.yaml\n"
        f"safetensors metadata {ARCHITECTURE_KEY} and {KWARGS_KEY}\n"
        "torch.export.save(torch.export.export(model.eval(), inputs), 'model.pt2')",
    )


def _fill(checkpoint: Checkpoint, tensors: dict[str, Tensor], model: nn.Module, plan: _Plan) -> tuple[str, ...]:
    """Copy the weights into the model, name by name and shape by shape, and note what was rounded or left alone."""
    try:
        wanted = model.state_dict()
        lazy = [name for name, value in wanted.items() if isinstance(value, Tensor) and is_lazy(value)]
    except Exception as error:
        raise _misfit(checkpoint, plan, f"{type(error).__name__}: {error}") from error
    if lazy:
        raise _misfit(checkpoint, plan, f"layers without a shape yet: {', '.join(lazy[:_LISTED])}")
    wanted = {name: value for name, value in wanted.items() if isinstance(value, Tensor)}
    # Older checkpoints lack this counter, which has no effect in eval mode.
    counters = [name for name in wanted if name.endswith("num_batches_tracked") and name not in tensors]
    problems = [
        *_listed("missing from the checkpoint", [n for n in wanted if n not in tensors and n not in counters]),
        *_listed("unknown to the model", [n for n in tensors if n not in wanted]),
        *_listed(
            "of another shape",
            [
                f"{n} (file {tuple(tensors[n].shape)}, model {tuple(value.shape)})"
                for n, value in wanted.items()
                if n in tensors and tensors[n].shape != value.shape
            ],
        ),
        *_listed(
            "stored as whole numbers",
            [
                f"{n} ({str(tensors[n].dtype).removeprefix('torch.')})"
                for n, value in wanted.items()
                if n in tensors and value.is_floating_point() and not tensors[n].is_floating_point()
            ],
        ),
    ]
    if problems:
        raise _misfit(checkpoint, plan, "\n".join(problems))
    try:
        model.load_state_dict({**{name: wanted[name] for name in counters}, **tensors}, strict=True)
    except AuditError:
        raise
    except Exception as error:
        raise _misfit(checkpoint, plan, f"{type(error).__name__}: {' '.join(str(error).split())[:300]}") from error
    notes = []
    if any(tensor.dtype == torch.float64 for tensor in tensors.values()):
        notes.append("float64 weights rounded to float32")
    if counters:
        notes.append(f"{len(counters)} num_batches_tracked not in the checkpoint: no effect in eval mode")
    return tuple(notes)


def _listed(what: str, names: Iterable[str]) -> list[str]:
    names = list(names)
    if not names:
        return []
    more = f", and {len(names) - _LISTED} more" if len(names) > _LISTED else ""
    return [f"{len(names)} {what}: {', '.join(names[:_LISTED])}{more}"]


def _misfit(checkpoint: Checkpoint, plan: _Plan, found: str) -> RefusedError:
    return RefusedError(
        f"{checkpoint.path}: its weights do not fit {plan}",
        expected="the same names and shapes in the file and in the model",
        found=found,
        remedy="correct the architecture's arguments, or give the architecture the checkpoint was trained with.",
    )
