"""Whether the tensors of an archive lie inside their records: torch's C++ reader takes their word for it.

Its pickles are read with stand-ins for all that they name, so that nothing of them can run; what is looked at are the
storages they claim and the tensors they lay over them.
"""

from __future__ import annotations

import io
import pickle
from typing import Any

from spectral_audit.errors import quote
from spectral_audit.inputs.checkpoints.archive import Archive

_BYTES = {
    **{"DoubleStorage": 8, "FloatStorage": 4, "HalfStorage": 2, "BFloat16Storage": 2, "LongStorage": 8},
    **{"IntStorage": 4, "ShortStorage": 2, "CharStorage": 1, "ByteStorage": 1, "BoolStorage": 1},
    **{"ComplexDoubleStorage": 16, "ComplexFloatStorage": 8, "QInt8Storage": 1, "QInt32Storage": 4, "QUInt8Storage": 1},
}


class OverdrawnError(Exception):
    """A storage or a tensor claims more than is there."""


class _Anything:
    """Stands for any object: takes whatever it is given, and does nothing."""

    def __init__(self, *args: object) -> None:
        pass

    def __setstate__(self, state: object) -> None:
        pass

    def __setitem__(self, key: object, value: object) -> None:
        pass

    def append(self, item: object) -> None:
        """Take an item."""


class _Reader(pickle.Unpickler):
    """Checks every storage against the size of its record, and every tensor against its storage."""

    def __init__(self, blob: bytes, sizes: dict[str, int], folder: str) -> None:
        super().__init__(io.BytesIO(blob))
        self.sizes = sizes
        self.folder = folder

    def find_class(self, module: str, name: str) -> Any:
        if module == "torch" and name in _BYTES:
            return name
        if module == "torch._utils" and name.startswith("_rebuild_"):
            return _tensor
        return type("_Anything", (_Anything,), {})

    def persistent_load(self, pid: Any) -> int:
        """The number of elements of a storage whose record is large enough for them."""
        kind, type_, key, _, count = pid
        record = f"{self.folder}/{key}"
        if kind != "storage" or not isinstance(count, int) or count < 0:
            raise OverdrawnError(f"record {record} is no storage")
        if count * _BYTES[type_] > self.sizes.get(record, 0):
            raise OverdrawnError(f"{count} numbers of {type_} in record {record} of {self.sizes.get(record, 0)} bytes")
        return count


def _tensor(held: Any, offset: Any, size: Any, stride: Any, *ignored: object) -> None:
    """Check a strided tensor against the number of elements of its storage."""
    numbers = [held, offset, *size, *stride]
    if len(size) != len(stride) or not all(isinstance(n, int) and n >= 0 for n in numbers):
        raise OverdrawnError(f"a tensor of shape {size} and strides {stride}")
    last = offset + sum((n - 1) * step for n, step in zip(size, stride, strict=True))
    if 0 not in size and last >= held:
        raise OverdrawnError(f"a tensor of shape {size} in {held} numbers")


def overdrawn(archive: Archive) -> str | None:
    """What claims more than the archive holds, or cannot be read; `None` when everything lies where it should."""
    for folder in ("data", "constants"):
        if f"{folder}.pkl" not in archive.names:
            continue
        sizes = {name: size for name, size in archive.sizes().items() if name.startswith(f"{folder}/")}
        try:
            _Reader(archive.read(f"{folder}.pkl"), sizes, folder).load()
        except OverdrawnError as error:
            return f"{folder}.pkl: {error}"
        except Exception as error:  # noqa: BLE001 (a damaged pickle can fail in any way)
            return f"{folder}.pkl: {quote(error)}"
    return None
