"""Files that are there whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from spectral_audit.errors import UsageError


def write_file(path: Path, text: str) -> None:
    """Write a text whole or not at all, as `write_whole` does."""
    write_whole(path, lambda part: part.write_text(text, encoding="utf-8", errors="backslashreplace", newline="\n"))


def write_whole(path: Path, write: Callable[[Path], object]) -> None:
    """Have `write` write beside a file's place, then move it there; folders are made. Raises UsageError on failure."""
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write(part)
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
