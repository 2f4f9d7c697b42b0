"""The checkpoint formats, recognised by content: one line of `FORMATS` each."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from spectral_audit.errors import RefusedError
from spectral_audit.inputs.checkpoints.contents import SAVE_STATE_DICT, Contents, Head
from spectral_audit.inputs.checkpoints.distributed import is_distributed, open_distributed
from spectral_audit.inputs.checkpoints.exported import is_exported, is_old_export, open_exported, open_old_export
from spectral_audit.inputs.checkpoints.head import head_of
from spectral_audit.inputs.checkpoints.huggingface import is_described, open_described
from spectral_audit.inputs.checkpoints.sharded import is_sharded, open_sharded
from spectral_audit.inputs.checkpoints.torchscript import is_torchscript, open_torchscript
from spectral_audit.inputs.checkpoints.weights import (
    is_legacy,
    is_pickle,
    is_safetensors,
    is_torch_zip,
    open_legacy,
    open_pickle,
    open_safetensors,
    open_torch_zip,
)

# Files that are often given by mistake: how they start, what they are, what to do.
_STRANGERS = (
    (b"version https://git-lfs", "a Git LFS pointer, not the file itself", "run git lfs pull."),
    (b"<", "an HTML or XML page", "download the file itself, not the page about it."),
    (b"\x89HDF", "an HDF5 file, as Keras writes", "save the weights of the PyTorch model instead."),
    (b"\x93NUMPY", "a NumPy array", "give the model's checkpoint; data goes into the spec."),
    (b"\x1f\x8b", "a gzip file", "unpack it first."),
)


@dataclass(frozen=True)
class Format:
    """How a format is recognised and opened; opening runs nothing from the file."""

    matches: Callable[[Head], bool]
    open: Callable[[Head], Contents]


FORMATS: dict[str, Format] = {
    "torch.export": Format(is_exported, open_exported),
    "torch.export (old)": Format(is_old_export, open_old_export),
    "torchscript": Format(is_torchscript, open_torchscript),
    "torch.save": Format(is_torch_zip, open_torch_zip),
    "torch.save (legacy)": Format(is_legacy, open_legacy),
    "safetensors": Format(is_safetensors, open_safetensors),
    "torch.distributed.checkpoint": Format(is_distributed, open_distributed),
    "model directory": Format(is_described, open_described),
    "sharded": Format(is_sharded, open_sharded),
    "pickle": Format(is_pickle, open_pickle),
}


def open_checkpoint(path: Path) -> tuple[str, Contents]:
    """The format of a file or directory, and what it holds.

    Raises `RefusedError` for what is missing, empty, damaged or of no known format.
    """
    head = head_of(path)
    for name, kind in FORMATS.items():
        if kind.matches(head):
            return name, kind.open(head)
    raise _unknown(head)


def _unknown(head: Head) -> RefusedError:
    expected = "safetensors, a state dict saved by torch.save, or a program saved by torch.export.save"
    found, remedy = f"a file that starts with {head.start[:12]!r}", SAVE_STATE_DICT
    if head.archive is not None:
        found = f"a zip archive of {', '.join(head.archive.names[:5]) or 'nothing'}"
    if head.folder is not None:
        expected = "a directory with a config.json, an index of shards, or the .metadata of a distributed checkpoint"
        found = f"a directory of {', '.join(sorted(head.folder)[:8]) or 'nothing'}"
        remedy = "name one file in it." if head.folder else "give the path of the checkpoint itself."
    for start, what, advice in _STRANGERS:
        if head.start.startswith(start):
            found, remedy = what, advice
    return RefusedError(
        f"{head.path}: not a checkpoint format that is known here", expected=expected, found=found, remedy=remedy
    )
