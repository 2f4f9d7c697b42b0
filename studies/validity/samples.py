"""The samples of the zoo: a training part, a probe set to audit on, and other held-out samples to damage."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from sample_models.sources import Source
from studies.training import Data, load

N = 96
"""Probe samples of every audit."""
OTHERS = 256
"""Damaged samples, at most; none of them is in the probe set."""
_TRAINING = {"mnist": 2000, "cifar10": 2500, "digits": 900, "breast_cancer": 285}


@dataclass(frozen=True)
class Samples:
    """Training data, and two disjoint held-out parts; `scale` is X of the other samples."""

    train: Data
    probe_x: Tensor
    probe_y: Tensor
    x: Tensor
    y: Tensor

    @property
    def scale(self) -> float:
        """The rms distance of an input from the mean input."""
        flat = self.x.flatten(1)
        return float((flat - flat.mean(0)).square().sum(1).mean().sqrt())

    @property
    def source(self) -> Source:
        """How the inputs were normalised."""
        return self.train.source


def samples(name: str, folder: Path | None) -> Samples:
    """The samples of a data set by name; the split is one seeded permutation."""
    size = _TRAINING[name]
    if name in ("mnist", "cifar10"):
        data = load(name, folder, train=size)
    else:
        data = _resplit(load(name, folder), size)
    order = torch.randperm(len(data.x_test), generator=torch.Generator().manual_seed(0))
    probe, rest = order[:N], order[N : N + OTHERS]
    return Samples(data, data.x_test[probe], data.y_test[probe], data.x_test[rest], data.y_test[rest])


def _resplit(data: Data, size: int) -> Data:
    """The same samples with `size` of them for training: small tables need larger held-out parts."""
    x, y = torch.cat([data.x_train, data.x_test]), torch.cat([data.y_train, data.y_test])
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(1))
    train, test = order[:size], order[size:]
    return replace(data, x_train=x[train], y_train=y[train], x_test=x[test], y_test=y[test])
