"""Data and training for the studies: real data by name, one seeded loop, and penalties by name and strength."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).parents[1]))

from sample_models.sources import SOURCES, Source, balanced
from sample_models.training import Batch, Penalty, quality, relabelled
from sample_models.training import train as train_on
from spectral_audit.regularizers import (
    attribution_curvature,
    attribution_drift,
    gauss_newton_trace,
    gradient_norm,
    jacobian_entropy,
    jacobian_frobenius,
    jacobian_spectral,
    layer_directions,
    layer_entropy,
    layer_spectral,
    ntk_trace,
    random_directions,
)

__all__ = ["PENALTIES", "Batch", "Data", "Penalty", "accuracy", "load", "make_penalty", "train"]


@dataclass(frozen=True)
class Data:
    """A classification set as a model sees it: normalised, channels first, labels int64.

    `source` holds the stored arrays and how they were normalised, for corruptions that are defined on pixels.
    """

    name: str
    x_train: Tensor
    y_train: Tensor
    x_test: Tensor
    y_test: Tensor
    classes: int
    source: Source


def load(
    name: str, folder: Path | None, *, train: int | None = None, test: int | None = None, classes: int | None = None
) -> Data:
    """A set of `SOURCES` from a folder of npz files (what scikit-learn ships needs none), `train` and `test` samples.

    Fewer than all are the first of every class, in file order; `classes` keeps the first of them only.
    """
    source = SOURCES[name](folder)
    source = source if classes is None else _first_classes(source, classes)
    classes = len(source.classes)
    parts: list[Tensor] = []
    for x, y, size in ((source.x_train, source.y_train, train), (source.x_test, source.y_test, test)):
        index = balanced(y, -(-size // classes)) if size is not None else slice(None)
        parts += [source.prepare(x[index]), torch.from_numpy(y[index]).long()]
    return Data(name, *parts, classes, source)


def _first_classes(source: Source, classes: int) -> Source:
    trained, tested = source.y_train < classes, source.y_test < classes
    return replace(
        source,
        x_train=source.x_train[trained],
        y_train=source.y_train[trained],
        x_test=source.x_test[tested],
        y_test=source.y_test[tested],
        classes=source.classes[:classes],
    )


def train(
    model: nn.Module,
    data: Data,
    *,
    epochs: int,
    lr: float = 2e-3,
    batch: int = 64,
    weight_decay: float = 1e-2,
    label_noise: float = 0.0,
    optimizer: str = "adamw",
    augment: bool = False,
    penalty: Penalty | None = None,
    seed: int = 0,
) -> nn.Module:
    """Trains in place on the training part with cross-entropy, and returns the model in eval mode.

    `label_noise` is the share of labels drawn anew; `penalty(batch)` is added to every batch's loss. Build the model
    under `torch.manual_seed` yourself: everything after that comes from `seed`.
    """
    y = relabelled(data.y_train, label_noise, data.classes, seed) if label_noise else data.y_train
    options = {"epochs": epochs, "lr": lr, "batch": batch, "weight_decay": weight_decay, "seed": seed}
    train_on(model, data.x_train, y, **options, optimizer=optimizer, augment=augment, penalty=penalty)
    return model


def accuracy(model: nn.Module, x: Tensor, y: Tensor) -> float:
    """The share of samples whose largest output is their label's."""
    return quality(model, x, y, "cross_entropy")


class _Spectral:
    """The Jacobian's spectral norm with one direction for each training sample, kept from epoch to epoch."""

    def __init__(self, data: Data, seed: int, softmax: bool) -> None:
        generator = torch.Generator().manual_seed(seed)
        self.softmax = softmax
        self.directions = random_directions(len(data.x_train), data.classes, generator=generator)

    def __call__(self, b: Batch) -> Tensor:
        old = self.directions[b.index]
        value, self.directions[b.index] = jacobian_spectral(b.outputs, b.x, old, softmax=self.softmax)
        return value


class _LayerSpectral:
    """The layers' spectral norms with one direction for each layer, kept from step to step."""

    def __init__(self, data: Data, seed: int, softmax: bool) -> None:
        self.generator = torch.Generator().manual_seed(seed)
        self.directions: dict[str, Tensor] = {}

    def __call__(self, b: Batch) -> Tensor:
        self.directions = self.directions or layer_directions(b.model, generator=self.generator)
        value, self.directions = layer_spectral(b.model, self.directions)
        return value


_SIMPLE: dict[str, Callable[[Batch, bool], Tensor]] = {
    "jacobian_frobenius": lambda b, soft: jacobian_frobenius(b.outputs, b.x, generator=b.rng, softmax=soft),
    "jacobian_entropy": lambda b, soft: -jacobian_entropy(b.outputs, b.x, softmax=soft),
    "layer_entropy": lambda b, soft: -layer_entropy(b.model),
    "gradient_norm": lambda b, soft: gradient_norm(b.loss, b.model.parameters()),
    "ntk_trace": lambda b, soft: ntk_trace(b.outputs, b.model.parameters(), generator=b.rng, softmax=soft),
    "ntk_trace_relative": lambda b, soft: ntk_trace(
        b.outputs, b.model.parameters(), generator=b.rng, softmax=soft, relative=True
    ),
    "gauss_newton_trace": lambda b, soft: gauss_newton_trace(b.outputs, b.model.parameters(), generator=b.rng),
    "attribution_curvature": lambda b, soft: attribution_curvature(b.outputs, b.x, generator=b.rng),
}
_STATEFUL: dict[str, Callable[[Data, int, bool], Penalty]] = {
    "jacobian_spectral": _Spectral,
    "layer_spectral": _LayerSpectral,
}
PENALTIES = (*_SIMPLE, *_STATEFUL, "attribution_drift")
# The radius of `attribution_drift`, relative to X as the audit's.
_RADIUS = 0.1


def make_penalty(name: str, strength: float, data: Data, seed: int = 0, *, softmax: bool = True) -> Penalty:
    """`strength` times a penalty of `PENALTIES`, for one training run: some keep a state. Entropies are raised."""
    if name in _STATEFUL:
        kept = _STATEFUL[name](data, seed, softmax)
        return lambda b: strength * kept(b)
    if name in _SIMPLE:
        simple = _SIMPLE[name]
        return lambda b: strength * simple(b, softmax)
    flat = data.x_train.flatten(1)
    radius = _RADIUS * float((flat - flat.mean(0)).square().sum(1).mean().sqrt())
    return lambda b: strength * attribution_drift(b.model, b.outputs, b.x, radius=radius, generator=b.rng)
