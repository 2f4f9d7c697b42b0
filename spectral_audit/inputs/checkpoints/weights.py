"""Files of weights: safetensors, and what torch.save and pickle write."""

from __future__ import annotations

import contextlib
import io
import json
import pickle
import warnings
from collections.abc import Callable
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file

from spectral_audit.errors import RefusedError, quote
from spectral_audit.inputs.architectures.builders import importing
from spectral_audit.inputs.checkpoints.archive import ZIP_ERRORS
from spectral_audit.inputs.checkpoints.contents import (
    SAVE_STATE_DICT,
    SUSPICION,
    Consent,
    Contents,
    Head,
    pickled,
    trusting,
)
from spectral_audit.inputs.checkpoints.modules import MODULE_GLOBALS, layers_allowed
from spectral_audit.inputs.checkpoints.pickles import PickleScan, scan_pickle
from spectral_audit.results import TensorInfo

_LEGACY_MAGIC = b"\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19"
_SAFETENSORS_DTYPES = {
    **{"F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16", "BOOL": "bool"},
    **{f"{kind}{bits}": f"{name}{bits}" for kind, name in (("I", "int"), ("U", "uint")) for bits in (8, 16, 32, 64)},
}


def is_safetensors(head: Head) -> bool:
    """A header length of eight bytes, then the JSON header, which starts with a brace."""
    return head.start[8:9] == b"{" and int.from_bytes(head.start[:8], "little") < 100_000_000


def open_safetensors(head: Head) -> Contents:
    """The tensors by their header, and how to load them."""
    try:
        with safe_open(head.path, framework="pt") as file:
            metadata = dict(file.metadata() or {})
            slices = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118 (not a mapping)
            tensors = tuple(
                TensorInfo(name, tuple(part.get_shape()), _SAFETENSORS_DTYPES.get(part.get_dtype(), part.get_dtype()))
                for name, part in slices.items()
            )
    except (SafetensorError, OSError, ValueError) as error:
        raise _overdrawn(head) or broken(head, error, "safetensors, complete to the last byte") from None

    def read() -> object:
        try:
            return load_file(head.path)
        except (SafetensorError, OSError, ValueError, KeyError, RuntimeError) as error:
            raise broken(head, error, "tensors of a type this torch knows") from None

    return Contents(metadata=metadata, tensors=tensors, read=read)


def _overdrawn(head: Head) -> RefusedError | None:
    """The refusal for a header that claims more bytes than there are; `None` when that is not what is wrong."""
    length = int.from_bytes(head.start[:8], "little")
    claimed = 8 + length
    with contextlib.suppress(OSError, ValueError, RecursionError, AttributeError, TypeError, LookupError):
        with head.path.open("rb") as file:
            header = json.loads(file.read(min(claimed, head.size))[8:])
        ends = [entry["data_offsets"][1] for name, entry in header.items() if name != "__metadata__"]
        claimed += max((end for end in ends if isinstance(end, int)), default=0)
    if claimed <= head.size:
        return None
    return RefusedError(
        f"{head.path}: its header claims more bytes than the file has: it was cut short, or made up",
        expected=f"safetensors of {claimed} bytes",
        found=f"{head.size} bytes",
        remedy="copy or download the file again.",
    )


def broken(head: Head, error: BaseException, expected: str) -> RefusedError:
    """The refusal for a file of a known format that cannot be read."""
    return RefusedError(
        f"{head.path}: damaged, cut short, or not readable by this version",
        expected=expected,
        found=f"{head.size} bytes; {quote(error)}",
        remedy="copy or download the file again, or save it again.",
    )


def is_torch_zip(head: Head) -> bool:
    """A zip with the record in which torch.save keeps its pickle."""
    return head.has("data.pkl")


def open_torch_zip(head: Head) -> Contents:
    """What torch.save wrote: a pickle beside the tensors' numbers."""
    assert head.archive is not None  # is_torch_zip
    try:
        scan = scan_pickle(io.BytesIO(head.archive.read("data.pkl")), known=MODULE_GLOBALS)
    except ZIP_ERRORS as error:
        raise broken(head, error, "a record data.pkl that can be read") from None
    return pickled(head.path, scan, read=lambda: _torch_load(head, scan))


def is_legacy(head: Head) -> bool:
    """A pickled magic number, as torch.save wrote it until 1.6."""
    return head.start[:1] == b"\x80" and _LEGACY_MAGIC in head.start[:40]


def open_legacy(head: Head) -> Contents:
    """What torch.save wrote until 1.6: pickles in a row, then the tensors' numbers."""
    # A magic number, a version, facts about the machine, the object, the list of storages.
    with head.path.open("rb") as file:
        scan = scan_pickle(file, 5, known=MODULE_GLOBALS)
    return pickled(head.path, scan, read=lambda: _torch_load(head, scan))


def _torch_load(head: Head, scan: PickleScan) -> object:
    """What torch makes of a file whose pickle was scanned before: weights only, unless the user trusts all of it."""
    if not scan.safe:
        with head.path.open("rb") as file:
            return _unpickle(head, lambda: torch.load(file, map_location="cpu", weights_only=False))
    try:
        # From an open file: given a path, torch goes by its extension.
        with head.path.open("rb") as file, warnings.catch_warnings(), layers_allowed():
            warnings.simplefilter("ignore")
            return torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # noqa: BLE001 (a damaged pickle can fail in any way)
        raise broken(head, error, "a file that torch.load reads with weights_only=True") from None


def _unpickle(head: Head, load: Callable[[], object]) -> object:
    """Run a pickle the user trusts; its classes are looked up from the working directory, as a script there would."""
    try:
        with importing(Path()), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return load()
    except (ImportError, AttributeError) as error:
        raise RefusedError(
            f"{head.path}: its pickle names code that is not here",
            expected="the classes it was saved with, importable from the working directory",
            found=quote(error),
            remedy=f"run this where that code lies; or {SAVE_STATE_DICT}",
        ) from None
    except (Exception, SystemExit) as error:  # noqa: BLE001 (the pickle's own code runs here)
        raise broken(head, error, "a pickle that loads") from None


def is_pickle(head: Head) -> bool:
    """A pickle of protocol 2 or later says so at the start; earlier ones are known only by reading them through."""
    if head.archive is not None or head.folder is not None:
        return False
    if head.start[:1] == b"\x80" and len(head.start) > 1 and 2 <= head.start[1] <= 5:
        return True
    with head.path.open("rb") as file:
        scan = scan_pickle(file)
    return scan.complete and bool(scan.globals)


def open_pickle(head: Head) -> Contents:
    """A plain pickle: there is no part of it that could be read without running it."""
    with head.path.open("rb") as file:
        scan = scan_pickle(file)
    refusal = RefusedError(
        f"{head.path}: a plain Python pickle; loading it can run any code, so nothing was loaded",
        expected="a file written by torch.save",
        found=f"a pickle that imports {', '.join(scan.globals[:12]) or 'nothing'}",
        remedy=f"{SUSPICION}{SAVE_STATE_DICT}",
    )

    def read() -> object:
        with head.path.open("rb") as file:
            return _unpickle(head, lambda: pickle.load(file))  # under --trust pickle only

    return Contents(scan=scan, read=read, consent=Consent("pickle", trusting(refusal)))
