"""Files and their checksums: any file's SHA-256, and zip archives, as torch and NumPy write them."""

from __future__ import annotations

import hashlib
import io
import lzma
import struct
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

MAGIC = b"PK\x03\x04"
_CHUNK = 1 << 20
# A pickle of a state dict takes about 200 bytes for a tensor; this leaves room for a million of them.
_RECORD_LIMIT = 1 << 28
# What reading a damaged zip can raise: bad headers, lengths, encodings, encryption flags or compressed data.
ZIP_ERRORS = (
    *(zipfile.BadZipFile, zipfile.LargeZipFile, OSError, EOFError, ValueError, RuntimeError, OverflowError),
    *(NotImplementedError, KeyError, IndexError, struct.error, zlib.error, lzma.LZMAError, MemoryError),
)


def sha256_of(path: Path, files: tuple[Path, ...] = ()) -> str:
    """The SHA-256 of a file, in hexadecimal, read in pieces; of several `files`, that of their names and digests."""
    if files:
        listed = sorted((file.name, sha256_of(file)) for file in files)
        return hashlib.sha256("".join(f"{digest}  {name}\n" for name, digest in listed).encode()).hexdigest()
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(_CHUNK):
            digest.update(piece)
    return digest.hexdigest()


@dataclass(frozen=True)
class Archive:
    """The names in a zip without their common root, where it is, and the bytes its records claim to take."""

    source: Path | bytes
    root: str
    names: tuple[str, ...]
    packed: int = 0
    unpacked: int = 0

    def read(self, name: str, limit: int | None = _RECORD_LIMIT) -> bytes:
        """One record, checked against its checksum; raises one of `ZIP_ERRORS`."""
        with zipfile.ZipFile(_open(self.source)) as file:
            info = file.getinfo(self.root + name)
            if limit is not None and info.file_size > limit:
                raise zipfile.BadZipFile(f"record {name} claims {info.file_size} bytes")
            return file.read(info)

    def sizes(self) -> dict[str, int]:
        """The bytes of every record, unpacked."""
        with zipfile.ZipFile(_open(self.source)) as file:
            return {info.filename[len(self.root) :]: info.file_size for info in file.infolist()}

    def damaged(self) -> str | None:
        """The first record whose checksum or compressed data is wrong, found by streaming; `None` when all are fine."""
        with zipfile.ZipFile(_open(self.source)) as file:
            for info in file.infolist():
                try:
                    with file.open(info) as record:
                        while record.read(_CHUNK):
                            pass
                except ZIP_ERRORS:
                    return info.filename
        return None

    def repeated(self) -> str | None:
        """A name that occurs twice, in whatever case: readers disagree on which of the two counts."""
        seen: set[str] = set()
        for name in self.names:
            if name.lower() in seen:
                return name
            seen.add(name.lower())
        return None

    def copy(self) -> io.BytesIO:
        """The same records in a fresh archive, in memory: what one reader saw is then what any other will see."""
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as fresh:
            for name in self.names:
                fresh.writestr(f"archive/{name}", self.read(name, limit=None))
        buffer.seek(0)
        return buffer


def open_archive(source: Path | bytes) -> Archive:
    """The archive in a file or in memory; raises one of `ZIP_ERRORS` when it is not a zip or is cut short."""
    with zipfile.ZipFile(_open(source)) as file:
        records = [info for info in file.infolist() if not info.is_dir()]
    names = [info.filename for info in records]
    roots = {name.split("/", 1)[0] + "/" if "/" in name else "" for name in names}
    root = roots.pop() if len(roots) == 1 else ""
    packed, unpacked = (sum(getattr(info, size) for info in records) for size in ("compress_size", "file_size"))
    return Archive(source, root, tuple(name[len(root) :] for name in names), packed, unpacked)


def _open(source: Path | bytes) -> BinaryIO | Path:
    return io.BytesIO(source) if isinstance(source, bytes) else source
