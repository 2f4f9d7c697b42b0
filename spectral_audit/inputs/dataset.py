"""From a data file to the probe set: the samples an audit measures on, as the model sees them."""

from __future__ import annotations

import hashlib
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from spectral_audit.errors import AuditError, RefusedError, UsageError, nearest
from spectral_audit.inputs.archive import MAGIC, sha256_of
from spectral_audit.inputs.spec import AuditSpec, DataSpec, TaskSpec

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Probe:
    """The probe set: `x` float32 (n, *shape), channels first and normalised, and its labels.

    `y` is int64 (n,) for classification, float32 (n, C) for regression, or `None`. `sha256` is the file's,
    `probe_sha256` that of `x` and `y` themselves; `available` is the number of samples in the file.
    """

    x: Tensor
    y: Tensor | None
    sha256: str
    probe_sha256: str
    available: int
    path: str


@dataclass(frozen=True)
class Kind:
    """How a kind of data file is recognised (by its first bytes and its name) and read into x and y."""

    matches: Callable[[bytes, Path], bool]
    read: Callable[[DataSpec], tuple[Array, Array | None]]


def load_probe(spec: AuditSpec) -> Probe:
    """Draw the probe set a spec describes.

    Values become channels first, then (value · scale − mean) / std in float64, then float32. With n at least the
    number of samples, all of them are taken; the order is always the file's.

    Raises:
        RefusedError: the file is missing, damaged, of no known kind, or its arrays cannot be a probe set.
        UsageError: mean or std has a number of entries that is neither one nor the number of channels.
    """
    path = spec.data.path
    x, y = _kind(path).read(spec.data)
    _require_numbers(path, spec.data.x, x)
    if y is not None:
        y = _labels(path, spec.data.y or "", y, spec.task, len(x))
    chosen = _draw(spec, len(x), y)
    inputs = _normalise(path, _channels_first(path, spec.input.layout, x)[chosen], spec)
    labels = None if y is None else torch.from_numpy(np.ascontiguousarray(y[chosen]))
    return Probe(
        x=inputs,
        y=labels,
        sha256=sha256_of(path),
        probe_sha256=_digest(inputs, labels),
        available=len(x),
        path=str(path),
    )


def _kind(path: Path) -> Kind:
    try:
        if path.is_dir():
            raise RefusedError(
                f"{path}: not a data file",
                expected=f"one of: {', '.join(DATASETS)}",
                found="a directory",
                remedy="name a .npz file in `data.path`.",
            )
        with path.open("rb") as file:
            start = file.read(64)
    except FileNotFoundError:
        raise RefusedError(
            f"{path}: no such data file",
            expected="the file named by `data.path`, relative to the spec",
            found="nothing of that name",
            remedy="correct `data.path`, or fetch the data.",
        ) from None
    except (OSError, ValueError) as error:
        raise RefusedError(f"{path}: cannot be read", found=str(error), remedy="give a readable file.") from None
    for kind in DATASETS.values():
        if start and kind.matches(start, path):
            return kind
    raise RefusedError(
        f"{path}: not a data file that is known here",
        expected=f"one of: {', '.join(DATASETS)}",
        found=f"a file that starts with {start[:12]!r}" if start else "an empty file (0 bytes)",
        remedy="save the arrays with numpy.savez(path, x=x, y=y).",
    )


def _is_npz(start: bytes, path: Path) -> bool:
    """A zip; one without any arrays in it starts with the end record."""
    return start.startswith(MAGIC) or (start.startswith(b"PK\x05\x06") and path.suffix == ".npz")


def _read_npz(data: DataSpec) -> tuple[Array, Array | None]:
    try:
        with np.load(data.path, allow_pickle=False) as arrays:
            x = _array(data.path, arrays, data.x, "x")
            return x, None if data.y is None else _array(data.path, arrays, data.y, "y")
    except AuditError:
        raise
    except Exception as error:  # noqa: BLE001 (NumPy parses headers with Python's own tokenizer: anything can come)
        raise RefusedError(
            f"{data.path}: the archive is cut short or damaged",
            expected="an .npz file written by numpy.savez",
            found=f"{type(error).__name__}: {' '.join(str(error).split())[:200]}",
            remedy="copy or download the file again.",
        ) from None


def _array(path: Path, arrays: Any, name: str, key: str) -> Array:
    known = list(arrays.files)
    if name not in known:
        without = " With no labels, set `data.y: null`." if key == "y" else ""
        raise RefusedError(
            f"{path}: holds no array `{name}`",
            expected=f"the array named by `data.{key}`",
            found=f"arrays {', '.join(known) or '(none)'}",
            remedy=f"correct `data.{key}`; {nearest(name, known)}.{without}",
        )
    try:
        value = arrays[name]
    except ValueError as error:
        # NumPy says so in words only, and refuses before it unpickles anything.
        if "Object arrays" not in str(error):
            raise
        raise RefusedError(
            f"{path}: array `{name}` holds Python objects, which only unpickling could read",
            expected="numbers",
            found="dtype object",
            remedy="save it as one rectangular array of numbers.",
        ) from None
    if not isinstance(value, np.ndarray):
        raise zipfile.BadZipFile(f"record {name} is no array")
    return value


DATASETS: dict[str, Kind] = {
    "npz": Kind(_is_npz, _read_npz),
}


def _require_numbers(path: Path, name: str, x: Array) -> None:
    """Inputs must be a stack of at least one sample of finite real numbers."""
    if x.dtype.kind not in "biuf":
        raise _bad_array(path, name, "numbers", f"dtype {x.dtype}", "save it as integers or floats.")
    if x.ndim < 2:
        remedy = "reshape it: the first axis counts the samples."
        raise _bad_array(path, name, "samples along the first axis, inputs along the others", _shape(x), remedy)
    if x.size == 0:
        raise _bad_array(path, name, "at least one sample", _shape(x), "save a data set with samples in it.")
    _require_finite(path, name, x)


def _require_finite(path: Path, name: str, values: Array) -> None:
    bad = ~np.isfinite(values)
    if bad.any():
        first = tuple(int(i) for i in np.unravel_index(int(bad.argmax()), bad.shape))
        found = f"{int(bad.sum())} NaN or infinite of {bad.size}, the first at index {first}"
        raise _bad_array(path, name, "finite numbers", found, "remove or repair those samples.")


def _labels(path: Path, name: str, y: Array, task: TaskSpec, samples: int) -> Array:
    """Labels as the losses take them: int64 (n,) classes, or float32 (n, C) values."""
    if y.dtype.kind not in "biuf":
        raise _bad_array(path, name, "numbers", f"dtype {y.dtype}", "save labels as class numbers, 0 to C-1.")
    if y.ndim == 0 or len(y) != samples:
        found = f"{samples} inputs, labels of shape {y.shape}"
        raise _bad_array(path, name, "one label for each sample", found, "save inputs and labels of the same samples.")
    _require_finite(path, name, y)
    if task.type == "regression":
        if y.ndim > 2:
            raise _bad_array(path, name, "values of shape (n,) or (n, C)", _shape(y), "flatten the outputs.")
        with np.errstate(over="ignore"):
            values = y.reshape(samples, -1).astype(np.float32)
        _require_finite(path, name, values)
        return values
    if y.ndim == 2 and y.shape[1] == 1:
        y = y[:, 0]
    if y.ndim != 1:
        remedy = "save class numbers (from one-hot rows: y.argmax(1)), or set `task.type: regression`."
        raise _bad_array(path, name, "class numbers of shape (n,)", _shape(y), remedy)
    classes = y.astype(np.int64)
    if (classes != y).any():
        first = int((classes != y).argmax())
        remedy = "save class numbers, or set `task.type: regression`."
        raise _bad_array(path, name, "whole class numbers", f"{y[first]} at index {first}", remedy)
    outside = (classes < 0) | (classes > 1) if task.loss == "bce" else classes < 0
    if outside.any():
        first = int(outside.argmax())
        found = f"{int(outside.sum())} others, the first {classes[first]} at index {first}"
        expected = "labels 0 and 1, for the loss bce" if task.loss == "bce" else "class numbers from 0 up"
        raise _bad_array(path, name, expected, found, "renumber the classes, or drop those samples.")
    return classes


def _channels_first(path: Path, layout: str | None, x: Array) -> Array:
    """Move the channel axis, named by the layout, to where models expect it: second."""
    if layout is None:
        return x
    if x.ndim != len(layout):
        raise RefusedError(
            f"{path}: the inputs do not have the layout of the spec",
            expected=f"`input.layout: {layout}`, {len(layout)} axes",
            found=f"{_shape(x)}, {x.ndim} axes",
            remedy="correct `input.layout`, or leave it out to take the inputs as stored.",
        )
    if "C" not in layout:
        return x[:, np.newaxis]
    return np.moveaxis(x, layout.index("C"), 1)


def _normalise(path: Path, x: Array, spec: AuditSpec) -> Tensor:
    mean = _per_channel(x, "mean", spec.input.mean, spec)
    std = _per_channel(x, "std", spec.input.std, spec)
    with np.errstate(over="ignore", invalid="ignore"):
        values = ((x.astype(np.float64) * spec.input.scale - mean) / std).astype(np.float32)
    if not np.isfinite(values).all():
        raise RefusedError(
            f"{path}: the inputs do not fit float32 after normalisation",
            expected="numbers up to 3.4e38",
            found=f"inputs up to {np.abs(x).max():.3g}, scale {spec.input.scale:.3g}",
            remedy="correct `input.scale`, `input.mean` and `input.std`.",
        )
    return torch.from_numpy(np.ascontiguousarray(values))


def _per_channel(x: Array, key: str, values: tuple[float, ...], spec: AuditSpec) -> Array:
    """Statistics in a shape that broadcasts along the second axis: channels, or columns of a table."""
    if len(values) not in (1, x.shape[1]):
        raise UsageError(
            f"{spec.source or spec.data.path}: `input.{key}` does not fit the inputs",
            expected=f"one number, or one for each of {x.shape[1]} channels",
            found=f"{len(values)} numbers, for inputs of shape {x.shape[1:]} (channels first)",
            remedy=f"correct `input.{key}` or `input.layout`.",
        )
    return np.asarray(values, dtype=np.float64).reshape(1, -1, *(1 for _ in x.shape[2:]))


def _draw(spec: AuditSpec, available: int, y: Array | None) -> npt.NDArray[np.int64]:
    """The indices of the probe set, ascending."""
    n, strategy = spec.sample.n, spec.sample.strategy
    if n >= available or strategy == "first":
        return np.arange(min(n, available))
    generator = np.random.default_rng(spec.sample.seed)
    if strategy == "stratified" and y is not None and spec.task.type == "classification":
        return _stratified(y, n, generator)
    return np.sort(generator.choice(available, n, replace=False))


def _stratified(y: Array, n: int, generator: np.random.Generator) -> npt.NDArray[np.int64]:
    """The same number from every class, as nearly as possible; what small classes lack, the others give."""
    classes, counts = np.unique(y, return_counts=True)
    share = np.zeros_like(counts)
    while (left := n - int(share.sum())) > 0:
        hungry = np.flatnonzero(share < counts)
        # An equal step for all that still have samples, one each for the first few at the end.
        step = left // len(hungry)
        share[hungry if step else hungry[:left]] += max(step, 1)
        share = np.minimum(share, counts)
    drawn = [
        generator.choice(np.flatnonzero(y == label), size, replace=False)
        for label, size in zip(classes, share, strict=True)
    ]
    return np.sort(np.concatenate(drawn))


def _digest(x: Tensor, y: Tensor | None) -> str:
    """The SHA-256 over the shapes, types and bytes of the probe set."""
    digest = hashlib.sha256()
    for tensor in (x, y):
        if tensor is not None:
            array = tensor.numpy()
            array = array.astype(array.dtype.newbyteorder("<"), copy=False)
            digest.update(f"{array.dtype.str}{array.shape}".encode())
            digest.update(array.data)
    return digest.hexdigest()


def _shape(x: Array) -> str:
    return f"shape {x.shape}"


def _bad_array(path: Path, name: str, expected: str, found: str, remedy: str) -> RefusedError:
    return RefusedError(f"{path}: array `{name}` cannot be used", expected=expected, found=found, remedy=remedy)
