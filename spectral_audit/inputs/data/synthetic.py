"""No data at all: Gaussian noise, or random tokens, in the shape of the model's input."""

from __future__ import annotations

import hashlib

import numpy as np

from spectral_audit.errors import RefusedError
from spectral_audit.inputs.data.shapes import InputShape, input_shape
from spectral_audit.inputs.data.stored import Array, Ask, Source, Stored
from spectral_audit.results import Finding


def is_synthetic(source: Source) -> bool:
    """The spec says so, or there is none."""
    return source.spec.data.source == "synthetic"


def read_synthetic(ask: Ask) -> Stored:
    """`sample.n` draws from N(0, 1), already as the model takes them: layout and normalisation do not apply."""
    expected = _shape(ask)
    generator = np.random.default_rng(ask.spec.sample.seed)
    size = (ask.spec.sample.n, *expected.shape)
    tokens = expected.tokens
    x: Array = generator.integers(0, tokens, size) if tokens else generator.standard_normal(size)
    drawn = "random tokens" if expected.tokens else "Gaussian noise"
    said = Finding(
        "data.synthetic",
        "error",
        f"no data was given: every figure is about {drawn} of shape {'×'.join(map(str, expected.shape))} and about "
        "the classes the model predicts for it, not about your data; no verdict may rest on it",
    )
    described = hashlib.sha256(f"{drawn} {size} {ask.spec.sample.seed}".encode()).hexdigest()
    return Stored(len(x), x.__getitem__, None, described, findings=(said,))


def _shape(ask: Ask) -> InputShape:
    given = ask.spec.input.shape
    found = None if ask.model is None else input_shape(ask.model, given)
    if found is not None:
        return found
    if given is not None and ask.model is None:
        return InputShape(given)
    where = ask.spec.source or "synthetic data"
    raise RefusedError(
        f"{where}: the shape of the model's input cannot be inferred",
        expected="a model whose first layer tells it, and that then runs",
        found=f"`input.shape: {list(given)}`, with which it does not run" if given else "none that the model runs on",
        remedy="give data with --data FILE or `data.path`, or set `input.shape` to that of one sample.",
    )
