"""TorchScript archives: a program in torch's own language, compiled and run only with consent.

Its pickles are read by torch's C++ reader, which knows no Python; all the same, one that names anything but scripted
classes and plain tensors is refused, and so is a record that `torch.jit.save` does not write.
"""

from __future__ import annotations

import io
import re
import warnings

import torch

from spectral_audit.errors import RefusedError, quote
from spectral_audit.inputs.checkpoints.archive import Archive
from spectral_audit.inputs.checkpoints.contents import SAVE_STATE_DICT, Consent, Contents, Head, Program, why_unsafe
from spectral_audit.inputs.checkpoints.pickles import PickleScan, join, scan_pickle
from spectral_audit.inputs.checkpoints.scripted import Scripted, UnsupportedError
from spectral_audit.inputs.checkpoints.storages import overdrawn

_RECORDS = re.compile(
    r"(?:data|constants|traced_inputs)(?:\.pkl|/\d+)|code/[\w./]+\.py(?:\.debug_pkl)?"
    r"|version|byteorder|\.format_version|\.storage_alignment|\.data/[^/]+|extra/.+"
)
_REMEDY = f"{SAVE_STATE_DICT[:-1]}; or export it: torch.export.save(torch.export.export(model, inputs), 'm.pt2')."


def is_torchscript(head: Head) -> bool:
    """A zip with a pickle of constants beside that of the module."""
    return head.has("constants.pkl") and head.has("data.pkl")


def open_torchscript(head: Head) -> Contents:
    """The globals of every record that is, or could be taken for, a pickle; and how to load the program."""
    archive = head.archive
    assert archive is not None  # is_torchscript
    scan = _scan(archive)
    extra = [name for name in archive.names if name.startswith("extra/")]
    foreign = [name for name in archive.names if not _RECORDS.fullmatch(name)]
    refusal = why_unsafe(head.path, scan)
    if foreign:
        refusal = RefusedError(
            f"{head.path}: the TorchScript archive holds records that are not read here",
            expected="what torch.jit.save writes: code, constants and tensors",
            found=", ".join(foreign[:8]),
            remedy=_REMEDY,
        )
    claims = None if refusal else overdrawn(archive)
    if claims is not None:
        refusal = RefusedError(
            f"{head.path}: the TorchScript archive is damaged: its tensors do not lie inside its records",
            expected="records as large as the numbers in them",
            found=claims,
            remedy=f"copy or download the file again, or {_REMEDY}",
        )
    consent = RefusedError(
        f"{head.path}: a TorchScript archive is a program, and auditing it runs that program",
        expected="your consent, for a file whose source you trust",
        found="--trust none",
        remedy=f"add --trust code; or {_REMEDY}",
    )
    return Contents(
        scan=scan,
        program=lambda: _load(head),
        consent=Consent("code", consent),
        refusal=refusal,
        notes=(f"not read: {', '.join(extra[:8])}",) if extra else (),
    )


def _scan(archive: Archive) -> PickleScan:
    scans = []
    for name in archive.names:
        scan = scan_pickle(io.BytesIO(archive.read(name, limit=None)))
        # Code and numbers are no pickles; should they end like one and import something, they count.
        if name.endswith("pkl") or (scan.complete and scan.globals):
            scans.append(scan)
    found = join(scans)
    scripted = frozenset(name for name in found.globals if name.startswith(("__torch__.", "torch.jit._pickle.")))
    return PickleScan(found.globals, found.complete, found.stacked, found.module, known=scripted)


def _load(head: Head) -> Program:
    """The program as a module in eval mode."""
    try:
        with head.path.open("rb") as file, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            module = Scripted(torch.jit.load(file, map_location="cpu"))
    except UnsupportedError as error:
        raise RefusedError(
            f"{head.path}: the TorchScript program does something that is not audited",
            expected="torch's own operations on tensors, numbers and lists",
            found=str(error),
            remedy=_REMEDY,
        ) from None
    except Exception as error:  # noqa: BLE001 (damaged code can fail in any way)
        raise RefusedError(
            f"{head.path}: the TorchScript program cannot be loaded",
            expected=f"a program that torch {torch.__version__} reads",
            found=quote(error),
            remedy=_REMEDY,
        ) from None
    return Program(module, "TorchScript program")
