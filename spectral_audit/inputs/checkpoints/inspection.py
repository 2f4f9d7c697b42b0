"""What a checkpoint holds, for a reader who wants to know before trusting it."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from pathlib import Path

from torch import nn

from spectral_audit.errors import AuditError
from spectral_audit.inputs.checkpoints.archive import sha256_of
from spectral_audit.inputs.checkpoints.contents import Contents, refusal_of
from spectral_audit.inputs.checkpoints.formats import open_checkpoint
from spectral_audit.inputs.checkpoints.statedicts import candidates, dtype_name, select
from spectral_audit.results import Inspection, TensorInfo

# Entries of a state dict that are statistics or counters, not parameters.
_BUFFERS = ("running_mean", "running_var", "num_batches_tracked", "n_averaged")
ARCHITECTURE_KEY = "spectral_audit.architecture"


def inspect_checkpoint(path: Path) -> Inspection:
    """Format, tensors, metadata and pickle globals of a file, with nothing from it run.

    A file that could run code is described all the same: its globals are listed, its tensors are not.
    Raises `RefusedError` only for a file that is missing, damaged or of no known format.
    """
    kind, contents = open_checkpoint(path)
    tensors, notes = _tensors(path, contents)
    return Inspection(
        path=str(path),
        format=kind,
        bytes=sum(file.stat().st_size for file in contents.files or (path,)),
        sha256=sha256_of(path, contents.files),
        tensors=tensors,
        parameters=sum(math.prod(t.shape) for t in tensors if not t.name.endswith(_BUFFERS)),
        dtypes=tuple(sorted({tensor.dtype for tensor in tensors})),
        architecture=guess_architecture(tensors, contents.metadata),
        metadata=contents.metadata,
        globals=contents.scan.globals,
        unsafe_globals=contents.scan.unsafe,
        notes=notes,
    )


def guess_architecture(tensors: Iterable[TensorInfo], metadata: dict[str, str]) -> str:
    """A line on what the names and shapes look like: `mlp 784-128-10`, `convolutional net, 4 conv layers`."""
    if ARCHITECTURE_KEY in metadata:
        return f"{metadata[ARCHITECTURE_KEY]} (named in the file)"
    tensors = tuple(tensors)
    names = [tensor.name for tensor in tensors]
    weights = [t for t in tensors if t.name.endswith("weight") and len(t.shape) > 1]
    convolutions = [t for t in weights if len(t.shape) in (3, 4, 5)]
    attention = {m[1] for m in (re.match(r"(.*(?:attn|attention))\b", name) for name in names) if m}
    norm = ", BatchNorm" if any(name.endswith("running_mean") for name in names) else ""
    if attention:
        return f"transformer, {len(attention)} attention layers"
    if convolutions:
        kind = "residual net" if any(re.search("shortcut|downsample", name) for name in names) else "convolutional net"
        return f"{kind}, {len(convolutions)} conv layers{norm}"
    widths = [t.shape[1] for t in weights[:1]] + [t.shape[0] for t in weights]
    if widths and all(t.shape[1] == width for t, width in zip(weights, widths[:-1], strict=True)):
        return f"{'mlp' if len(weights) > 1 else 'linear model'} {'-'.join(map(str, widths))}{norm}"
    return f"unknown, {len(tensors)} tensors" if tensors else "unknown"


def _tensors(path: Path, contents: Contents) -> tuple[tuple[TensorInfo, ...], tuple[str, ...]]:
    """The tensors where they can be listed safely; otherwise a note on why not."""
    refusal = refusal_of(contents, "none")
    if refusal is not None:
        listed = () if contents.tensors else ("its tensors cannot be listed without loading it",)
        trust = (f"auditing it needs --trust {contents.consent.trust}",) if contents.consent else ()
        said = refusal.message.removeprefix(f"{path}: ")
        return contents.tensors, (*contents.notes, said, *(() if contents.refusal else trust), *listed)
    if contents.tensors or contents.read is None:
        return contents.tensors, contents.notes
    stored = contents.read()
    try:
        chosen, notes = select(path, stored, None)
        found = {"": chosen}
    except AuditError as error:
        found, notes = candidates(stored), (error.message.removeprefix(f"{path}: "),)
    return (
        tuple(
            TensorInfo(f"{group}.{name}" if group else name, tuple(tensor.shape), dtype_name(tensor))
            for group, state in found.items()
            for name, tensor in (state.state_dict() if isinstance(state, nn.Module) else state).items()
        ),
        (*contents.notes, *notes),
    )
