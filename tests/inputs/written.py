"""Checkpoint files made by hand: bytes as torch writes them, zips of any records, pickles that would run code."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import torch

from spectral_audit.inputs.checkpoints.checkpoint import load_checkpoint


class Evil:
    """Would run a command when it is unpickled."""

    def __reduce__(self) -> object:
        return exec, ("raise SystemExit",)


def load(folder: Path, content: bytes, name: str = "model.pt") -> object:
    (folder / name).write_bytes(content)
    return load_checkpoint(folder / name)


def saved(value: object, **options: object) -> bytes:
    buffer = io.BytesIO()
    torch.save(value, buffer, **options)
    return buffer.getvalue()


def zipped(**records: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        for name, blob in records.items():
            file.writestr(name, blob)
    return buffer.getvalue()
