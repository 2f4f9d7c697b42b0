"""Which models there are, and which half of them the verdict is about. Fixed before any of them is trained.

Every factor of a model is drawn from a short list by a generator seeded with the model's name; the half it belongs to
is the parity of the first byte of SHA-256 of its name. Whatever is chosen by looking is chosen on the half `tuning`.
"""

from __future__ import annotations

import hashlib
import random
from dataclasses import dataclass
from typing import Literal

Half = Literal["held-out", "tuning"]

# Penalty names of studies/training.py with their strengths; None four times, so that half of the models have none.
_PENALTIES: tuple[tuple[str, float] | None, ...] = (
    *[None] * 4,
    ("jacobian_frobenius", 0.01),
    ("jacobian_frobenius", 0.1),
    ("layer_spectral", 0.01),
    ("gauss_newton_trace", 0.003),
    ("attribution_drift", 0.1),
)


@dataclass(frozen=True)
class Family:
    """One architecture on one data set, `count` models, and the lists its factors are drawn from."""

    data: str
    architecture: str
    count: int
    widths: tuple[int, ...]
    depths: tuple[int, ...]
    epochs: tuple[int, ...]
    activations: tuple[str, ...] = ("relu", "gelu")


FAMILIES = (
    Family("mnist", "mlp", 60, (16, 32, 64, 128), (1, 2, 3), (2, 5, 15), ("relu", "relu", "gelu", "tanh")),
    Family("digits", "mlp", 36, (8, 16, 32, 64), (1, 2, 3), (10, 30, 80), ("relu", "relu", "gelu", "tanh")),
    Family("breast_cancer", "mlp", 30, (8, 16, 32), (1, 2, 3), (10, 30, 80), ("relu", "relu", "gelu", "tanh")),
    Family("mnist", "cnn", 31, (3, 4, 6), (2,), (2, 4, 8), ("relu", "relu", "gelu", "tanh")),
    Family("cifar10", "cnn", 16, (3, 4, 6), (2,), (2, 4, 8), ("relu", "relu", "gelu", "tanh")),
    Family("mnist", "resnet", 8, (3, 4), (8,), (2, 4, 6)),
    Family("cifar10", "resnet", 7, (3, 4), (8,), (2, 4, 6)),
    Family("mnist", "transformer", 9, (16, 24), (1, 1, 2), (2, 5, 10)),
    Family("cifar10", "transformer", 7, (16, 24), (1, 1, 2), (2, 4, 8)),
)


@dataclass(frozen=True)
class Entry:
    """One model of the zoo: what it is trained on, how, and from which seed."""

    name: str
    data: str
    architecture: str
    activation: str
    width: int
    depth: int
    epochs: int
    lr: float
    weight_decay: float
    label_noise: float
    penalty: str
    strength: float
    seed: int

    @property
    def half(self) -> Half:
        """Which half of the zoo it belongs to."""
        return "held-out" if hashlib.sha256(self.name.encode()).digest()[0] % 2 else "tuning"


def entries() -> list[Entry]:
    """All models, interleaved over the families, so that a part of the run is a smaller zoo of the same kind."""
    drawn = [(k / family.count, _drawn(family, k)) for family in FAMILIES for k in range(family.count)]
    return [entry for _, entry in sorted(drawn, key=lambda item: item[0])]


def _drawn(family: Family, k: int) -> Entry:
    name = f"{family.data}-{family.architecture}-{k:02}"
    draw = random.Random(name)
    penalty = draw.choice(_PENALTIES)
    return Entry(
        name=name,
        data=family.data,
        architecture=family.architecture,
        activation=draw.choice(family.activations),
        width=draw.choice(family.widths),
        depth=draw.choice(family.depths),
        epochs=draw.choice(family.epochs),
        lr=draw.choice((1e-3, 3e-3, 6e-3)),
        weight_decay=draw.choice((0.0, 0.05, 1.0)),
        label_noise=draw.choice((0.0, 0.0, 0.2, 0.5)),
        penalty=penalty[0] if penalty else "",
        strength=penalty[1] if penalty else 0.0,
        seed=k,
    )
