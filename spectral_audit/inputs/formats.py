"""The checkpoint formats, recognised by content: one function and one line of `FORMATS` each."""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file

from spectral_audit.errors import RefusedError
from spectral_audit.inputs.archive import MAGIC, ZIP_ERRORS, open_archive
from spectral_audit.inputs.contents import SAVE_STATE_DICT, SUSPICION, Contents, Head
from spectral_audit.inputs.exported import is_exported, open_exported
from spectral_audit.inputs.pickles import scan_pickle
from spectral_audit.results import TensorInfo

_LEGACY_MAGIC = b"\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19"
_SAFETENSORS_DTYPES = {
    **{"F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16", "BOOL": "bool"},
    **{f"{kind}{bits}": f"{name}{bits}" for kind, name in (("I", "int"), ("U", "uint")) for bits in (8, 16, 32, 64)},
}
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


def open_checkpoint(path: Path) -> tuple[str, Contents]:
    """The format of a file, and what it holds.

    Raises `RefusedError` for a file that is missing, empty, damaged or of no known format.
    """
    head = _head(path)
    for name, kind in FORMATS.items():
        if kind.matches(head):
            return name, kind.open(head)
    raise _unknown(head)


def _head(path: Path) -> Head:
    """The first bytes and the records; zip records are checked against their checksums."""
    try:
        if path.is_dir():
            raise RefusedError(
                f"{path}: not a checkpoint", expected="a file", found="a directory", remedy="name one file in it."
            )
        size = path.stat().st_size
        with path.open("rb") as file:
            start = file.read(256)
    except FileNotFoundError:
        raise RefusedError(
            f"{path}: no such file",
            expected="a checkpoint file",
            found="nothing of that name",
            remedy="check the path and the spelling.",
        ) from None
    except (OSError, ValueError) as error:
        raise RefusedError(f"{path}: cannot be read", found=str(error), remedy="give a readable file.") from None
    if not start:
        raise RefusedError(
            f"{path}: the file is empty", expected="a checkpoint", found="0 bytes", remedy="copy or save it again."
        )
    if not start.startswith(MAGIC):
        return Head(path, start, size, None)
    try:
        archive = open_archive(path)
        damaged = archive.damaged()
    except ZIP_ERRORS as error:
        raise RefusedError(
            f"{path}: a zip archive that is cut short or damaged",
            expected="a complete archive, with its table of contents at the end",
            found=f"{size} bytes; {error}",
            remedy="copy or download the file again.",
        ) from None
    if damaged is not None:
        raise RefusedError(
            f"{path}: record {damaged} does not match its checksum",
            expected="the bytes that were saved",
            found="other bytes: the file was damaged or changed after it was saved",
            remedy="copy or download the file again.",
        )
    return Head(path, start, size, archive)


def _unknown(head: Head) -> RefusedError:
    found, remedy = f"a file that starts with {head.start[:12]!r}", SAVE_STATE_DICT
    if head.archive is not None:
        found = f"a zip archive of {', '.join(head.archive.names[:5]) or 'nothing'}"
    for start, what, advice in _STRANGERS:
        if head.start.startswith(start):
            found, remedy = what, advice
    return RefusedError(
        f"{head.path}: not a checkpoint format that is known here",
        expected="safetensors, a state dict saved by torch.save, or a program saved by torch.export.save",
        found=found,
        remedy=remedy,
    )


def _is_safetensors(head: Head) -> bool:
    """A header length of eight bytes, then the JSON header, which starts with a brace."""
    return head.start[8:9] == b"{" and int.from_bytes(head.start[:8], "little") < 100_000_000


def _open_safetensors(head: Head) -> Contents:
    try:
        with safe_open(head.path, framework="pt") as file:
            metadata = dict(file.metadata() or {})
            slices = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118 (not a mapping)
            tensors = tuple(
                TensorInfo(name, tuple(part.get_shape()), _SAFETENSORS_DTYPES.get(part.get_dtype(), part.get_dtype()))
                for name, part in slices.items()
            )
    except (SafetensorError, OSError, ValueError) as error:
        raise _broken(head, error, "safetensors, complete to the last byte") from None

    def read() -> object:
        try:
            return load_file(head.path)
        except (SafetensorError, OSError, ValueError, KeyError, RuntimeError) as error:
            raise _broken(head, error, "tensors of a type this torch knows") from None

    return Contents(metadata=metadata, tensors=tensors, read=read)


def _broken(head: Head, error: Exception, expected: str) -> RefusedError:
    return RefusedError(
        f"{head.path}: damaged, cut short, or not readable by this version",
        expected=expected,
        found=f"{head.size} bytes; {type(error).__name__}: {' '.join(str(error).split())[:300]}",
        remedy="copy or download the file again, or save it again.",
    )


def _is_torch_zip(head: Head) -> bool:
    return head.has("data.pkl")


def _open_torch_zip(head: Head) -> Contents:
    assert head.archive is not None  # _is_torch_zip
    try:
        scan = scan_pickle(io.BytesIO(head.archive.read("data.pkl")))
    except ZIP_ERRORS as error:
        raise _broken(head, error, "a record data.pkl that can be read") from None
    return Contents(scan=scan, read=lambda: _torch_load(head))


def _is_legacy(head: Head) -> bool:
    return head.start[:1] == b"\x80" and _LEGACY_MAGIC in head.start[:40]


def _open_legacy(head: Head) -> Contents:
    # A magic number, a version, facts about the machine, the object, the list of storages; then the numbers.
    with head.path.open("rb") as file:
        return Contents(scan=scan_pickle(file, 5), read=lambda: _torch_load(head))


def _torch_load(head: Head) -> object:
    """What torch's weights-only loader makes of a file whose pickle was scanned before."""
    try:
        # From an open file: given a path, torch goes by its extension.
        with head.path.open("rb") as file, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # noqa: BLE001 (a damaged pickle can fail in any way)
        raise _broken(head, error, "a file that torch.load reads with weights_only=True") from None


def _is_torchscript(head: Head) -> bool:
    return head.has("constants.pkl") and head.has("data.pkl")


def _open_torchscript(head: Head) -> Contents:
    refusal = RefusedError(
        f"{head.path}: TorchScript is not audited",
        expected="weights, or a program whose graph can be differentiated twice",
        found="a TorchScript archive",
        remedy=f"{SAVE_STATE_DICT[:-1]}; or export it: torch.export.save(torch.export.export(model, inputs), 'm.pt2').",
    )
    return Contents(scan=_open_torch_zip(head).scan, refusal=refusal)


def _is_old_export(head: Head) -> bool:
    return head.has("serialized_exported_program.json")


def _open_old_export(head: Head) -> Contents:
    refusal = RefusedError(
        f"{head.path}: an exported program in the format of torch 2.7 or earlier",
        expected="the format written since torch 2.8",
        found="record serialized_exported_program.json",
        remedy="export it again with a current torch.",
    )
    return Contents(refusal=refusal)


def _is_pickle(head: Head) -> bool:
    """A pickle of protocol 2 or later says so at the start; earlier ones are known only by reading them through."""
    if head.archive is not None:
        return False
    if head.start[:1] == b"\x80" and len(head.start) > 1 and 2 <= head.start[1] <= 5:
        return True
    with head.path.open("rb") as file:
        scan = scan_pickle(file)
    return scan.complete and bool(scan.globals)


def _open_pickle(head: Head) -> Contents:
    with head.path.open("rb") as file:
        scan = scan_pickle(file)
    refusal = RefusedError(
        f"{head.path}: a plain Python pickle; loading it can run any code, so nothing was loaded",
        expected="a file written by torch.save",
        found=f"a pickle that imports {', '.join(scan.globals[:12]) or 'nothing'}",
        remedy=f"{SUSPICION}{SAVE_STATE_DICT}",
    )
    return Contents(scan=scan, refusal=refusal)


FORMATS: dict[str, Format] = {
    "torch.export": Format(is_exported, open_exported),
    "torch.export (old)": Format(_is_old_export, _open_old_export),
    "torchscript": Format(_is_torchscript, _open_torchscript),
    "torch.save": Format(_is_torch_zip, _open_torch_zip),
    "torch.save (legacy)": Format(_is_legacy, _open_legacy),
    "safetensors": Format(_is_safetensors, _open_safetensors),
    "pickle": Format(_is_pickle, _open_pickle),
}
