"""Weights into a model: name by name and shape by shape, or not at all unless the user allows a part."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from spectral_audit.errors import AuditError, RefusedError, quote
from spectral_audit.inputs.checkpoints.checkpoint import Checkpoint

# Attributes under which wrappers, and training loops, keep the model itself.
_WRAPPERS = ("module.", "_orig_mod.", "model.", "net.", "network.")
_LISTED = 8
# An architecture of a file's own choosing may be this much larger than its weights, and bytes.
_LARGEST_RATIO = 4
_ALWAYS_FINE = 64 << 20


@dataclass(frozen=True)
class Filled:
    """What was changed on the way, and what of the model is not from the file."""

    notes: tuple[str, ...]
    missing: tuple[str, ...] = ()


def shapes_of(tensors: Mapping[str, Tensor]) -> dict[str, tuple[int, ...]]:
    """The shapes by name, without the prefixes of wrappers that all names share."""
    return {name: tuple(tensor.shape) for name, tensor in _unwrapped(tensors, frozenset())[0].items()}


def fill(checkpoint: Checkpoint, model: nn.Module, plan: str, *, allow_partial: bool = False) -> Filled:
    """Copy the checkpoint's weights into the model built by `plan`, and note what was rounded or left alone.

    Raises `RefusedError` with the difference in names, shapes and types unless they fit, or a part of them may.
    """
    wanted = _wanted(checkpoint, model, plan)
    tensors, notes = _unwrapped(checkpoint.tensors, frozenset(wanted))
    tied = _tied(wanted, tensors)
    tensors = {**tensors, **{name: tensors[other] for name, other in tied.items()}}
    # Older checkpoints lack this counter, which has no effect in eval mode.
    counters = [name for name in wanted if name.endswith("num_batches_tracked") and name not in tensors]
    shaped = [n for n, value in wanted.items() if n in tensors and tensors[n].shape != value.shape]
    whole = [n for n, v in wanted.items() if n in tensors and v.is_floating_point() > tensors[n].is_floating_point()]
    absent = [n for n in wanted if n not in tensors and n not in counters]
    unknown = [n for n in tensors if n not in wanted]
    problems = [
        *listed("missing from the checkpoint", absent),
        *listed("unknown to the model", unknown),
        *listed("of another shape", [f"{n} (file {_shape(tensors[n])}, model {_shape(wanted[n])})" for n in shaped]),
        *listed("stored as whole numbers", [f"{n} ({str(tensors[n].dtype).removeprefix('torch.')})" for n in whole]),
    ]
    fitting = {n: t for n, t in tensors.items() if n in wanted and n not in shaped and n not in whole}
    if problems and not (allow_partial and fitting):
        raise misfit(checkpoint, plan, "\n".join(problems))
    kept = {name: wanted[name] for name in (*counters, *absent, *shaped, *whole)}
    try:
        model.load_state_dict({**kept, **fitting}, strict=True)
    except AuditError:
        raise
    except Exception as error:
        raise misfit(checkpoint, plan, quote(error)) from error
    if any(tensor.dtype == torch.float64 for tensor in fitting.values()):
        notes.append("float64 weights rounded to float32")
    if counters:
        notes.append(f"{len(counters)} num_batches_tracked not in the checkpoint: no effect in eval mode")
    if tied:
        notes.append(f"tied weights stored once: {', '.join(f'{name} is {other}' for name, other in tied.items())}")
    return Filled(tuple(notes), tuple(problems))


def require_modest(checkpoint: Checkpoint, plan: str, model: nn.Module) -> None:
    """Refuse an architecture far larger than the file's weights before memory is given to it."""
    claimed = sum(p.numel() * p.element_size() for p in (*model.parameters(), *model.buffers()))
    stored = sum(t.numel() * t.element_size() for t in checkpoint.tensors.values())
    if claimed > max(_ALWAYS_FINE, _LARGEST_RATIO * stored):
        raise misfit(checkpoint, plan[:300], f"a model of {claimed} bytes for {stored} bytes of weights")


def _wanted(checkpoint: Checkpoint, model: nn.Module, plan: str) -> dict[str, Tensor]:
    try:
        wanted = model.state_dict()
        lazy = [name for name, value in wanted.items() if isinstance(value, Tensor) and is_lazy(value)]
    except Exception as error:
        raise misfit(checkpoint, plan, quote(error)) from error
    if lazy:
        raise misfit(checkpoint, plan, f"layers without a shape yet: {', '.join(lazy[:_LISTED])}")
    return {name: value for name, value in wanted.items() if isinstance(value, Tensor)}


def _unwrapped(tensors: Mapping[str, Tensor], wanted: frozenset[str]) -> tuple[dict[str, Tensor], list[str]]:
    """The tensors without a prefix that all their names carry and none of the model's names do."""
    notes, found = [], dict(tensors)
    while not wanted & found.keys():
        prefix = next((p for p in _WRAPPERS if found and all(name.startswith(p) for name in found)), None)
        if prefix is None or any(name.startswith(prefix) for name in wanted):
            break
        found = {name[len(prefix) :]: tensor for name, tensor in found.items()}
        notes.append(f"prefix `{prefix}` stripped from all names")
    return found, notes


def _tied(wanted: Mapping[str, Tensor], tensors: Mapping[str, Tensor]) -> dict[str, str]:
    """Names that the file lacks because the model has the very same tensor under another, which the file has."""
    places: dict[tuple[int, tuple[int, ...]], str] = {}
    for name in wanted.keys() & tensors.keys():
        places[wanted[name].data_ptr(), tuple(wanted[name].shape)] = name
    absent = {name: (value.data_ptr(), tuple(value.shape)) for name, value in wanted.items() if name not in tensors}
    return {name: places[place] for name, place in absent.items() if place[0] and place in places}


def _shape(tensor: Tensor) -> str:
    return str(tuple(tensor.shape))


def listed(what: str, names: Iterable[str]) -> list[str]:
    """A line on the names of one kind of difference; none where there is no difference."""
    names = list(names)
    if not names:
        return []
    more = f", and {len(names) - _LISTED} more" if len(names) > _LISTED else ""
    return [f"{len(names)} {what}: {', '.join(names[:_LISTED])}{more}"]


def misfit(checkpoint: Checkpoint, plan: str, found: str) -> RefusedError:
    """The refusal for weights that are not those of the architecture."""
    return RefusedError(
        f"{checkpoint.path}: its weights do not fit {plan}",
        expected="the same names and shapes in the file and in the model",
        found=found,
        remedy="correct the architecture's arguments, or give the architecture the checkpoint was trained with.",
    )
