"""From a checkpoint file to tensors or a program, without running anything the user did not consent to."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from spectral_audit.inputs.checkpoints.archive import sha256_of
from spectral_audit.inputs.checkpoints.contents import Contents, Program, Trust, refusal_of
from spectral_audit.inputs.checkpoints.formats import open_checkpoint
from spectral_audit.inputs.checkpoints.inspection import inspect_checkpoint
from spectral_audit.inputs.checkpoints.modules import require_plain_layers
from spectral_audit.inputs.checkpoints.statedicts import clean, dtype_names, require_finite, select, with_aliases

__all__ = ["Checkpoint", "Trust", "inspect_checkpoint", "load_checkpoint"]


@dataclass(frozen=True)
class Checkpoint:
    """A loaded checkpoint: its state dict in `tensors`, and the model itself in `program` where the file brings one.

    `dtypes` are the ones in the file; narrow floats are float32 in `tensors`. `notes` say what was changed on the way.
    `brings` names the kind of model; `globals` are all that the file's pickles import; `config` describes the
    architecture where a config.json came along.
    """

    path: Path
    format: str
    sha256: str
    tensors: dict[str, Tensor]
    program: nn.Module | None
    metadata: dict[str, str]
    dtypes: tuple[str, ...]
    notes: tuple[str, ...]
    brings: str = ""
    globals: tuple[str, ...] = ()
    config: dict[str, object] | None = None


def load_checkpoint(path: Path, *, trust: Trust = "none", weights: str | None = None) -> Checkpoint:
    """The weights of a checkpoint, or the model it brings along when `trust` allows running code from the file.

    `weights` names the state dict to take from a checkpoint that holds several.

    Raises:
        RefusedError: the file is missing, damaged, of no known format, would run code, or holds numbers that are not
            finite.
        UsageError: `weights` names a state dict that is not there.
    """
    kind, contents = open_checkpoint(path)
    refusal = refusal_of(contents, trust)
    if refusal is not None:
        raise refusal
    if contents.program is not None:
        return _with_program(path, kind, contents, contents.program())
    assert contents.read is not None  # every format without a refusal has one of the two
    chosen, taken = select(path, contents.read(), weights)
    if isinstance(chosen, nn.Module):
        if contents.scan.safe:
            require_plain_layers(path, chosen)
        return _with_program(path, kind, contents, Program(chosen, f"pickled {type(chosen).__name__}", taken))
    tensors, changed = clean(path, with_aliases(chosen, contents.metadata))
    return Checkpoint(
        path=path,
        format=kind,
        sha256=sha256_of(path, contents.files),
        tensors=tensors,
        program=None,
        metadata=contents.metadata,
        dtypes=dtype_names(chosen),
        notes=(*contents.notes, *taken, *changed),
        globals=contents.scan.globals,
        config=contents.config,
    )


def _with_program(path: Path, kind: str, contents: Contents, program: Program) -> Checkpoint:
    module, notes = program.module, program.notes
    dtypes = dtype_names(module.state_dict())
    floats = [dtype for dtype in dtypes if dtype.startswith(("float", "bfloat")) and dtype != "float32"]
    if floats:
        module = module.to(torch.float32)
        notes = (*notes, f"the {program.kind}'s {', '.join(floats)} tensors cast to float32; its graph is as it was")
    tensors = module.state_dict()
    require_finite(path, tensors)
    return Checkpoint(
        path=path,
        format=kind,
        sha256=sha256_of(path, contents.files),
        tensors=tensors,
        program=module,
        metadata=contents.metadata,
        dtypes=dtypes,
        notes=(*contents.notes, *notes),
        brings=program.kind,
        globals=contents.scan.globals,
    )
