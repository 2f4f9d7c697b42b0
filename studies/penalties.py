"""Does modest spectral regularisation steady explanations while global spectral summaries hardly change?

    python studies/penalties.py --data FOLDER [--only SETTING…] [--seeds 3] [--output docs/penalties.md]

FOLDER holds mnist.npz, cifar10.npz and cifar100.npz. Small nets are trained on subsets without and with penalties, from
the same start and in the same order of batches for each seed, and audited on held-out samples. Every run leaves a
record in build/penalties, and the study goes on where it stopped; the figures of all runs stand in docs/penalties.csv.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).parents[1]))

from sample_models.sources import balanced
from sample_models.training import quality
from sample_models.training import train as train_on
from spectral_audit.inputs.architectures.families import FAMILIES
from spectral_audit.measure import Settings, measure
from spectral_audit.results import AXES, Measurement
from studies import quadratic
from studies.penalties_page import write
from studies.training import Data, accuracy, load, make_penalty, train

ROOT = Path(__file__).parents[1]


@dataclass(frozen=True)
class Setting:
    """A data set, how many of its samples, the net, how long it is trained, and the penalties with their strengths."""

    data: str
    train: int
    epochs: int
    activation: str
    penalties: dict[str, tuple[float, ...]]
    probe: int = 60
    classes: int | None = None
    lr: float = 5e-3


_COMMON = {
    "jacobian_frobenius": (1e-2, 1e-1),
    "jacobian_spectral": (3e-2, 3e-1),
    "layer_spectral": (1e-2, 5e-2),
    "layer_entropy": (1e-1, 1.0),
}
_SMOOTH = {**_COMMON, "attribution_curvature": (1.0, 10.0)}
_KINKED = {**_COMMON, "attribution_drift": (1e-1, 1.0)}
_QUADRATIC = {"jacobian_frobenius": (1e-2, 1e-1), "attribution_curvature": (1e-2, 1e-1)}
SETTINGS = {
    "quadratic": Setting("", quadratic.SAMPLES[0], 40, "", _QUADRATIC, lr=1e-1),
    "mnist": Setting("mnist", 2000, 5, "gelu", _SMOOTH),
    "mnist-relu": Setting("mnist", 2000, 5, "relu", _KINKED),
    "cifar10": Setting("cifar10", 3000, 6, "gelu", _SMOOTH),
    "cifar100": Setting("cifar100", 1600, 8, "gelu", _SMOOTH, classes=20),
}
IMAGES = {"mnist": {"channels": 1, "size": 28}, "cifar10": {"channels": 3, "size": 32}}
IMAGES["cifar100"] = IMAGES["cifar10"]


def sizes(setting: Setting) -> str:
    """What a setting trains, on how much, for how long."""
    if not setting.data:
        return f"{setting.train:,} samples of six normal features and noise; R² on {quadratic.SAMPLES[1]}"
    of = f" of {setting.classes} classes" if setting.classes else ""
    net = f"CNN of two convolutions and two linear layers, {setting.activation}"
    return f"{setting.train:,} images{of}, {setting.epochs} epochs; {net}; audited on {setting.probe}"


@dataclass(frozen=True)
class Run:
    """One training: a setting, a penalty or none (''), its strength, and the seed of everything."""

    setting: str
    penalty: str
    strength: float
    seed: int

    def record(self, folder: Path) -> Path:
        name = f"{self.penalty}-{self.strength:g}" if self.penalty else "plain"
        return folder / f"{self.setting}-{name}-{self.seed}.json"


def runs(names: list[str], seeds: int) -> list[Run]:
    """Every training of these settings, seed by seed, so that a study cut short is whole for fewer seeds."""
    found = []
    for seed in range(seeds):
        for name in names:
            found.append(Run(name, "", 0.0, seed))
            for penalty, strengths in SETTINGS[name].penalties.items():
                found += [Run(name, penalty, strength, seed) for strength in strengths]
    return found


@cache
def images(setting: str, folder: Path) -> Data:
    chosen = SETTINGS[setting]
    return load(chosen.data, folder, train=chosen.train, classes=chosen.classes)


def fitted(run: Run, setting: Setting, folder: Path) -> tuple[nn.Module, Tensor, Tensor, float]:
    """The trained net, its probe set, and its accuracy on the whole test part."""
    data = images(run.setting, folder)
    torch.manual_seed(run.seed)
    options = {**IMAGES[setting.data], "width": 4, "hidden": 32, "activation": setting.activation}
    model = FAMILIES["cnn"](outputs=data.classes, **options)
    penalty = make_penalty(run.penalty, run.strength, data, run.seed) if run.penalty else None
    train(model, data, epochs=setting.epochs, lr=setting.lr, seed=run.seed, penalty=penalty)
    index = torch.from_numpy(balanced(data.source.y_test, setting.probe // data.classes))
    return model, data.x_test[index], data.y_test[index], accuracy(model, data.x_test, data.y_test)


def fitted_quadratic(run: Run, setting: Setting) -> tuple[nn.Module, Tensor, Tensor, float]:
    """The same for quadratic regression; the figure of merit is R²."""
    data = quadratic.problem(run.seed, setting.train)
    x, y = data.x_train, data.y_train
    shown = Data("quadratic", x, y, data.x_test, data.y_test, 1, None)  # type: ignore[arg-type]  # not from a source
    penalty = make_penalty(run.penalty, run.strength, shown, run.seed, softmax=False) if run.penalty else None
    torch.manual_seed(run.seed)
    model = quadratic.Quadratic()
    options: dict[str, Any] = {"epochs": setting.epochs, "lr": setting.lr, "weight_decay": 0.0, "seed": run.seed}
    train_on(model, x, y, **options, loss="mse", penalty=penalty)
    probe = slice(0, setting.probe)
    return model, data.x_test[probe], data.y_test[probe], quality(model, data.x_test, data.y_test, "mse")


def perform(run: Run, setting: Setting, folder: Path | None) -> dict[str, Any]:
    """Train, audit, and keep the figures; `seconds` are those of the processor."""
    start = time.process_time()
    if run.setting == "quadratic":
        model, x, y, figure = fitted_quadratic(run, setting)
    else:
        model, x, y, figure = fitted(run, setting, folder)  # type: ignore[arg-type]  # images have a folder
    trained = time.process_time()
    loss = "mse" if run.setting == "quadratic" else "cross_entropy"
    found = measure(model, x, y, loss=loss, settings=Settings(seed=run.seed, hessian_tolerance=1e-2))  # type: ignore[arg-type]  # from the literals above
    row = {"setting": run.setting, "penalty": run.penalty, "strength": run.strength, "seed": run.seed}
    row |= {"accuracy": figure, **figures(found)}
    if run.setting == "quadratic":
        data = quadratic.problem(run.seed, setting.train)
        exact = quadratic.known(data, x, y, run.penalty or None, run.strength)
        row |= {f"known.{name}": value for name, value in exact.items()}
    seconds = {"train_seconds": trained - start, "seconds": time.process_time() - start}
    return row | {name: round(value, 2) for name, value in seconds.items()}


def figures(found: Measurement) -> dict[str, float | None]:
    """Axes and index in both columns, raw norms, entropies, and how explanations move."""
    row: dict[str, float | None] = {}
    for axis in AXES:
        for column in ("worst", "typical"):
            row[f"axes.{axis}.{column}"] = getattr(getattr(found.axes, axis), column).value
    row |= {"gmsi.worst": found.gmsi.worst.value, "gmsi.typical": found.gmsi.typical.value}
    row |= {"raw.jacobian": found.raw.jacobian, "raw.hessian": found.raw.hessian}
    for name in ("input_jacobian", "ntk", "gauss_newton", "hessian"):
        row[f"entropy.{name}"] = getattr(found.spectra, name).entropy
    explained = found.attribution
    assert explained is not None, "the settings ask for it"
    row |= {"score.random": explained.score.value, "score.worst": explained.score_worst.value}
    row |= {"drift.random": explained.random.mean.value, "drift.worst": explained.worst.mean.value}
    curvature = explained.curvature
    row["condition.typical"] = curvature.condition_typical.value if curvature else None
    row["condition.worst"] = curvature.condition_worst.value if curvature else None
    return row


def recorded(wanted: list[Run], records: Path) -> list[Run]:
    """The runs that have a record."""
    return [run for run in wanted if run.record(records).exists()]


def collect(wanted: list[Run], folder: Path | None, records: Path) -> list[dict[str, Any]]:
    """The figures of every run, setting by setting, from its record where there is one."""
    records.mkdir(parents=True, exist_ok=True)
    rows = []
    for k, run in enumerate(wanted):
        path = run.record(records)
        if not path.exists():
            row = perform(run, SETTINGS[run.setting], folder)
            part = path.with_suffix(f".{os.getpid()}.part")
            part.write_text(json.dumps(row), encoding="utf-8")
            part.replace(path)
            print(f"{k + 1}/{len(wanted)} {path.stem}: {row['seconds']} s", file=sys.stderr, flush=True)
        rows.append(json.loads(path.read_text(encoding="utf-8")))
    order = list(dict.fromkeys(run.setting for run in wanted))
    return [row for _, row in sorted(zip(wanted, rows, strict=True), key=lambda pair: order.index(pair[0].setting))]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="the folder of the npz files; `quadratic` needs none")
    parser.add_argument("--only", nargs="*", choices=SETTINGS, default=list(SETTINGS), help="these settings")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--records", type=Path, default=ROOT / "build" / "penalties")
    parser.add_argument("--recorded", action="store_true", help="train nothing: a page of the runs that are there")
    parser.add_argument("--output", type=Path, default=ROOT / "docs" / "penalties.md")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    wanted = runs(asked.only, asked.seeds)
    wanted = recorded(wanted, asked.records) if asked.recorded else wanted
    rows = collect(wanted, asked.data, asked.records)
    write(rows, {name: sizes(setting) for name, setting in SETTINGS.items()}, asked.output)


if __name__ == "__main__":
    main()
