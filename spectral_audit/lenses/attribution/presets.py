"""max_sensitivity as other libraries define it, with their norms, radii and draws: for published figures.

captum 0.9 (`sensitivity_max` of `Saliency`): |∇f_c|, ten draws uniform in the cube of radius 0.02, sample by sample
from torch's generator. Quantus 0.6 (`MaxSensitivity` of "Gradient"): ∇f_c summed over channels, 200 draws uniform in
the cube of radius 0.2, batch by batch of 64 from NumPy's legacy generator. Both divide by ‖a(x)‖, captum by 1 where
that is zero.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from spectral_audit.explanations import PresetReading
from spectral_audit.lenses.attribution.intervals import mean
from spectral_audit.lenses.attribution.maps import shaped, targets
from spectral_audit.lenses.attribution.methods import Net
from spectral_audit.lenses.attribution.settings import AttributionSettings, Channels, PresetName, Sign
from spectral_audit.subject import Subject, exact_arithmetic


@dataclass(frozen=True)
class Preset:
    """A library's defaults; `block` samples draw together, the subject's chunk where `None`."""

    radius: float
    draws: int
    sign: Sign
    channels: Channels
    explanation: str
    block: int | None


PRESETS: dict[PresetName, Preset] = {
    "captum": Preset(0.02, 10, "absolute", "kept", "|gradient|", None),
    "quantus": Preset(0.2, 200, "signed", "pooled", "gradient, summed over channels", 64),
}


def max_sensitivity(
    subject: Subject,
    name: PresetName,
    *,
    settings: AttributionSettings | None = None,
    seed: int = 0,
    draws: int | None = None,
) -> Tensor:
    """max over draws of ‖a(x+δ) − a(x)‖/‖a(x)‖ (n,) by a library's definition; `settings` choose the target only.

    With the same seed and draws it takes the random numbers that captum takes after `torch.manual_seed(seed)` in one
    batch, and Quantus after `numpy.random.seed(seed)`, on a CPU. NaN where Quantus divides zero by zero.
    """
    preset = PRESETS[name]
    chosen = replace(settings or AttributionSettings(), sign=preset.sign, channels=preset.channels)
    target, net = targets(subject, chosen), Net(subject)
    source = _Source(name, preset, seed, draws or preset.draws)
    found = []
    block = preset.block or subject.chunk
    with exact_arithmetic():
        for first in range(0, subject.n, block):
            x, c = subject.x[first : first + block], target[first : first + block]
            base = shaped(_gradients(net, x, c), chosen).flatten(1)
            worst = torch.zeros(len(x), dtype=x.dtype, device=x.device)
            for noise in source.block(x):
                moved = shaped(_gradients(net, x + noise, c), chosen).flatten(1)
                worst = torch.maximum(worst, (moved - base).norm(dim=1))
            size = base.norm(dim=1)
            found.append(worst / (torch.where(size == 0, 1, size) if name == "captum" else size))
    return torch.cat(found)


def read_preset(subject: Subject, settings: AttributionSettings, name: PresetName, seed: int) -> PresetReading:
    """The mean over samples, without those where it does not exist."""
    found = max_sensitivity(subject, name, settings=settings, seed=seed)
    preset = PRESETS[name]
    return PresetReading(name, mean(found[found.isfinite()]), preset.radius, preset.draws, preset.explanation)


def _gradients(net: Net, x: Tensor, target: Tensor) -> Tensor:
    """∇f_c (m, *shape), the subject's chunk at a time."""
    size = net.subject.chunk
    return torch.cat([net.gradient(x[k : k + size], target[k : k + size])[0] for k in range(0, len(x), size)])


class _Source:
    """The random numbers a library would draw."""

    def __init__(self, name: PresetName, preset: Preset, seed: int, draws: int) -> None:
        self._name, self._radius, self._draws = name, preset.radius, draws
        self._torch = torch.Generator().manual_seed(seed)
        self._numpy = np.random.RandomState(seed % 2**32)

    def block(self, x: Tensor) -> Iterator[Tensor]:
        """The perturbations (m, *shape) of a block of samples, one draw after the other."""
        if self._name == "captum":
            every = torch.empty(len(x), self._draws, *x.shape[1:])
            yield from every.uniform_(-self._radius, self._radius, generator=self._torch).to(x).unbind(1)
            return
        for _ in range(self._draws):
            drawn = self._numpy.uniform(-self._radius, self._radius, (len(x), x[0].numel()))
            yield torch.from_numpy(drawn).to(x).view_as(x)
