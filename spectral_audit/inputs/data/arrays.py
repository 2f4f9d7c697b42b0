"""Files of named arrays: `.npz`, `.npy` pairs and safetensors."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.torch import load_file
from torch import Tensor

from spectral_audit.errors import AuditError, RefusedError
from spectral_audit.inputs.checkpoints.archive import MAGIC, sha256_of
from spectral_audit.inputs.data.stored import Array, Ask, Source, Stored, absent, damaged, digest_of, one_name, whole

_NPZ = "an .npz file written by numpy.savez"
_NPY = b"\x93NUMPY"


def is_npz(source: Source) -> bool:
    """A zip; one without any arrays in it starts with the end record."""
    return source.start.startswith(MAGIC) or (source.start.startswith(b"PK\x05\x06") and source.path.suffix == ".npz")


def read_npz(ask: Ask) -> Stored:
    """Two arrays of an archive written by `numpy.savez`; object arrays are never unpickled."""
    path, x_name, y_name = ask.path, one_name(ask), ask.spec.data.y
    try:
        with np.load(path, allow_pickle=False) as arrays:
            x = _from_npz(path, arrays, x_name, "x")
            y = None if y_name is None else _from_npz(path, arrays, y_name, "y")
    except AuditError:
        raise
    except Exception as error:  # noqa: BLE001 (NumPy parses headers with Python's own tokenizer: anything can come)
        raise damaged(path, "the archive", _NPZ, error) from None
    return whole(path, x, y, sha256_of(path), f"array `{x_name}`", f"array `{y_name}`")


def npz_names(ask: Ask) -> list[str]:
    """The names of its arrays."""
    try:
        with np.load(ask.path, allow_pickle=False) as arrays:
            return list(arrays.files)
    except Exception as error:  # noqa: BLE001 (as in `read_npz`)
        raise damaged(ask.path, "the archive", _NPZ, error) from None


def _from_npz(path: Path, arrays: Any, name: str, key: str) -> Array:
    if name not in arrays.files:
        raise absent(path, "array", name, key, arrays.files)
    try:
        value = arrays[name]
    except ValueError as error:
        raise _objects(path, f"array `{name}`", error) from None
    if not isinstance(value, np.ndarray):
        raise zipfile.BadZipFile(f"record {name} is no array")
    return value


def _objects(path: Path, what: str, error: ValueError) -> Exception:
    """NumPy says so in words only, and refuses before it unpickles anything."""
    if "Object arrays" not in str(error):
        return error
    return RefusedError(
        f"{path}: {what} holds Python objects, which only unpickling could read",
        expected="numbers",
        found="dtype object",
        remedy="save it as one rectangular array of numbers.",
    )


def is_npy(source: Source) -> bool:
    """NumPy's own magic."""
    return source.start.startswith(_NPY)


def read_npy(ask: Ask) -> Stored:
    """Inputs in one `.npy` file, labels in another, named by `data.y` relative to the spec."""
    path, name = ask.path, ask.spec.data.y
    x = _from_npy(path)
    if name is None:
        return whole(path, x, None, sha256_of(path), "the array", "the array")
    beside = ask.spec.data.folder / name
    if not name.endswith(".npy") or not beside.is_file():
        raise RefusedError(
            f"{path}: the labels of a .npy file are in another one, and `data.y` names none",
            expected="`data.y: FILE.npy`, relative to the spec",
            found=f"`data.y: {name}`" if not name.endswith(".npy") else f"{beside}: no such file",
            remedy="name that file in `data.y`. With no labels, set `data.y: null`.",
        )
    return whole(path, x, _from_npy(beside), digest_of([path, beside]), "the array", f"the array in {name}")


def _from_npy(path: Path) -> Array:
    try:
        value = np.load(path, allow_pickle=False)
    except ValueError as error:
        refusal = _objects(path, "the array", error)
        raise refusal if isinstance(refusal, AuditError) else _damaged_npy(path, error) from None
    except Exception as error:  # noqa: BLE001 (as for an archive)
        raise _damaged_npy(path, error) from None
    if not isinstance(value, np.ndarray):
        raise _damaged_npy(path, f"a {type(value).__name__}")
    return value


def _damaged_npy(path: Path, found: BaseException | str) -> RefusedError:
    return damaged(path, "the array", "an .npy file written by numpy.save", found)


def is_safetensors(source: Source) -> bool:
    """A header of plausible length, which is a JSON object."""
    return len(source.start) > 8 and source.start[8:9] == b"{" and int.from_bytes(source.start[:8], "little") < 2**27


def read_safetensors(ask: Ask) -> Stored:
    """Two tensors of a safetensors file; bfloat16 becomes float32, which holds it exactly."""
    path, x_name, y_name = ask.path, one_name(ask), ask.spec.data.y
    tensors = _tensors(path)

    def array(name: str, key: str) -> Array:
        if name not in tensors:
            raise absent(path, "tensor", name, key, sorted(tensors))
        tensor = tensors[name]
        narrow = tensor.is_floating_point() and tensor.itemsize < 4
        return (tensor.float() if narrow else tensor).numpy()

    x = array(x_name, "x")
    y = None if y_name is None else array(y_name, "y")
    return whole(path, x, y, sha256_of(path), f"tensor `{x_name}`", f"tensor `{y_name}`")


def safetensors_names(ask: Ask) -> list[str]:
    """The names of its tensors."""
    return list(_tensors(ask.path))


def _tensors(path: Path) -> dict[str, Tensor]:
    try:
        return load_file(path)
    except Exception as error:  # noqa: BLE001 (the library's own error, and torch's for strange dtypes)
        raise damaged(path, "the file", "a safetensors file", error) from None
