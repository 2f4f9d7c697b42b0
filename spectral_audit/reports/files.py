"""Files that are there whole or not at all."""

from __future__ import annotations

import os
from pathlib import Path

from spectral_audit.errors import UsageError


def write_file(path: Path, text: str) -> None:
    """Write a text beside its place, then move it there; folders are made. Raises UsageError when that fails."""
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        part.write_text(text, encoding="utf-8", errors="backslashreplace", newline="\n")
        part.replace(path)
    except OSError as error:
        raise UsageError(
            f"{path}: cannot be written",
            expected="a file in a directory that can be written to, with room for it",
            found=error.strerror or str(error),
            remedy="name another file, or make room for this one",
        ) from error
    finally:
        discard(part)


def discard(part: Path) -> None:
    """Remove what is left of an unfinished file, if anything."""
    try:
        part.unlink(missing_ok=True)
    except OSError:
        return  # its directory is not one: there is nothing to discard
