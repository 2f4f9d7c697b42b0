"""Trains the sample models again: `python sample_models/train.py [NAME ...] [--data DIR] [--out DIR]`.

Writes the weights, the audit specs, the probe sets and `accuracy.json`. On one machine, two runs give identical files.
"""

from __future__ import annotations

import argparse
import io
import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from safetensors.torch import save as safetensors_bytes
from sources import SOURCES, MissingDataError, Source, balanced
from torch import Tensor, nn
from training import Recipe, fit, quality, relabelled

from spectral_audit.inputs.architectures.families import FAMILIES

IMAGE_SAMPLE = {"n": 256, "seed": 0, "strategy": "stratified"}
CNN = {"channels": 1, "outputs": 10, "width": 8, "hidden": 64, "size": 28}
RECIPES = {
    "mnist_mlp": Recipe(
        source="mnist",
        builder="mlp",
        kwargs={"inputs": 784, "outputs": 10, "hidden": [64, 32], "activation": "relu"},
        suffix="safetensors",
        architecture_in="metadata",
        probe="mnist_probe",
        sample=IMAGE_SAMPLE,
    ),
    "mnist_cnn_relu": Recipe(
        source="mnist",
        builder="cnn",
        kwargs={**CNN, "activation": "relu"},
        suffix="safetensors",
        architecture_in="metadata",
        probe="mnist_probe",
        epochs=12,
        sample=IMAGE_SAMPLE,
    ),
    "mnist_cnn_gelu": Recipe(
        source="mnist",
        builder="cnn",
        kwargs={**CNN, "activation": "gelu"},
        suffix="safetensors",
        probe="mnist_probe",
        epochs=12,
        jacobian_penalty=0.01,
        sample=IMAGE_SAMPLE,
    ),
    "mnist_cnn_noisy": Recipe(
        source="mnist",
        builder="cnn",
        kwargs={**CNN, "activation": "relu"},
        suffix="safetensors",
        probe="mnist_probe",
        epochs=30,
        weight_decay=0.0,
        label_noise=0.3,
        sample=IMAGE_SAMPLE,
    ),
    "cifar10_resnet": Recipe(
        source="cifar10",
        builder="resnet",
        kwargs={"channels": 3, "outputs": 10, "depth": 14, "width": 16},
        suffix="pt",
        optimizer="sgd",
        epochs=18,
        lr=0.2,
        weight_decay=5e-4,
        augment=True,
        sample=IMAGE_SAMPLE,
    ),
    "breast_cancer_mlp": Recipe(
        source="breast_cancer",
        builder="mlp",
        kwargs={"inputs": 30, "outputs": 1, "hidden": [32], "activation": "tanh"},
        suffix="pt",
        loss="bce",
        epochs=60,
        batch=32,
    ),
    "diabetes_mlp": Recipe(
        source="diabetes",
        builder="mlp",
        kwargs={"inputs": 10, "outputs": 1, "hidden": [32, 32], "activation": "softplus"},
        suffix="pt2",
        architecture_in="program",
        loss="mse",
        epochs=60,
        batch=32,
    ),
}
PROBE_PER_CLASS = {"mnist": 30, "cifar10": 26}


def main() -> int:
    parser = argparse.ArgumentParser(description="Train the sample models again.")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"default: all of {', '.join(RECIPES)}")
    parser.add_argument("--data", type=Path, metavar="DIR", help="folder with cifar10.npz and, if you like, mnist.npz")
    parser.add_argument("--out", type=Path, metavar="DIR", default=Path(__file__).parent, help="default: beside this")
    options = parser.parse_args()
    unknown = sorted(set(options.names) - set(RECIPES))
    if unknown:
        parser.error(f"unknown model {', '.join(unknown)}; known: {', '.join(RECIPES)}")
    torch.use_deterministic_algorithms(True)
    torch.set_num_threads(2)  # fixed, because sums over another number of threads round differently
    options.out.mkdir(parents=True, exist_ok=True)
    for name in options.names or RECIPES:
        try:
            source = SOURCES[RECIPES[name].source](options.data)
        except MissingDataError as missing:
            print(f"{name}: {missing}", file=sys.stderr)
            if options.names:
                return 3
            continue
        produce(name, RECIPES[name], source, options.out)
    return 0


def produce(name: str, recipe: Recipe, source: Source, out: Path) -> None:
    """Trains one model and writes everything that belongs to it."""
    start = time.perf_counter()
    torch.manual_seed(recipe.seed)
    model = FAMILIES[recipe.builder](**recipe.kwargs)
    x, y = source.prepare(source.x_train), torch.from_numpy(source.y_train)
    if x.ndim == 4:
        model = model.to(memory_format=torch.channels_last)  # twice as fast on a CPU
        x = x.to(memory_format=torch.channels_last)
    labels = relabelled(y, recipe.label_noise, len(source.classes), recipe.seed) if recipe.label_noise else y
    fit(model, x, labels, recipe, name)
    probe = write_probe(recipe.probe or name, recipe, source, out)
    figures: dict[str, Any] = {"metric": "r2" if recipe.loss == "mse" else "accuracy"}
    parts = {"train": (source.x_train, source.y_train), "test": (source.x_test, source.y_test), "probe": probe}
    for part, (inputs, labels) in parts.items():
        value = quality(model, source.prepare(inputs), torch.from_numpy(labels), recipe.loss)
        figures |= {part: round(value, 4), f"{part}_samples": len(labels)}
    figures["parameters"] = sum(parameter.numel() for parameter in model.parameters())
    write_weights(out / f"{name}.{recipe.suffix}", model, recipe, x)
    write_spec(name, recipe, source, out)
    write_accuracy(name, figures, out)
    print(f"{name}: {json.dumps(figures)}, {time.perf_counter() - start:.0f} s", file=sys.stderr)


def write_weights(path: Path, model: nn.Module, recipe: Recipe, x: Tensor) -> None:
    tensors = {key: value.detach().contiguous() for key, value in model.state_dict().items()}
    if recipe.suffix == "safetensors":
        metadata = {
            "spectral_audit.architecture": recipe.builder,
            "spectral_audit.kwargs": json.dumps(recipe.kwargs),
        }
        path.write_bytes(safetensors_file(tensors, metadata if recipe.architecture_in == "metadata" else None))
    elif recipe.suffix == "pt":
        torch.save(tensors, path)
    else:
        batch = torch.export.Dim("batch", min=1)
        # A copy, because the file keeps the example: a slice would take the whole training set along.
        program = torch.export.export(model, (x[:2].clone(),), dynamic_shapes=({0: batch},))
        for node in program.graph.nodes:
            node.meta.pop("stack_trace", None)  # names folders of this machine
        buffer = io.BytesIO()
        torch.export.save(program, buffer)
        path.write_bytes(buffer.getvalue())


def safetensors_file(tensors: dict[str, Tensor], metadata: dict[str, str] | None) -> bytes:
    """The file with its metadata sorted: the library writes them in an order that differs between runs."""
    blob = safetensors_bytes(tensors, metadata)
    end = 8 + int.from_bytes(blob[:8], "little")
    header = json.loads(blob[8:end])
    if metadata:
        header["__metadata__"] = dict(sorted(metadata.items()))
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text + blob[end:]


def write_probe(name: str, recipe: Recipe, source: Source, out: Path) -> tuple[Any, Any]:
    """Test samples only: a class-balanced cut of the images, all rows of a table."""
    x, y = source.x_test, source.y_test
    if recipe.source in PROBE_PER_CLASS:
        index = balanced(y, PROBE_PER_CLASS[recipe.source])
        x, y = x[index], y[index]
    np.savez_compressed(out / f"{name}.npz", x=x, y=y)
    return x, y


def write_spec(name: str, recipe: Recipe, source: Source, out: Path) -> None:
    """`NAME.audit.yaml`: the normalisation is the one training used."""
    spec: dict[str, Any] = {"version": 1}
    if recipe.architecture_in == "spec":
        spec["model"] = {"builder": recipe.builder, "kwargs": recipe.kwargs}
    spec["data"] = {"path": f"{recipe.probe or name}.npz", "x": "x", "y": "y"}
    scaled = {} if source.scale == "1" else {"scale": source.scale}
    spec["input"] = {
        **({"layout": source.layout} if source.layout else {}),
        **scaled,
        "mean": list(source.mean),
        "std": list(source.std),
    }
    spec["task"] = {"type": source.task, "loss": recipe.loss}
    if source.classes:
        spec["task"]["classes"] = list(source.classes)
    if recipe.sample:
        spec["sample"] = recipe.sample
    text = yaml.safe_dump(spec, sort_keys=False, default_flow_style=None, width=110)
    (out / f"{name}.audit.yaml").write_text(f"# How to audit {name}.{recipe.suffix}; written by train.py.\n{text}")


def write_accuracy(name: str, figures: dict[str, Any], out: Path) -> None:
    path = out / "accuracy.json"
    known: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
    known[name] = figures
    path.write_text(json.dumps({key: known[key] for key in RECIPES if key in known}, indent=2) + "\n")


if __name__ == "__main__":
    sys.exit(main())
