"""From data to the probe set: the samples an audit measures on, as the model sees them."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from spectral_audit.errors import RefusedError, UsageError
from spectral_audit.inputs.data import open_data
from spectral_audit.inputs.data.labels import read_labels
from spectral_audit.inputs.data.shapes import first_layer
from spectral_audit.inputs.data.stored import Array, Ask, Indices, require_numbers, shape
from spectral_audit.inputs.spec import AuditSpec
from spectral_audit.results import Finding


@dataclass(frozen=True)
class Probe:
    """The probe set: `x` float32 (n, *shape), channels first and normalised, or int64 tokens; and its labels.

    `y` is int64 (n,) for classification, float32 (n, C) for regression, or `None`. `sha256` is the data's,
    `probe_sha256` that of `x` and `y` themselves; `available` is the number of samples there are. `kind` names the
    kind of data; `stored` says how the drawn inputs came: dtype, shape and range, before layout and normalisation.
    `classes` are names the data has for its classes.
    """

    x: Tensor
    y: Tensor | None
    sha256: str
    probe_sha256: str
    available: int
    path: str
    kind: str
    stored: Inputs
    classes: tuple[str, ...] = ()
    findings: tuple[Finding, ...] = ()

    @property
    def synthetic(self) -> bool:
        """Whether the samples are noise, so that no figure is about the user's data."""
        return self.kind == "synthetic"


@dataclass(frozen=True)
class Inputs:
    """The drawn inputs as stored: dtype, shape of one sample, smallest and largest value."""

    dtype: str
    shape: tuple[int, ...]
    low: float
    high: float


def load_probe(spec: AuditSpec, *, model: nn.Module | None = None, consent: bool = False) -> Probe:
    """Draw the probe set a spec describes.

    Values become channels first, then (value · scale − mean) / std in float64, then float32; tokens stay as they are.
    With n at least the number of samples, all of them are taken; the order is always that of the data. `model` tells
    the shape of synthetic data and whether whole numbers are tokens; `consent` allows a function of the spec to run.

    Raises:
        RefusedError: the data is missing, damaged, of no known kind, would run code, or cannot be a probe set.
        UsageError: mean or std has a number of entries that is neither one nor the number of channels, or a key of
            the spec does not apply to this data.
    """
    kind, stored = open_data(Ask(spec, consent, model))
    what = _what(spec)
    y, names = (None, stored.names) if stored.y is None else read_labels(spec, stored)
    chosen = _draw(spec, stored.samples, y)
    x = stored.take(chosen)
    if kind != "synthetic":
        require_numbers(spec.data.path, stored.x_name, x)
    if _is_tokens(spec, kind, x, model):
        inputs = _tokens(what, stored.x_name, spec, x)
    elif kind == "synthetic":
        inputs = torch.from_numpy(x.astype(np.float32))
    else:
        inputs = _normalise(what, _channels_first(what, spec.input.layout or stored.layout, x), spec)
    _require_applicable(what, kind, spec)
    labels = None if y is None else torch.from_numpy(np.ascontiguousarray(y[chosen]))
    return Probe(
        x=inputs,
        y=labels,
        sha256=stored.sha256,
        probe_sha256=_digest(inputs, labels),
        available=stored.samples,
        path=what,
        kind=kind,
        stored=Inputs(str(x.dtype), x.shape[1:], float(x.min()), float(x.max())),
        classes=names,
        findings=stored.findings,
    )


def _what(spec: AuditSpec) -> str:
    return f"python:{spec.data.path}" if spec.data.source == "function" else str(spec.data.path)


def _require_applicable(what: str, kind: str, spec: AuditSpec) -> None:
    """Keys that would be ignored are mistakes."""
    keys = (
        ("input.size", spec.input.size, kind in ("image folder", "parquet", "saved dataset"), "images"),
        ("input.shape", spec.input.shape, kind == "synthetic", "synthetic data"),
        ("data.split", spec.data.split, kind == "saved dataset", "datasets with splits"),
    )
    for key, value, fits, meant in keys:
        if value is not None and not fits:
            raise UsageError(
                f"{spec.source or what}: `{key}` does not apply to this data",
                expected=meant,
                found=f"{what}: {kind}",
                remedy=f"remove `{key}`.",
            )


def _is_tokens(spec: AuditSpec, kind: str, x: Array, model: nn.Module | None) -> bool:
    """Tokens where the spec says so, or where whole numbers meet a model that begins with an embedding."""
    if spec.input.type is not None and kind != "synthetic":
        return spec.input.type == "tokens"
    return x.dtype.kind in "iu" and model is not None and isinstance(first_layer(model), nn.Embedding)


def _tokens(what: str, name: str, spec: AuditSpec, x: Array) -> Tensor:
    if spec.input.normalises or spec.input.layout is not None:
        raise UsageError(
            f"{spec.source or what}: tokens have no layout, scale, mean or std",
            expected="`input.type: tokens` alone, or `input.type: values` for numbers that are no tokens",
            found="`input` with other keys",
            remedy="remove them, or set `input.type: values`.",
        )
    tokens = x.astype(np.int64)
    if (tokens != x).any():
        first = tuple(int(i) for i in np.unravel_index(int((tokens != x).argmax()), x.shape))
        raise RefusedError(
            f"{what}: {name} holds no tokens",
            expected="whole numbers",
            found=f"{x[first]} at index {first}",
            remedy="save token numbers, or remove `input.type: tokens`.",
        )
    return torch.from_numpy(np.ascontiguousarray(tokens))


def _channels_first(what: str, layout: str | None, x: Array) -> Array:
    """Move the channel axis, named by the layout, to where models expect it: second."""
    if layout is None:
        return x
    if x.ndim != len(layout):
        raise RefusedError(
            f"{what}: the inputs do not have the layout of the spec",
            expected=f"`input.layout: {layout}`, {len(layout)} axes",
            found=f"{shape(x)}, {x.ndim} axes",
            remedy="correct `input.layout`, or leave it out to take the inputs as stored.",
        )
    if "C" not in layout:
        return x[:, np.newaxis]
    return np.moveaxis(x, layout.index("C"), 1)


def _normalise(what: str, x: Array, spec: AuditSpec) -> Tensor:
    mean = _per_channel(x, "mean", spec.input.mean, spec)
    std = _per_channel(x, "std", spec.input.std, spec)
    with np.errstate(over="ignore", invalid="ignore"):
        values = ((x.astype(np.float64) * spec.input.scale - mean) / std).astype(np.float32)
    if not np.isfinite(values).all():
        raise RefusedError(
            f"{what}: the inputs do not fit float32 after normalisation",
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


def _draw(spec: AuditSpec, available: int, y: Array | None) -> Indices:
    """The indices of the probe set, ascending."""
    n, strategy = spec.sample.n, spec.sample.strategy
    if n >= available or strategy == "first":
        return np.arange(min(n, available))
    generator = np.random.default_rng(spec.sample.seed)
    if strategy == "stratified" and y is not None and spec.task.type == "classification":
        return _stratified(y, n, generator)
    return np.sort(generator.choice(available, n, replace=False))


def _stratified(y: Array, n: int, generator: np.random.Generator) -> Indices:
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
