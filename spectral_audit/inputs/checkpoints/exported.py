"""Programs written by `torch.export.save`: checked record by record, then loaded from a fresh copy.

Torch builds and runs Python from such a file, so loading needs consent. Besides, its loader unpickles some records
without limits; here every record must be one that an export of a plain model writes, every pickle in it must hold
tensors only, and torch's loader is held to its weights-only mode.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import threading
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from spectral_audit.errors import AuditError, RefusedError, quote
from spectral_audit.inputs.checkpoints.archive import MAGIC, ZIP_ERRORS, Archive, open_archive
from spectral_audit.inputs.checkpoints.contents import Consent, Contents, Head, Program, why_unsafe
from spectral_audit.inputs.checkpoints.pickles import PickleScan, join, scan_pickle
from spectral_audit.inputs.checkpoints.program import runnable, trained
from spectral_audit.inputs.quiet import silenced
from spectral_audit.results import TensorInfo

_EXPORT_AGAIN = "export the model again: torch.export.save(torch.export.export(model.eval(), inputs), 'model.pt2')."
_CONFIG = re.compile(r"data/(?:weights|constants)/[^/]+_config\.json")
_RAW = re.compile(r"data/(?:weights/weight|constants/tensor)_\d+")
_PICKLED = re.compile(r"data/(?:weights|constants|sample_inputs)/[^/]+\.pt")
_PLAIN = re.compile(
    r"archive_format|archive_version|byteorder|version|\.format_version|\.storage_alignment|\.data/[^/]+"
    r"|models/[^/]+\.json|extra/.+"
)
# torch's own numbering of dtypes in exported files.
_DTYPES = {
    **{1: "uint8", 2: "int8", 3: "int16", 4: "int32", 5: "int64", 6: "float16", 7: "float32", 8: "float64"},
    **{9: "complex32", 10: "complex64", 11: "complex128", 12: "bool", 13: "bfloat16"},
}
_LOADING = threading.Lock()


def is_exported(head: Head) -> bool:
    """Whether the zip holds `models/*.json` and says it is a `pt2` archive."""
    archive = head.archive
    if archive is None or not head.has("archive_format"):
        return False
    if not any(name.startswith("models/") and name.endswith(".json") for name in archive.names):
        return False
    with contextlib.suppress(*ZIP_ERRORS):
        return archive.read("archive_format").strip() == b"pt2"
    return False


def open_exported(head: Head) -> Contents:
    """The tensors and pickles of an exported program, and how to load it."""
    archive = head.archive
    assert archive is not None  # is_exported
    configs = _configs(head.path, archive)
    scan = join(_scans(archive, configs))
    refusal = _foreign_record(head.path, archive) or why_unsafe(head.path, scan)
    return Contents(
        scan=scan,
        tensors=tuple(_listing(configs)),
        program=lambda: _load(head.path, archive),
        consent=Consent("code", _consent(head.path)),
        refusal=refusal,
    )


def _consent(path: Path) -> RefusedError:
    return RefusedError(
        f"{path}: loading an exported program builds and runs Python generated from the file",
        expected="your consent, for a file whose source you trust",
        found="--trust none",
        remedy="add --trust code; or audit a state dict, which needs no trust.",
    )


def is_old_export(head: Head) -> bool:
    """A zip with the record in which torch up to 2.7 kept the graph."""
    return head.has("serialized_exported_program.json")


def open_old_export(head: Head) -> Contents:
    """A program that this torch does not read."""
    refusal = RefusedError(
        f"{head.path}: an exported program in the format of torch 2.7 or earlier",
        expected="the format written since torch 2.8",
        found="record serialized_exported_program.json",
        remedy="export it again with a current torch.",
    )
    return Contents(refusal=refusal)


def _configs(path: Path, archive: Archive) -> dict[str, dict[str, Any]]:
    """The tables of stored tensors, by the record that holds them: tensor name → where and what it is."""
    configs = {}
    for name in filter(_CONFIG.fullmatch, archive.names):
        try:
            table = json.loads(archive.read(name))["config"]
            configs[name] = {str(key): dict(entry) for key, entry in table.items()}
        except (*ZIP_ERRORS, TypeError, AttributeError, RecursionError) as error:
            raise RefusedError(
                f"{path}: the table of tensors in record {name} cannot be read",
                expected="JSON written by torch.export.save",
                found=quote(error),
                remedy=_EXPORT_AGAIN,
            ) from None
    return configs


def _foreign_record(path: Path, archive: Archive) -> RefusedError | None:
    """The refusal for a record that a plain model's export does not write: compiled code or custom objects."""
    known = (_CONFIG, _RAW, _PICKLED, _PLAIN)
    foreign = [name for name in archive.names if not any(pattern.fullmatch(name) for pattern in known)]
    if not foreign:
        return None
    return RefusedError(
        f"{path}: the exported program holds records that are not read here",
        expected="graph, tensors and sample inputs (no compiled libraries, no custom objects)",
        found=", ".join(foreign[:8]),
        remedy=_EXPORT_AGAIN,
    )


def _scans(archive: Archive, configs: dict[str, dict[str, Any]]) -> Iterator[PickleScan]:
    """A scan of every record that is, or may be taken for, a pickle."""
    pickled = {
        f"{config.rsplit('/', 1)[0]}/{entry.get('path_name')}"
        for config, entries in configs.items()
        for entry in entries.values()
        if entry.get("use_pickle") is not False
    }
    for name in archive.names:
        if _CONFIG.fullmatch(name) or name.startswith("models/"):
            continue
        blob = archive.read(name, limit=None)
        declared = name in pickled or _PICKLED.fullmatch(name) is not None
        if blob.startswith(MAGIC):
            yield _scan_saved(blob)
        elif declared:
            # A legacy torch.save is five pickles in a row; an exporter of today writes none.
            yield scan_pickle(io.BytesIO(blob), 5)
        else:
            # Raw numbers may look like the start of a pickle; only one that ends well and imports something counts.
            scan = scan_pickle(io.BytesIO(blob))
            if scan.complete and scan.globals:
                yield scan


def _scan_saved(blob: bytes) -> PickleScan:
    """The pickles of a torch.save archive inside a record; one in another shape counts as damaged."""
    try:
        inner = open_archive(blob)
        pickles = [name for name in inner.names if name.endswith(".pkl")]
        plain = pickles == ["data.pkl"] and inner.repeated() is None
        scans = [scan_pickle(io.BytesIO(inner.read(name))) for name in pickles]
    except ZIP_ERRORS:
        return PickleScan(complete=False)
    return join([*scans, PickleScan(complete=plain)])


def _listing(configs: dict[str, dict[str, Any]]) -> Iterator[TensorInfo]:
    for config, entries in configs.items():
        if not config.startswith("data/weights/"):
            continue
        for name, entry in entries.items():
            try:
                meta = entry["tensor_meta"]
                shape = tuple(int(size["as_int"]) for size in meta["sizes"])
                yield TensorInfo(name, shape, _DTYPES.get(int(meta["dtype"]), "unknown"))
            except (KeyError, TypeError, ValueError):
                # A pickled tensor has no such entry; its shape is not known before loading.
                yield TensorInfo(name, (), "unknown")


def _load(path: Path, archive: Archive) -> Program:
    """The program as a module that takes any batch."""
    try:
        with _weights_only(), silenced("torch.export"), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            program = torch.export.load(archive.copy())
            module, notes = runnable(program)
    except AuditError:
        raise
    except Exception as error:  # noqa: BLE001 (a damaged or foreign graph can fail in any way)
        raise RefusedError(
            f"{path}: the exported program cannot be loaded",
            expected=f"a program that torch {torch.__version__} reads",
            found=quote(error),
            remedy=_EXPORT_AGAIN,
        ) from None
    node = trained(program.graph)
    if node is not None:
        raise RefusedError(
            f"{path}: the program was exported in training mode, and that cannot be changed afterwards",
            expected="a program exported after model.eval()",
            found=f"{node.target} with training=True at `{node.name}`",
            remedy=_EXPORT_AGAIN,
        )
    return Program(module, "exported program", notes)


@contextlib.contextmanager
def _weights_only() -> Iterator[None]:
    """Hold every `torch.load` inside to weights-only mode, the ones in torch's own code included."""
    switch = {"TORCH_FORCE_WEIGHTS_ONLY_LOAD": "1", "TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD": "0"}
    with _LOADING:
        before = {key: os.environ.get(key) for key in switch}
        os.environ.update(switch)
        try:
            yield
        finally:
            for key, value in before.items():
                os.environ.pop(key)
                if value is not None:
                    os.environ[key] = value
