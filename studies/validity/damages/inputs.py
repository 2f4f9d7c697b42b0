"""Damage to inputs: random noise, adversarial noise, common corruptions.

Noise is relative to X, the rms distance of an input from the mean input, as the audit's axes are; it is added to the
inputs as the model sees them and not clipped. Corruptions act on pixels between 0 and 1, and exist for images only.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional

from studies.validity.damages.decisions import decisions, flips, mean, sized
from studies.validity.samples import Samples

NOISE = (0.1, 0.2, 0.5, 1.0)
"""‖δ‖ / X of random noise."""
ADVERSARIAL = (0.02, 0.05, 0.1)
"""‖δ‖ / X of adversarial noise."""
_DRAWS, _STEPS = 4, 8


def noise(model: nn.Module, s: Samples) -> dict[str, float | None]:
    """Flips under Gaussian noise of length r·X, for every level and the mean over levels."""
    before, rng = decisions(model, s.x), torch.Generator().manual_seed(10)
    found = {}
    for level in NOISE:
        draws = [sized(torch.randn(s.x.shape, generator=rng), level * s.scale) for _ in range(_DRAWS)]
        found[f"noise.{level:g}"] = mean([flips(model, s.x + delta, before) for delta in draws])
    return {**found, "noise": mean(list(found.values()))}


def adversarial(model: nn.Module, s: Samples) -> dict[str, float | None]:
    """Flips at any step of projected gradient descent on the margin in the L2 ball of radius r·X, and their mean."""
    before = decisions(model, s.x)
    found = {f"pgd.{level:g}": _pgd(model, s, before, level * s.scale) for level in ADVERSARIAL}
    return {**found, "pgd": mean(list(found.values()))}


def _pgd(model: nn.Module, s: Samples, before: Tensor, radius: float) -> float:
    rng = torch.Generator().manual_seed(11)
    delta = sized(torch.randn(s.x.shape, generator=rng), 0.1 * radius)
    flipped = torch.zeros(len(s.x), dtype=torch.bool)
    own = functional.one_hot(before, s.train.classes).bool()
    for _ in range(_STEPS):
        delta = delta.detach().requires_grad_()
        f = model(s.x + delta)
        # Margins, since the cross-entropy of a confident model has no gradient in float32.
        margin = f[own] - f.masked_fill(own, -torch.inf).amax(1)
        flipped |= (margin < 0).detach()
        (slope,) = torch.autograd.grad(margin.sum(), delta)
        moved = delta.detach() - sized(slope, 2.5 * radius / _STEPS)
        length = moved.flatten(1).norm(dim=1).clamp_min(radius)
        delta = moved * (radius / length).view(-1, *[1] * (moved.ndim - 1))
    flipped |= decisions(model, s.x + delta) != before
    return float(flipped.double().mean())


def corruptions(model: nn.Module, s: Samples) -> dict[str, float | None]:
    """Flips under each corruption, the mean over two severities, and the mean over corruptions."""
    names = list(_CORRUPTIONS)
    if s.x.ndim < 4 or s.x.shape[-1] < 16:
        return dict.fromkeys([*(f"corrupted.{name}" for name in names), "corrupted"])
    before = decisions(model, s.x)
    shape = (1, -1, 1, 1)
    centre, spread = (torch.tensor(v).view(shape) for v in (s.source.mean, s.source.std))
    pixels = (s.x * spread + centre).clamp(0, 1)
    found = {}
    for name in names:
        parts = [
            flips(model, (_CORRUPTIONS[name](pixels, severity).clamp(0, 1) - centre) / spread, before)
            for severity in (1, 2)
        ]
        found[f"corrupted.{name}"] = mean(parts)
    return {**found, "corrupted": mean(list(found.values()))}


def _blur(x: Tensor, severity: int) -> Tensor:
    at = torch.arange(-3.0, 4.0)
    kernel = torch.exp(-(at**2) / (2 * (0.6 * severity) ** 2))
    kernel = (kernel / kernel.sum()).expand(x.shape[1], 1, 1, -1)
    x = functional.conv2d(functional.pad(x, (3, 3, 0, 0), "replicate"), kernel, groups=x.shape[1])
    return functional.conv2d(functional.pad(x, (0, 0, 3, 3), "replicate"), kernel.mT, groups=x.shape[1])


def _contrast(x: Tensor, severity: int) -> Tensor:
    middle = x.mean((1, 2, 3), keepdim=True)
    return middle + (x - middle) * (0.5, 0.25)[severity - 1]


def _brightness(x: Tensor, severity: int) -> Tensor:
    return x + 0.15 * severity


def _pixelate(x: Tensor, severity: int) -> Tensor:
    size = x.shape[-1]
    small = functional.interpolate(x, (size * 2 // 3, size // 2)[severity - 1], mode="area")
    return functional.interpolate(small, size, mode="nearest")


def _compressed(x: Tensor, severity: int) -> Tensor:
    """JPEG's core: cosine transforms of 4×4 blocks, coefficients rounded to a step that grows with the frequency."""
    k = torch.arange(4.0)
    basis = torch.cos(torch.pi / 4 * (k + 0.5) * k[:, None])
    basis = basis * torch.where(k == 0, 0.5, 0.5**0.5)[:, None]
    n, c, h, w = x.shape
    blocks = x.reshape(n, c, h // 4, 4, w // 4, 4).transpose(3, 4)
    step = 0.08 * severity * (1 + k[:, None] + k)
    rounded = ((basis @ blocks @ basis.T) / step).round() * step
    return (basis.T @ rounded @ basis).transpose(3, 4).reshape(n, c, h, w)


def _shift(x: Tensor, severity: int) -> Tensor:
    padded = functional.pad(x, (severity, 0, severity, 0), "replicate")
    return padded[:, :, : x.shape[2], : x.shape[3]]


_CORRUPTIONS: dict[str, Callable[[Tensor, int], Tensor]] = {
    "blur": _blur,
    "contrast": _contrast,
    "brightness": _brightness,
    "pixelate": _pixelate,
    "compressed": _compressed,
    "shift": _shift,
}
