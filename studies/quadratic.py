"""The synthetic part of the study of penalties: quadratic regression, where the penalised optimum has a closed form.

The student f(x) = xᵀBx + wᵀx + c is linear in its parameters θ, so mean-square error and the penalties are quadratic in
θ: with features φ, ∇_x f(x_i) = D_iᵀθ and vec A = Lᵀθ,

    θ* = argmin (1/n)‖Φθ − y‖² + λ·P(θ),  P = mean_i ‖D_iᵀθ‖² (Jacobian) or ‖Lᵀθ‖² (curvature),

is the solution of one linear system. The teacher is of the same form, and inputs are standard normal.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

D = 6
SAMPLES = (2000, 500)
_PAIRS = [(i, j) for i in range(D) for j in range(i, D)]


class Quadratic(nn.Module):
    """xᵀBx + wᵀx + c, B upper triangular."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(1, len(_PAIRS) + D) / 4)
        self.bias = nn.Parameter(torch.zeros(1))

    def forward(self, x: Tensor) -> Tensor:
        return features(x) @ self.weight.T + self.bias


def features(x: Tensor) -> Tensor:
    """x_i x_j for i ≤ j, then x_i, (n, p)."""
    i, j = zip(*_PAIRS, strict=True)
    return torch.cat([x[:, list(i)] * x[:, list(j)], x], 1)


@dataclass(frozen=True)
class Problem:
    """Inputs and noisy targets (n, 1) of one teacher: what a student is trained and tested on."""

    x_train: Tensor
    y_train: Tensor
    x_test: Tensor
    y_test: Tensor


def problem(seed: int, samples: int = SAMPLES[0]) -> Problem:
    """A random teacher's data, the first `samples` of the training part; a tenth of the targets' variance is noise."""
    generator = torch.Generator().manual_seed(1000 + seed)
    theta = torch.randn(len(_PAIRS) + D, 1, generator=generator) / math.sqrt(D)
    parts = []
    for size in SAMPLES:
        x = torch.randn(size, D, generator=generator)
        clean = features(x) @ theta
        parts += [x, clean + clean.std() / 3 * torch.randn(size, 1, generator=generator)]
    return Problem(parts[0][:samples], parts[1][:samples], *parts[2:])


def slopes(x: Tensor) -> Tensor:
    """D_i = ∂φ/∂x at every sample, (n, p, d)."""
    return torch.func.vmap(torch.func.jacrev(lambda z: features(z[None])[0]))(x)


def curvatures() -> Tensor:
    """L: the input Hessian of every feature, (p, d²)."""
    return torch.func.hessian(lambda z: features(z[None])[0])(torch.zeros(D, dtype=torch.float64)).flatten(1)


def optimum(data: Problem, penalty: str | None, strength: float) -> tuple[Tensor, float]:
    """θ* (p,) and c* in float64."""
    x, y = data.x_train.double(), data.y_train[:, 0].double()
    phi = torch.cat([features(x), torch.ones(len(x), 1, dtype=x.dtype)], 1)
    system = phi.T @ phi / len(x)
    p = phi.shape[1] - 1
    if penalty is not None and penalty.startswith("jacobian"):
        d_i = slopes(x)
        system[:p, :p] += strength * (d_i @ d_i.mT).mean(0)
    elif penalty == "attribution_curvature":
        system[:p, :p] += strength * curvatures() @ curvatures().T
    solved = torch.linalg.solve(system, phi.T @ y / len(x))
    return solved[:p], float(solved[p])


def known(data: Problem, x: Tensor, y: Tensor, penalty: str | None, strength: float) -> dict[str, float]:
    """R² on the test part, and on the probe x (n, d), y (n, 1): input axis and condition number at the optimum."""
    theta, constant = optimum(data, penalty, strength)
    x, tested = x.double(), data.x_test.double()
    scale = (x - x.mean(0)).square().sum(1).mean().sqrt()
    f = features(x) @ theta + constant
    spread = (f - f.mean()).square().mean().sqrt()
    gradients = (slopes(x).mT @ theta).square().sum(1).sqrt()
    bent = (curvatures().T @ theta).norm()
    target = data.y_test[:, 0].double()
    missed = (features(tested) @ theta + constant - target).square().sum()
    return {
        "accuracy": float(1 - missed / (target - target.mean()).square().sum()),
        "axes.input.typical": float(gradients.square().mean().sqrt() * scale / (math.sqrt(D) * spread)),
        "condition.typical": float((bent * scale / (math.sqrt(D) * gradients)).median()),
    }
