"""From a checkpoint file to tensors or a program, without running anything the user did not consent to."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn

from spectral_audit.errors import RefusedError
from spectral_audit.inputs.archive import sha256_of
from spectral_audit.inputs.contents import Contents, why_unsafe
from spectral_audit.inputs.formats import open_checkpoint
from spectral_audit.inputs.inspection import inspect_checkpoint
from spectral_audit.inputs.statedicts import clean, dtype_names, require_finite, select

__all__ = ["Checkpoint", "Trust", "inspect_checkpoint", "load_checkpoint"]

Trust = Literal["none", "code", "pickle"]


@dataclass(frozen=True)
class Checkpoint:
    """A loaded checkpoint: a state dict in `tensors`, or, for an exported program, the program and its state.

    `dtypes` are the ones in the file; narrow floats are float32 in `tensors`. `notes` say what was changed on the way.
    """

    path: Path
    format: str
    sha256: str
    tensors: dict[str, Tensor] | None
    program: nn.Module | None
    metadata: dict[str, str]
    dtypes: tuple[str, ...]
    notes: tuple[str, ...]


def load_checkpoint(path: Path, *, trust: Trust = "none", weights: str | None = None) -> Checkpoint:
    """The weights of a checkpoint, or its exported program when `trust` allows running code from the file.

    `weights` names the state dict to take from a checkpoint that holds several.

    Raises:
        RefusedError: the file is missing, damaged, of no known format, would run code, or holds numbers that are not
            finite.
        UsageError: `weights` names a state dict that is not there.
    """
    kind, contents = open_checkpoint(path)
    refusal = contents.refusal or why_unsafe(path, contents.scan)
    if refusal is not None:
        raise refusal
    if contents.program is not None:
        return _program(path, kind, contents, trust)
    assert contents.read is not None  # every format without a refusal has one of the two
    stored, taken = select(path, contents.read(), weights)
    tensors, changed = clean(path, stored)
    return Checkpoint(
        path=path,
        format=kind,
        sha256=sha256_of(path),
        tensors=tensors,
        program=None,
        metadata=contents.metadata,
        dtypes=dtype_names(stored),
        notes=(*taken, *changed),
    )


def _program(path: Path, kind: str, contents: Contents, trust: Trust) -> Checkpoint:
    if trust == "none":
        raise RefusedError(
            f"{path}: loading an exported program builds and runs Python generated from the file",
            expected="your consent, for a file whose source you trust",
            found="--trust none",
            remedy="add --trust code; or audit a state dict, which needs no trust.",
        )
    assert contents.program is not None
    program, notes = contents.program()
    dtypes = dtype_names(program.state_dict())
    floats = [dtype for dtype in dtypes if dtype.startswith(("float", "bfloat")) and dtype != "float32"]
    if floats:
        program = program.to(torch.float32)
        notes = (*notes, f"the program's {', '.join(floats)} tensors cast to float32; its graph is as exported")
    tensors = program.state_dict()
    require_finite(path, tensors)
    return Checkpoint(
        path=path,
        format=kind,
        sha256=sha256_of(path),
        tensors=tensors,
        program=program,
        metadata=contents.metadata,
        dtypes=dtypes,
        notes=notes,
    )
