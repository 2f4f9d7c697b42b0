"""From what a checkpoint stores to one clean state dict: found, its names stripped, its numbers checked and upcast.

Some checkpoints hold a whole module where others hold a state dict; it is found in the same places.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TypeGuard

import torch
from torch import Tensor, nn

from spectral_audit.errors import RefusedError, UsageError, nearest
from spectral_audit.inputs.checkpoints.contents import SAVE_STATE_DICT

# Where training scripts put the weights; anything else that holds tensors by name is offered, never guessed.
USUAL_NAMES = ("state_dict", "model_state_dict", "model_state", "model", "ema", "net", "weights")
PREFIXES = ("module.", "_orig_mod.")
# What an optimiser or a scheduler keeps are tensors by name as well.
_NO_WEIGHTS = ("optim", "sched", "scaler")
# Tensors may repeat their numbers, but not claim over this many times, and bytes, of what is stored.
_LARGEST_RATIO = 16
_ALWAYS_FINE = 64 << 20
State = dict[str, Tensor] | nn.Module
_WIDE = (torch.float32, torch.float64)


def dtype_name(tensor: Tensor) -> str:
    """`float32` for `torch.float32`."""
    return str(tensor.dtype).removeprefix("torch.")


def dtype_names(tensors: Mapping[str, Tensor]) -> tuple[str, ...]:
    """The dtypes that occur, sorted."""
    return tuple(sorted({dtype_name(tensor) for tensor in tensors.values()}))


def candidates(stored: object) -> dict[str, State]:
    """The state dicts and modules a checkpoint holds, by name: `model`, or one level deeper `ema.shadow`.

    The name is empty when the checkpoint itself is one.
    """
    if _is_state(stored):
        return {"": stored}
    found: dict[str, State] = {}
    for key, value in _entries(stored):
        if _is_state(value):
            found[key] = value
        else:
            found.update({f"{key}.{inner}": deep for inner, deep in _entries(value) if _is_state(deep)})
    return found


def _entries(stored: object) -> list[tuple[str, object]]:
    if not isinstance(stored, Mapping):
        return []
    named = [(key, value) for key, value in stored.items() if isinstance(key, str)]
    return [(key, value) for key, value in named if not any(word in key.lower() for word in _NO_WEIGHTS)]


def select(path: Path, stored: object, weights: str | None) -> tuple[State, tuple[str, ...]]:
    """The state dict or module to audit, and a note when it was taken from inside a larger checkpoint.

    Raises `UsageError` for a name that is not there, `RefusedError` when there is none or several and no name.
    """
    found = candidates(stored)
    named = [name for name in found if name]
    if weights is not None:
        return _by_name(path, found, weights)
    if "" in found:
        return found[""], ()
    usual = [name for name in USUAL_NAMES if name in found]
    if len(usual) == 1 or len(named) == 1:
        name = (usual or named)[0]
        others = [other for other in named if other != name]
        also = f"; it also holds {', '.join(others)}" if others else ""
        return found[name], (f"weights taken from `{name}` of the checkpoint{also}",)
    if named:
        raise RefusedError(
            f"{path}: holds several state dicts",
            expected="one, or the name of one",
            found=", ".join(sorted(named)),
            remedy=f"choose one: --weights {(usual or sorted(named))[0]}, or `model.weights` in the spec.",
        )
    empty = isinstance(stored, Mapping) and not stored
    raise RefusedError(
        f"{path}: holds no tensors at all" if empty else f"{path}: holds no state dict",
        expected="tensors by name, or a dictionary with such an entry",
        found=_describe(stored),
        remedy=SAVE_STATE_DICT,
    )


def with_aliases(tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> dict[str, Tensor]:
    """With the names that safetensors leaves out for tied weights, and lists in the file's metadata."""
    tied = {name: tensors[kept] for name, kept in metadata.items() if name not in tensors and kept in tensors}
    return {**tensors, **tied}


def clean(path: Path, tensors: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], tuple[str, ...]]:
    """The tensors under the model's own names, narrow floats upcast to float32, with a note for each change.

    Raises `RefusedError` for tensors without plain real numbers (sparse, quantized, complex, without data), for ones
    that claim far more numbers than are stored, and for NaN or infinite ones.
    """
    plain, notes = _strip(dict(tensors))
    if not any(tensor.numel() for tensor in plain.values()):
        raise RefusedError(
            f"{path}: its tensors hold no numbers",
            expected="weights",
            found=f"{len(plain)} tensors, all of them empty",
            remedy=SAVE_STATE_DICT,
        )
    for name, tensor in plain.items():
        if tensor.layout != torch.strided or tensor.is_quantized or tensor.is_complex() or tensor.is_meta:
            what = "without data" if tensor.is_meta else f"{tensor.layout}, {dtype_name(tensor)}"
            raise RefusedError(
                f"{path}: tensor {name} is not plain numbers",
                expected="dense real tensors",
                found=what.replace("torch.", ""),
                remedy="save the model's dense, unquantized weights.",
            )
    _require_stored(path, plain)
    narrow = {name: t for name, t in plain.items() if t.is_floating_point() and t.dtype not in _WIDE}
    if narrow:
        notes.append(f"{len(narrow)} tensors upcast from {', '.join(dtype_names(narrow))} to float32")
        plain.update({name: _upcast(path, name, tensor) for name, tensor in narrow.items()})
    require_finite(path, plain)
    return plain, tuple(notes)


def _require_stored(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Refuse tensors that repeat a few stored numbers endlessly: a file of bytes would fill the memory."""
    storages = {t.untyped_storage().data_ptr(): t.untyped_storage().nbytes() for t in tensors.values()}
    stored, claimed = sum(storages.values()), sum(t.numel() * t.element_size() for t in tensors.values())
    if claimed > max(_ALWAYS_FINE, _LARGEST_RATIO * stored):
        largest = max(tensors, key=lambda name: tensors[name].numel())
        raise RefusedError(
            f"{path}: its tensors claim far more numbers than the file holds",
            expected=f"about the {stored} bytes that are stored",
            found=f"{claimed} bytes, most of them in {largest} {tuple(tensors[largest].shape)}",
            remedy="save the tensors themselves, not expanded views: tensor.clone() before torch.save.",
        )


def require_finite(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Refuse tensors with NaN or infinite entries, listing which and how many.

    A tensor of nothing but 0 and −∞ is an attention mask, not a broken weight.
    """
    broken = []
    for name, tensor in tensors.items():
        if not tensor.is_floating_point():
            continue
        bad = int((~torch.isfinite(tensor)).sum())
        if bad and not _is_mask(tensor):
            nan = int(torch.isnan(tensor).sum())
            broken.append(f"{name}: {nan} NaN, {bad - nan} infinite of {tensor.numel()}")
    if broken:
        more = [f"and {len(broken) - 8} more"] if len(broken) > 8 else []
        raise RefusedError(
            f"{path}: {len(broken)} of {len(tensors)} tensors hold NaN or infinite numbers",
            expected="finite weights",
            found="\n".join([*broken[:8], *more]),
            remedy="audit an earlier checkpoint, from before the training diverged.",
        )


def _is_mask(tensor: Tensor) -> bool:
    zero = tensor == 0
    return bool(zero.any()) and bool((zero | (tensor == -torch.inf)).all())


def _upcast(path: Path, name: str, tensor: Tensor) -> Tensor:
    try:
        return tensor.to(torch.float32)
    except (RuntimeError, NotImplementedError) as error:
        raise RefusedError(
            f"{path}: tensor {name} cannot be read as float32",
            expected="a float type that torch converts",
            found=f"{dtype_name(tensor)}: {' '.join(str(error).split())[:200]}",
            remedy="save the weights as float32.",
        ) from None


def _by_name(path: Path, found: dict[str, State], name: str) -> tuple[State, tuple[str, ...]]:
    if name in found and name:
        return found[name], (f"weights taken from `{name}` of the checkpoint, as asked",)
    known = [key for key in found if key]
    raise UsageError(
        f"{path}: holds no state dict named `{name}`",
        expected=f"one of: {', '.join(known)}" if known else "no name",
        found="a single state dict without a name" if "" in found else name,
        remedy=f"choose another name; {nearest(name, known)}."
        if known
        else "leave out --weights, or `model.weights` in the spec.",
    )


def _is_state(value: object) -> TypeGuard[State]:
    if isinstance(value, nn.Module):
        return _is_whole(value)
    return (
        isinstance(value, Mapping)
        and bool(value)
        and all(isinstance(key, str) and isinstance(item, Tensor) for key, item in value.items())
    )


def _is_whole(module: nn.Module) -> bool:
    """Whether a module that came out of a pickle, and every layer in it, holds what a module must hold."""
    seen: set[int] = set()
    waiting: list[object] = [module]
    while waiting:
        layer = waiting.pop()
        if layer is None or id(layer) in seen:
            continue
        seen.add(id(layer))
        inside = [getattr(layer, "__dict__", {}).get(key) for key in ("_parameters", "_buffers", "_modules")]
        tensors = [t for part in inside[:2] if isinstance(part, dict) for t in part.values()]
        names = [name for part in inside if isinstance(part, dict) for name in part]
        held = all(isinstance(part, dict) for part in inside) and all(isinstance(name, str) for name in names)
        if not (isinstance(layer, nn.Module) and held and all(t is None or isinstance(t, Tensor) for t in tensors)):
            return False
        waiting += layer._modules.values()
    return True


def _describe(stored: object) -> str:
    if isinstance(stored, nn.Module):
        return f"a {type(stored).__name__} that lacks parts of a module"
    if not isinstance(stored, Mapping):
        return f"a {type(stored).__name__}"
    keys = [str(key)[:40] for key in list(stored)[:8]]
    plain = [str(key)[:40] for key, value in stored.items() if not isinstance(value, Tensor)]
    if 0 < len(plain) < len(stored):
        return f"tensors mixed with other entries: {', '.join(plain[:8])}"
    return f"a dictionary with keys {', '.join(keys)}" if keys else "an empty dictionary"


def _strip(tensors: dict[str, Tensor]) -> tuple[dict[str, Tensor], list[str]]:
    """Without the wrappers' traces: the counter of averaged models, prefixes of parallel and compiled ones."""
    notes = []
    if len(tensors) > 1 and tensors.pop("n_averaged", None) is not None:
        notes.append("`n_averaged` dropped: the counter of an averaged model")
    while prefix := next((p for p in PREFIXES if tensors and all(name.startswith(p) for name in tensors)), None):
        tensors = {name[len(prefix) :]: tensor for name, tensor in tensors.items()}
        notes.append(f"prefix `{prefix}` stripped from all names")
    return tensors, notes
