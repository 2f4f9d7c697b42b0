"""Labels as the losses take them, from numbers or names."""

from __future__ import annotations

import numpy as np

from spectral_audit.errors import RefusedError, nearest
from spectral_audit.inputs.data.stored import Array, Stored, bad, require_finite, shape
from spectral_audit.inputs.spec import AuditSpec


def read_labels(spec: AuditSpec, stored: Stored) -> tuple[Array, tuple[str, ...]]:
    """Class numbers int64 (n,), or values float32 (n, C), of all samples; and the class names the data itself has.

    Names become numbers by `data.labels`, else by their place in `task.classes`, else in the data's own list (folders
    in alphabetical order); `data.labels` maps numbers too. Raises `RefusedError` for labels that do not fit the task.
    """
    assert stored.y is not None
    path, name, y = spec.data.path, stored.y_name, stored.y
    if y.ndim == 0 or len(y) != stored.samples:
        found = f"{stored.samples} inputs, labels of shape {y.shape}"
        raise bad(path, name, "one label for each sample", found, "save inputs and labels of the same samples.")
    if y.ndim == 2 and y.shape[1] == 1 and spec.task.type == "classification":
        y = y[:, 0]
    names = stored.names
    if spec.task.type == "classification" and y.ndim == 1 and (y.dtype.kind in "US" or spec.data.labels is not None):
        if spec.data.labels or spec.task.classes:
            names = ()
        y = _numbered(spec, stored, y)
    if y.dtype.kind not in "biuf":
        remedy = "save the values as numbers."
        if spec.task.type == "classification":
            remedy = "save labels as class numbers, 0 to C-1."
        raise bad(path, name, "numbers", f"dtype {y.dtype}", remedy)
    require_finite(path, name, y)
    return (_values(spec, name, y), ()) if spec.task.type == "regression" else (_classes(spec, name, y), names)


def _numbered(spec: AuditSpec, stored: Stored, y: Array) -> Array:
    """Class numbers for labels that are names, or that `data.labels` renames."""
    known = spec.data.labels or {label: k for k, label in enumerate(spec.task.classes or stored.names)}
    if y.dtype.kind == "f" and (y == np.floor(y)).all() and (np.abs(y) < 2**53).all():
        y = y.astype(np.int64)
    if y.dtype.kind == "S":
        y = np.char.decode(y, "utf-8", "replace")
    labels, where = np.unique(y, return_inverse=True)
    unknown = [str(label) for label in labels if str(label) not in known]
    if unknown:
        advice = f"correct `data.labels` or `task.classes`; {nearest(unknown[0], list(known)[:50])}."
        order = "list them in `task.classes` or `data.labels`, in the order of the model's outputs."
        raise RefusedError(
            f"{spec.data.path}: {stored.y_name} holds labels without a class number (dtype {y.dtype})",
            expected=f"one of: {', '.join(list(known)[:12])}" if known else "numbers, or names whose order is known",
            found=", ".join(unknown[:8]) + (f" and {len(unknown) - 8} more" if len(unknown) > 8 else ""),
            remedy=advice if known else order,
        )
    return np.array([known[str(label)] for label in labels], dtype=np.int64)[where.reshape(-1)]


def _values(spec: AuditSpec, name: str, y: Array) -> Array:
    if y.ndim > 2:
        raise bad(spec.data.path, name, "values of shape (n,) or (n, C)", shape(y), "flatten the outputs.")
    with np.errstate(over="ignore"):
        values = y.reshape(len(y), -1).astype(np.float32)
    if not np.isfinite(values).all():
        remedy = "save the values in a larger unit."
        raise bad(spec.data.path, name, "numbers up to 3.4e38", f"values up to {np.abs(y).max():.3g}", remedy)
    return values


def _classes(spec: AuditSpec, name: str, y: Array) -> Array:
    path, binary = spec.data.path, spec.task.loss == "bce"
    if y.ndim != 1:
        remedy = "save class numbers (from one-hot rows: y.argmax(1)), or set `task.type: regression`."
        raise bad(path, name, "class numbers of shape (n,)", shape(y), remedy)
    classes = y.astype(np.int64)
    if (classes != y).any():
        first = int((classes != y).argmax())
        remedy = "save class numbers, or set `task.type: regression`."
        raise bad(path, name, "whole class numbers", f"{y[first]} at index {first}", remedy)
    outside = (classes < 0) | (classes > 1) if binary else classes < 0
    if outside.any():
        first = int(outside.argmax())
        found = f"{int(outside.sum())} of {len(classes)} outside, the first {classes[first]} at index {first}"
        expected = "labels 0 and 1, for the loss bce" if binary else "class numbers from 0 up"
        raise bad(path, name, expected, found, "renumber the classes, or drop those samples.")
    return classes
