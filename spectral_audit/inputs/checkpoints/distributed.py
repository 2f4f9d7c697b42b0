"""Directories written by torch.distributed.checkpoint: a pickled table of tensors, and their pieces in other files.

Torch's own reader unpickles the table without limits. Here it is read with stand-ins for the few classes that it holds,
so that nothing of it can run; each piece is a small file of torch.save's, and is scanned and loaded as such.
"""

from __future__ import annotations

import io
import math
import pickle
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from spectral_audit.errors import AuditError, RefusedError, quote
from spectral_audit.inputs.checkpoints.archive import ZIP_ERRORS, open_archive
from spectral_audit.inputs.checkpoints.contents import SUSPICION, Contents, Head
from spectral_audit.inputs.checkpoints.pickles import PickleScan, join, scan_pickle
from spectral_audit.results import TensorInfo

_METADATA = "torch.distributed.checkpoint.metadata"
_CLASSES = frozenset(
    [
        *(f"{_METADATA}.{name}" for name in ("BytesStorageMetadata", "ChunkStorageMetadata", "Metadata")),
        *(f"{_METADATA}.{name}" for name in ("MetadataIndex", "StorageMeta", "TensorProperties")),
        *(f"{_METADATA}.{name}" for name in ("TensorStorageMetadata", "_MEM_FORMAT_ENCODING")),
        "torch.distributed.checkpoint.filesystem._StorageInfo",
        *(f"pathlib.{name}" for name in ("Path", "PosixPath", "WindowsPath", "PurePosixPath", "PureWindowsPath")),
        *("pathlib._local.PosixPath", "pathlib._local.WindowsPath"),
        # How some releases of Python 3.11 pickle a member of an enumeration; it is a stand-in like all others.
        "builtins.getattr",
    ]
)
_TUPLES = frozenset(["torch.Size", "torch.serialization._get_layout"])
_SAVE_AGAIN = (
    "convert it where it was written: python -m torch.distributed.checkpoint.format_utils dcp_to_torch DIR FILE."
)


@dataclass(frozen=True)
class _Piece:
    """Where a part of a tensor begins, its shape, and the bytes that hold it."""

    offsets: tuple[int, ...]
    shape: tuple[int, ...]
    file: str
    start: int
    length: int


@dataclass(frozen=True)
class _Entry:
    """A tensor of the checkpoint: the path of its name, its shape and type, and its pieces."""

    path: tuple[str, ...]
    shape: tuple[int, ...]
    dtype: torch.dtype
    pieces: tuple[_Piece, ...]


class _Stand:
    """Stands for an object of the table: takes any arguments and keeps the attributes, or the tuple, it is given."""

    state: object = None

    def __init__(self, *args: object) -> None:
        self.args = args

    def __setstate__(self, state: object) -> None:
        if isinstance(state, dict):
            vars(self).update({str(key): value for key, value in state.items()})
        else:
            self.state = state

    def __hash__(self) -> int:
        return hash((str(vars(self).get("fqn")), str(vars(self).get("offset"))))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Stand) and vars(self) == vars(other)


class _Reader(pickle.Unpickler):
    """Unpickles stand-ins: no name of the pickle reaches anything real but torch's types of numbers."""

    def find_class(self, module: str, name: str) -> Any:
        full = f"{module}.{name}"
        if full in _CLASSES:
            return type(name, (_Stand,), {})  # a class of its own, so that nothing done to it lasts
        if full in _TUPLES:
            return _tuple
        kind = getattr(torch, name, None) if module == "torch" else None
        if isinstance(kind, torch.dtype):
            return kind
        raise pickle.UnpicklingError(f"{full} is not part of a checkpoint's table")


def _tuple(*args: Any) -> tuple[Any, ...]:
    return tuple(args[0]) if args and isinstance(args[0], (tuple, list)) else args


def is_distributed(head: Head) -> bool:
    """A directory with a `.metadata`."""
    return head.holds(".metadata")


def open_distributed(head: Head) -> Contents:
    """The tensors by the table, and how to put them together."""
    table = head.path / ".metadata"
    types = frozenset(f"torch.{name}" for name, value in vars(torch).items() if isinstance(value, torch.dtype))
    with table.open("rb") as file:
        scan = scan_pickle(file, known=_CLASSES | _TUPLES | types)
    files = (table, *sorted(path for path in head.path.iterdir() if path.suffix == ".distcp"))
    if scan.unsafe or not scan.complete:
        refusal = RefusedError(
            f"{table}: the checkpoint's table is a pickle that is damaged or would run code; nothing was loaded",
            expected="names, shapes and places of tensors, as torch.distributed.checkpoint writes them",
            found=", ".join(scan.unsafe[:12]) or "bytes that are no pickle",
            remedy=f"{SUSPICION}save it again with torch.distributed.checkpoint.",
        )
        return Contents(scan=scan, refusal=refusal, files=files)
    entries = _entries(table)
    listed = tuple(TensorInfo(".".join(e.path), e.shape, str(e.dtype).removeprefix("torch.")) for e in entries)
    return Contents(scan=_plain(scan), tensors=listed, read=lambda: _read(head.path, entries), files=files)


def _plain(scan: PickleScan) -> PickleScan:
    """The same scan, whose stacked names `_Reader` has looked up one by one."""
    return PickleScan(scan.globals, scan.complete, known=scan.known)


def _entries(table: Path) -> list[_Entry]:
    try:
        with table.open("rb") as file:
            read = _Reader(file).load()
        return list(_tensors(read))
    except Exception as error:  # noqa: BLE001 (a damaged pickle, or a table of another shape, can fail in any way)
        raise RefusedError(
            f"{table}: the checkpoint's table cannot be read",
            expected="names, shapes and places of tensors, as torch.distributed.checkpoint writes them",
            found=quote(error),
            remedy=f"copy the directory again, or {_SAVE_AGAIN}",
        ) from None


def _tensors(table: Any) -> Iterator[_Entry]:
    places = {}
    for key, place in table.storage_data.items():
        if getattr(place, "transform_descriptors", None):
            raise ValueError(f"{key.fqn} is stored compressed or encrypted")
        places[key.fqn, _whole(getattr(key, "offset", None) or ())] = place
    paths = getattr(table, "planner_data", None) or {}
    for name, about in table.state_dict_metadata.items():
        if not hasattr(about, "chunks"):
            continue  # bytes: an epoch, an optimiser's settings
        shape, pieces = _whole(about.size), []
        for chunk in about.chunks:
            offsets = _whole(chunk.offsets)
            place = places[name, offsets]
            pieces.append(
                _Piece(offsets, _whole(chunk.sizes), str(place.relative_path), int(place.offset), int(place.length))
            )
        if sum(math.prod(piece.shape) for piece in pieces) != math.prod(shape):
            raise ValueError(f"the pieces of {name} do not make up its shape {shape}")
        dtype = _dtype(about.properties)
        yield _Entry(tuple(str(part) for part in paths.get(name, (name,))), shape, dtype, tuple(pieces))


def _whole(numbers: Any) -> tuple[int, ...]:
    found = tuple(int(number) for number in numbers)
    if any(number < 0 for number in found):
        raise ValueError(f"a negative size {found}")
    return found


def _dtype(properties: Any) -> torch.dtype:
    """The type of the numbers, which come first in the state of a tensor's properties."""
    state = properties.state
    found = state[0] if isinstance(state, tuple) and state else None
    if not isinstance(found, torch.dtype):
        raise ValueError("a tensor without a type")
    return found


def _read(folder: Path, entries: list[_Entry]) -> dict[str, Any]:
    """The tensors, by name, under the entry of the saved dictionary that they belong to."""
    stored: dict[str, Any] = {}
    for entry in entries:
        tensor = _together(folder, entry)
        if len(entry.path) > 1:
            stored.setdefault(entry.path[0], {})[".".join(entry.path[1:])] = tensor
        else:
            stored[entry.path[0]] = tensor
    return stored


def _together(folder: Path, entry: _Entry) -> Tensor:
    name = ".".join(entry.path)
    held = sum(piece.length for piece in entry.pieces)
    if math.prod(entry.shape) * entry.dtype.itemsize > held:
        raise _wrong(folder, name, f"{entry.shape} of {entry.dtype} in {held} bytes")
    whole = torch.empty(entry.shape, dtype=entry.dtype)
    for piece in entry.pieces:
        try:
            part = _piece(folder, piece)
            place = tuple(slice(o, o + s) for o, s in zip(piece.offsets, piece.shape, strict=True))
            if part.shape != whole[place].shape or part.shape != piece.shape or part.dtype != entry.dtype:
                raise ValueError(f"{tuple(part.shape)} of {part.dtype} where {piece.shape} of {entry.dtype} belongs")
            whole[place] = part
        except AuditError:
            raise
        except Exception as error:  # noqa: BLE001 (a damaged piece can fail in any way)
            raise _wrong(folder, name, f"{piece.file}: {' '.join(str(error).split())[:200]}") from None
    return whole


def _piece(folder: Path, piece: _Piece) -> Tensor:
    """One piece, from the bytes of a file beside the table."""
    if Path(piece.file).name != piece.file:
        raise ValueError("a file outside the directory")
    with (folder / piece.file).open("rb") as file:
        file.seek(piece.start)
        blob = file.read(piece.length)
    scan = _scan(blob)
    if scan.unsafe:
        raise ValueError(f"a pickle that would run code: {', '.join(scan.unsafe[:8])}")
    if not scan.safe:
        raise ValueError("bytes that torch.save did not write, or that were damaged since")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        part = torch.load(io.BytesIO(blob), map_location="cpu", weights_only=True)
    if not isinstance(part, Tensor):
        raise ValueError(f"a {type(part).__name__}, not a tensor")
    return part


def _scan(blob: bytes) -> PickleScan:
    try:
        archive = open_archive(blob)
        if archive.damaged() is not None or archive.repeated() is not None:
            return PickleScan(complete=False)
        return join(scan_pickle(io.BytesIO(archive.read(name))) for name in archive.names if name.endswith(".pkl"))
    except ZIP_ERRORS:
        return PickleScan(complete=False)


def _wrong(folder: Path, name: str, found: str) -> RefusedError:
    return RefusedError(
        f"{folder}: tensor {name} cannot be put together",
        expected="pieces as the checkpoint's table describes them",
        found=found,
        remedy=f"copy the directory again, or {_SAVE_AGAIN}",
    )
