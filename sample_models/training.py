"""One deterministic training loop for all sample models."""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional


@dataclass(frozen=True)
class Recipe:
    """What to train, on what, how, and the format to save it in."""

    source: str
    builder: str
    kwargs: dict[str, Any]
    suffix: str
    loss: str = "cross_entropy"
    architecture_in: str = "spec"
    probe: str = ""
    optimizer: str = "adamw"
    epochs: int = 20
    batch: int = 64
    lr: float = 2e-3
    weight_decay: float = 1e-2
    jacobian_penalty: float = 0.0
    augment: bool = False
    label_noise: float = 0.0
    seed: int = 0
    sample: dict[str, Any] = field(default_factory=dict)


def fit(model: nn.Module, x: Tensor, y: Tensor, recipe: Recipe, name: str) -> None:
    """Trains in place with a one-cycle schedule; every draw comes from the recipe's seed."""
    rng = torch.Generator().manual_seed(recipe.seed)
    steps = -(-len(x) // recipe.batch)
    if recipe.optimizer == "sgd":
        optimizer: torch.optim.Optimizer = torch.optim.SGD(
            model.parameters(), lr=recipe.lr, momentum=0.9, nesterov=True, weight_decay=recipe.weight_decay
        )
    else:
        optimizer = torch.optim.AdamW(model.parameters(), lr=recipe.lr, weight_decay=recipe.weight_decay)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, recipe.lr, total_steps=recipe.epochs * steps)
    model.train()
    for epoch in range(recipe.epochs):
        start, total = time.perf_counter(), 0.0
        for index in torch.randperm(len(x), generator=rng).split(recipe.batch):
            batch = crop_and_flip(x[index], rng) if recipe.augment else x[index]
            value = objective(model, batch, y[index], recipe, rng)
            optimizer.zero_grad()
            value.backward()
            optimizer.step()
            schedule.step()
            total += float(value.detach()) * len(index)
        if recipe.epochs <= 20 or (epoch + 1) % 20 == 0:
            seconds = time.perf_counter() - start
            print(
                f"{name}: epoch {epoch + 1}/{recipe.epochs}, objective {total / len(x):.4f}, {seconds:.1f} s",
                file=sys.stderr,
                flush=True,
            )
    model.eval()


def relabelled(y: Tensor, share: float, classes: int, seed: int) -> Tensor:
    """Class labels of which a share is drawn anew, uniformly over all classes."""
    rng = torch.Generator().manual_seed(seed)
    drawn = torch.randint(0, classes, y.shape, generator=rng)
    return torch.where(torch.rand(len(y), generator=rng) < share, drawn.to(y), y)


def objective(model: nn.Module, x: Tensor, y: Tensor, recipe: Recipe, rng: torch.Generator) -> Tensor:
    """The loss, plus λ·mean ‖J‖_F² where the recipe asks for it."""
    if not recipe.jacobian_penalty:
        return loss(recipe.loss, model(x), y)
    x = x.clone().requires_grad_()
    outputs = model(x)
    return loss(recipe.loss, outputs, y) + recipe.jacobian_penalty * squared_jacobian(outputs, x, rng)


def squared_jacobian(outputs: Tensor, x: Tensor, rng: torch.Generator) -> Tensor:
    """An unbiased estimate of mean_i ‖∂f/∂x_i‖_F² that can be differentiated again.

    For v uniform on the unit sphere of ℝ^C, E‖Jᵀv‖² = ‖J‖_F²/C; one v per sample (Hoffman, Roberts, Yaida 2019).
    """
    v = functional.normalize(torch.randn(outputs.shape, generator=rng), dim=1)
    (gradient,) = torch.autograd.grad(outputs, x, v, create_graph=True)
    return outputs.shape[1] * gradient.flatten(1).square().sum(1).mean()


def loss(name: str, outputs: Tensor, y: Tensor) -> Tensor:
    if name == "cross_entropy":
        return functional.cross_entropy(outputs, y)
    if name == "bce":
        return functional.binary_cross_entropy_with_logits(outputs[:, 0], y.float())
    return functional.mse_loss(outputs, y)


def crop_and_flip(x: Tensor, rng: torch.Generator, pad: int = 4) -> Tensor:
    """Shifts each image by up to `pad` pixels and mirrors half of them; the border repeats the image's mirror."""
    n, _, height, width = x.shape
    padded = functional.pad(x, (pad, pad, pad, pad), mode="reflect")
    shift = torch.randint(0, 2 * pad + 1, (2, n), generator=rng)
    rows = shift[0, :, None] + torch.arange(height)
    columns = shift[1, :, None] + torch.arange(width)
    mirrored = torch.rand(n, generator=rng) < 0.5
    columns = torch.where(mirrored[:, None], columns.flip(1), columns)
    # Indexing by sample, row and column moves the channels last.
    picked = padded.permute(0, 2, 3, 1)[torch.arange(n)[:, None, None], rows[:, :, None], columns[:, None, :]]
    return picked.permute(0, 3, 1, 2)


@torch.no_grad()
def quality(model: nn.Module, x: Tensor, y: Tensor, name: str) -> float:
    """Accuracy, or R² for a regression."""
    outputs = torch.cat([model(part) for part in x.split(500)])
    if name == "mse":
        return float(1 - (outputs - y).square().sum() / (y - y.mean(0)).square().sum())
    predicted = outputs.argmax(1) if name == "cross_entropy" else (outputs[:, 0] > 0).long()
    return float((predicted == y).double().mean())
