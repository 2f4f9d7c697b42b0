"""Weights spread over several files, with an index that says which tensor is where."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from torch import Tensor, nn

from spectral_audit.errors import RefusedError, quote
from spectral_audit.inputs.checkpoints.contents import Contents, Head
from spectral_audit.inputs.checkpoints.head import head_of
from spectral_audit.inputs.checkpoints.pickles import join
from spectral_audit.inputs.checkpoints.statedicts import candidates
from spectral_audit.inputs.checkpoints.weights import (
    is_legacy,
    is_safetensors,
    is_torch_zip,
    open_legacy,
    open_safetensors,
    open_torch_zip,
)

_INDEX = ".index.json"
_WHOLE = ("model.safetensors", "pytorch_model.bin")
_INDEX_LIMIT = 100_000_000
_SHARD = ((is_safetensors, open_safetensors), (is_torch_zip, open_torch_zip), (is_legacy, open_legacy))


def is_sharded(head: Head) -> bool:
    """A JSON file with a `weight_map`, or a directory that holds weights under one of their usual names."""
    if head.folder is not None:
        return weights_in(head) is not None
    return head.start.lstrip()[:1] == b"{" and head.size < _INDEX_LIMIT and b"weight_map" in head.path.read_bytes()


def open_sharded(head: Head) -> Contents:
    """All shards as one state dict."""
    path = weights_in(head) if head.folder is not None else head.path
    assert path is not None  # is_sharded
    return open_weights(path)


def weights_in(head: Head) -> Path | None:
    """The index, or the single file of weights, in a directory; `None` when there is neither, or one cannot tell."""
    names = head.folder or frozenset()
    usual = [f"{name}{_INDEX}" for name in _WHOLE] + list(_WHOLE)
    found = [name for name in usual if name in names] or [name for name in names if name.endswith(_INDEX)]
    found = found or [name for name in names if name.endswith(".safetensors")]
    return head.path / found[0] if len(found) == 1 or (found and found[0] in usual) else None


def open_weights(path: Path) -> Contents:
    """The tensors of an index or of one file of weights."""
    if head_of(path).start.lstrip()[:1] != b"{":
        return replace(_shard(path), files=(path,))
    placed = _index(path)
    shards = {name: _shard(path.parent / name) for name in sorted(set(placed.values()))}
    refusal = next((shard.refusal for shard in shards.values() if shard.refusal), None)
    consent = next((shard.consent for shard in shards.values() if shard.consent), None)
    return Contents(
        scan=join(shard.scan for shard in shards.values()),
        metadata={key: value for shard in shards.values() for key, value in shard.metadata.items()},
        tensors=tuple(tensor for shard in shards.values() for tensor in shard.tensors),
        read=lambda: _read(path, placed, shards),
        refusal=refusal,
        consent=consent,
        files=(path, *(path.parent / name for name in shards)),
        notes=(f"weights from {len(shards)} shards",),
    )


def _index(path: Path) -> dict[str, str]:
    """Which tensor is in which file beside the index."""
    found = ""
    try:
        text = path.read_bytes()
        table = json.loads(text)["weight_map"] if len(text) < _INDEX_LIMIT else None
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        table, found = None, quote(error)
    if not isinstance(table, dict) or not table or not all(isinstance(name, str) for name in table.values()):
        raise RefusedError(
            f"{path}: the index of the shards cannot be read",
            expected="JSON with a `weight_map` from tensor names to file names",
            found=found or "no such table",
            remedy="copy or download the index again.",
        )
    outside = sorted({name for name in table.values() if Path(name).name != name or "\\" in name or "\0" in name})
    if outside:
        raise RefusedError(
            f"{path}: the index names files outside its own directory",
            expected="file names beside the index",
            found=", ".join(outside[:4]),
            remedy="do not use this checkpoint; download it again from a source you trust.",
        )
    return table


def _shard(path: Path) -> Contents:
    head = head_of(path)
    for matches, opened in _SHARD:
        if matches(head):
            return opened(head)
    lfs = head.start.startswith(b"version https://git-lfs")
    raise RefusedError(
        f"{path}: not a file of weights",
        expected="safetensors, or a state dict saved by torch.save",
        found="a Git LFS pointer, not the file itself" if lfs else f"a file that starts with {head.start[:12]!r}",
        remedy="run git lfs pull." if lfs else "download this file again.",
    )


def _read(path: Path, placed: Mapping[str, str], shards: Mapping[str, Contents]) -> dict[str, Tensor]:
    state: dict[str, Tensor] = {}
    problems = []
    for name, shard in shards.items():
        assert shard.read is not None  # shards are files of weights
        whole = candidates(shard.read()).get("", {})
        tensors = {} if isinstance(whole, nn.Module) else whole
        wanted = {tensor for tensor, where in placed.items() if where == name}
        problems += [f"{tensor} is not in {name}" for tensor in sorted(wanted - tensors.keys())]
        problems += [f"{tensor} of {name} is not in the index" for tensor in sorted(tensors.keys() - wanted)]
        state.update(tensors)
    if problems:
        more = f"\nand {len(problems) - 8} more" if len(problems) > 8 else ""
        raise RefusedError(
            f"{path}: the index and the shards do not agree",
            expected="every tensor in the file that the index names, and no others",
            found="\n".join(problems[:8]) + more,
            remedy="download the index and the shards again, all of one version.",
        )
    return state
