"""Built-in architectures: shapes, refusals, and that the sample models are what their specs and figures say."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from safetensors import safe_open
from safetensors.torch import load_file
from torch import nn

from spectral_audit.errors import UsageError
from spectral_audit.inputs.architectures.families import ACTIVATIONS, FAMILIES

SAMPLES = Path(__file__).parents[1] / "sample_models"
FIGURES: dict[str, dict[str, Any]] = json.loads((SAMPLES / "accuracy.json").read_text())
SHAPES = [
    ("mlp", {"inputs": 12, "outputs": 3, "hidden": [5, 4]}, (3, 4)),
    ("mlp", {"inputs": 6, "outputs": 1}, (6,)),
    ("cnn", {"channels": 1, "outputs": 10}, (1, 28, 28)),
    ("cnn", {"channels": 3, "outputs": 4, "width": 2, "hidden": 5, "size": 15, "activation": "gelu"}, (3, 15, 15)),
    ("resnet", {"channels": 3, "outputs": 10, "depth": 8, "width": 4}, (3, 32, 32)),
    ("resnet", {"channels": 2, "outputs": 5, "depth": 14, "width": 3, "shortcut": "A"}, (2, 9, 11)),
]


@pytest.mark.parametrize(("family", "kwargs", "shape"), SHAPES)
def test_outputs_have_one_row_per_sample_and_inputs_stay_untouched(
    family: str, kwargs: dict[str, Any], shape: tuple[int, ...]
) -> None:
    model = FAMILIES[family](**json.loads(json.dumps(kwargs))).eval()
    x = torch.randn(2, *shape, generator=torch.Generator().manual_seed(0))
    before = x.clone()
    assert model(x).shape == (2, kwargs["outputs"])
    assert torch.equal(x, before)
    assert not any(getattr(module, "inplace", False) for module in model.modules())


@pytest.mark.parametrize("activation", sorted(ACTIVATIONS))
def test_pooling_follows_the_activation(activation: str) -> None:
    pools = {type(m) for m in FAMILIES["cnn"](channels=1, outputs=2, activation=activation).modules()}
    assert (nn.MaxPool2d in pools) == (activation in ("relu", "leaky_relu"))
    assert (nn.MaxPool2d in pools) != (nn.AvgPool2d in pools)
    chosen = FAMILIES["cnn"](channels=1, outputs=2, activation=activation, pooling="max").modules()
    assert nn.MaxPool2d in {type(m) for m in chosen}


def test_shortcut_a_has_no_parameters_and_b_two_projections() -> None:
    a, b = (FAMILIES["resnet"](channels=3, outputs=10, depth=20, width=16, shortcut=s) for s in "AB")
    # Parameters of a CIFAR ResNet-20 as published (0.27 M), without and with 1x1 convolutions and their norms.
    assert sum(p.numel() for p in a.parameters()) == 269_722
    assert sum(p.numel() for p in b.parameters()) == 269_722 + 16 * 32 + 2 * 32 + 32 * 64 + 2 * 64


@pytest.mark.parametrize(
    ("family", "kwargs", "named"),
    [
        ("mlp", {"inputs": 3, "outputs": 2, "activation": "gleu"}, "did you mean 'gelu'?"),
        ("cnn", {"channels": 1, "outputs": 2, "activation": ["relu"]}, "known: elu"),
        ("mlp", {"inputs": 0, "outputs": 2}, "`inputs`"),
        ("mlp", {"inputs": 3, "outputs": True}, "`outputs`"),
        ("mlp", {"inputs": 3, "outputs": 2, "hidden": 4}, "`hidden`"),
        ("mlp", {"inputs": 3, "outputs": 2, "hidden": [4, 2.0]}, "`hidden[1]`"),
        ("cnn", {"channels": 1, "outputs": 2, "size": 3}, "`size`"),
        ("cnn", {"channels": 1, "outputs": 2, "pooling": "maximum"}, "did you mean 'max'?"),
        ("resnet", {"channels": 3, "outputs": 2, "depth": 18}, "6k + 2"),
        ("resnet", {"channels": 3, "outputs": 2, "shortcut": "C"}, "`shortcut`"),
    ],
)
def test_bad_values_are_usage_errors_that_name_them(family: str, kwargs: dict[str, Any], named: str) -> None:
    with pytest.raises(UsageError) as caught:
        FAMILIES[family](**kwargs)
    assert named in str(caught.value)
    assert f"`{family}`" in caught.value.message


@pytest.mark.parametrize("name", sorted(FIGURES))
def test_a_sample_model_loads_strictly_and_repeats_its_recorded_figure_under_its_spec(name: str) -> None:
    spec = yaml.safe_load((SAMPLES / f"{name}.audit.yaml").read_text())
    x, y = _probe(spec)
    with torch.no_grad():
        outputs = _model(name, spec)(x)
    assert outputs.shape[0] == FIGURES[name]["probe_samples"]
    if spec["task"]["type"] == "regression":
        found = 1 - (outputs - y).square().sum().item() / (y - y.mean(0)).square().sum().item()
    elif spec["task"]["loss"] == "bce":
        found = ((outputs[:, 0] > 0) == y).double().mean().item()
    else:
        found = (outputs.argmax(1) == y).double().mean().item()
    # One sample may sit on the boundary on another machine.
    assert found == pytest.approx(FIGURES[name]["probe"], abs=1 / len(y))


def test_the_exported_program_takes_any_batch() -> None:
    module = torch.export.load(SAMPLES / "diabetes_mlp.pt2").module()
    assert [module(torch.zeros(n, 10)).shape for n in (1, 2, 300)] == [(1, 1), (2, 1), (300, 1)]


def _model(name: str, spec: dict[str, Any]) -> nn.Module:
    """Builds from the file's own metadata or from the spec, and loads every tensor strictly."""
    (path,) = (
        SAMPLES / f"{name}.{end}" for end in ("safetensors", "pt", "pt2") if (SAMPLES / f"{name}.{end}").exists()
    )
    if path.suffix == ".pt2":
        return torch.export.load(path).module()
    if path.suffix == ".pt":
        tensors, metadata = torch.load(path, weights_only=True), {}
    else:
        tensors = load_file(path)
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
    builder = metadata.get("spectral_audit.architecture") or spec["model"]["builder"]
    kwargs = json.loads(metadata["spectral_audit.kwargs"]) if metadata else spec["model"]["kwargs"]
    model = FAMILIES[builder](**kwargs)
    model.load_state_dict(tensors, strict=True)
    return model.eval()


def _probe(spec: dict[str, Any]) -> tuple[torch.Tensor, torch.Tensor]:
    """Reads the probe the plain way: scale, mean and std along the channel axis, channels first."""
    with np.load(SAMPLES / spec["data"]["path"], allow_pickle=False) as file:
        x, y = file["x"].astype(np.float64), file["y"]
    layout = spec["input"].get("layout")
    if layout == "NHW":
        x = x[..., None]
    top, _, bottom = str(spec["input"].get("scale", "1")).partition("/")
    x = (x * float(top) / float(bottom or 1) - spec["input"]["mean"]) / spec["input"]["std"]
    if layout:
        x = x.transpose(0, 3, 1, 2)
    return torch.from_numpy(np.ascontiguousarray(x)).float(), torch.from_numpy(y)
