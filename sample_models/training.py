"""One deterministic training loop for all sample models."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from spectral_audit.regularizers import jacobian_frobenius


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


@dataclass(frozen=True)
class Batch:
    """What a penalty sees of one step; `x` requires gradients, `index` are the samples' places in the training set."""

    model: nn.Module
    x: Tensor
    y: Tensor
    outputs: Tensor
    loss: Tensor
    index: Tensor
    rng: torch.Generator


Penalty = Callable[[Batch], Tensor]


def fit(model: nn.Module, x: Tensor, y: Tensor, recipe: Recipe, name: str) -> None:
    """Trains a sample model in place, and says how it goes."""
    strength = recipe.jacobian_penalty

    def penalty(batch: Batch) -> Tensor:
        return strength * jacobian_frobenius(batch.outputs, batch.x, generator=batch.rng)

    start = time.perf_counter()

    def say(epoch: int, objective: float) -> None:
        if recipe.epochs <= 20 or epoch % 20 == 0:
            seconds = time.perf_counter() - start
            text = f"{name}: epoch {epoch}/{recipe.epochs}, objective {objective:.4f}, {seconds:.1f} s"
            print(text, file=sys.stderr, flush=True)

    train(
        model,
        x,
        y,
        epochs=recipe.epochs,
        lr=recipe.lr,
        batch=recipe.batch,
        weight_decay=recipe.weight_decay,
        optimizer=recipe.optimizer,
        augment=recipe.augment,
        loss=recipe.loss,
        penalty=penalty if strength else None,
        seed=recipe.seed,
        say=say,
    )


def train(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    *,
    epochs: int,
    lr: float = 2e-3,
    batch: int = 64,
    weight_decay: float = 1e-2,
    optimizer: str = "adamw",
    augment: bool = False,
    loss: str = "cross_entropy",
    penalty: Penalty | None = None,
    seed: int = 0,
    say: Callable[[int, float], None] = lambda epoch, objective: None,
) -> None:
    """Trains in place with a one-cycle schedule, and leaves the model in eval mode; every draw comes from `seed`.

    `penalty` is added to the loss of every batch; `say(epoch, objective)` is called after each epoch.
    """
    rng = torch.Generator().manual_seed(seed)
    steps = -(-len(x) // batch)
    if optimizer == "sgd":
        method: torch.optim.Optimizer = torch.optim.SGD(
            model.parameters(), lr=lr, momentum=0.9, nesterov=True, weight_decay=weight_decay
        )
    else:
        method = torch.optim.AdamW(model.parameters(), lr=lr, weight_decay=weight_decay)
    schedule = torch.optim.lr_scheduler.OneCycleLR(method, lr, total_steps=epochs * steps)
    model.train()
    for epoch in range(epochs):
        total = 0.0
        for index in torch.randperm(len(x), generator=rng).split(batch):
            part = crop_and_flip(x[index], rng) if augment else x[index]
            value = objective(model, part, y[index], index, loss, penalty, rng)
            method.zero_grad()
            value.backward()
            method.step()
            schedule.step()
            total += float(value.detach()) * len(index)
        say(epoch + 1, total / len(x))
    model.eval()


def relabelled(y: Tensor, share: float, classes: int, seed: int) -> Tensor:
    """Class labels of which a share is drawn anew, uniformly over all classes."""
    rng = torch.Generator().manual_seed(seed)
    drawn = torch.randint(0, classes, y.shape, generator=rng)
    return torch.where(torch.rand(len(y), generator=rng) < share, drawn.to(y), y)


def objective(
    model: nn.Module, x: Tensor, y: Tensor, index: Tensor, name: str, penalty: Penalty | None, rng: torch.Generator
) -> Tensor:
    """The loss, and the penalty where there is one."""
    if penalty is None:
        return loss(name, model(x), y)
    x = x.clone().requires_grad_()
    outputs = model(x)
    value = loss(name, outputs, y)
    return value + penalty(Batch(model, x, y, outputs, value, index, rng))


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
