"""What lies at a path: the first bytes, the records of a zip against their checksums, or a directory's names."""

from __future__ import annotations

from pathlib import Path

from spectral_audit.errors import RefusedError
from spectral_audit.inputs.checkpoints.archive import MAGIC, ZIP_ERRORS, Archive, open_archive
from spectral_audit.inputs.checkpoints.contents import Head

# Torch stores records as they are. What unpacks to over this many times the file is no checkpoint but a bomb.
_LARGEST_RATIO = 100
_ALWAYS_FINE = 64 << 20


def head_of(path: Path) -> Head:
    """What a format can be recognised by.

    Raises `RefusedError` for what is missing, empty, cut short, damaged, or a zip that claims more than it is.
    """
    try:
        if path.is_dir():
            return Head(path, b"", 0, folder=frozenset(entry.name for entry in path.iterdir()))
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
        raise RefusedError(
            f"{path}: cannot be read", expected="a checkpoint file", found=str(error), remedy="give a readable file."
        ) from None
    if not start:
        raise RefusedError(
            f"{path}: the file is empty", expected="a checkpoint", found="0 bytes", remedy="copy or save it again."
        )
    if not start.startswith(MAGIC):
        return Head(path, start, size)
    return Head(path, start, size, _archive(path, size))


def _archive(path: Path, size: int) -> Archive:
    try:
        archive = open_archive(path)
        refusal = _suspect(path, size, archive)
        damaged = None if refusal else archive.damaged()
    except ZIP_ERRORS as error:
        raise RefusedError(
            f"{path}: a zip archive that is cut short or damaged",
            expected="a complete archive, with its table of contents at the end",
            found=f"{size} bytes; {error}",
            remedy="copy or download the file again.",
        ) from None
    if refusal is not None:
        raise refusal
    if damaged is not None:
        raise RefusedError(
            f"{path}: record {damaged} does not match its checksum",
            expected="the bytes that were saved",
            found="other bytes: the file was damaged or changed after it was saved",
            remedy="copy or download the file again.",
        )
    return archive


def _suspect(path: Path, size: int, archive: Archive) -> RefusedError | None:
    """The refusal for an archive that no program writes by accident."""
    if archive.packed > size or archive.unpacked > max(_ALWAYS_FINE, _LARGEST_RATIO * size):
        return RefusedError(
            f"{path}: claims far more data than it holds, as a zip bomb does; nothing was unpacked",
            expected="records of about the size of the file",
            found=f"a file of {size} bytes whose records claim {max(archive.packed, archive.unpacked)}",
            remedy="do not use this file; copy it again from a source you trust.",
        )
    outside = [
        name for name in archive.names if name.startswith(("/", "\\")) or ".." in name.replace("\\", "/").split("/")
    ]
    if outside:
        return RefusedError(
            f"{path}: holds records whose names lead out of the archive",
            expected="names below the archive's root",
            found=", ".join(outside[:4]),
            remedy="do not use this file; copy it again from a source you trust.",
        )
    twin = archive.repeated()
    if twin is not None:
        return RefusedError(
            f"{path}: holds a record twice, and readers disagree on which of the two counts",
            expected="every record once",
            found=twin,
            remedy="do not use this file; copy it again from a source you trust.",
        )
    return None
