"""What to explain, by which methods, and how far to perturb."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

from torch import Tensor

from spectral_audit.explanations import Sheet

# (forward, x, target) ↦ a: the model's outputs (m, C) for inputs, inputs (m, *shape), and the explained outputs (m,).
Callback = Callable[[Callable[[Tensor], Tensor], Tensor, Tensor], Tensor]
Sign = Literal["signed", "absolute"]
Channels = Literal["kept", "pooled"]
PresetName = Literal["captum", "quantus"]


@dataclass(frozen=True)
class AttributionSettings:
    """What to explain and how far to perturb.

    `methods` are names of built-in methods or keys of `functions`; the first is the primary one. `target` is the
    predicted class, the label, or an output index. `sign` takes absolute values and then `channels` the sum over the
    first axis of a sample. `radius` is relative to X unless `relative` is off; `fractions` of it make the curve;
    `unit` is what one unit of the stated `space` is in model-input units, broadcast over a sample's shape. `ig_steps`
    are the points of integrated gradients, `smooth_draws` and `smooth_noise` the draws of SmoothGrad and their
    deviation relative to the probe set's range. `surrogate` is the β of a softplus surrogate. `observe` is handed
    pictures of a few samples of the primary method.
    """

    methods: tuple[str, ...] = ("gradient",)
    functions: dict[str, Callback] = field(default_factory=dict)
    target: Literal["predicted", "label"] | int = "predicted"
    sign: Sign = "signed"
    channels: Channels = "kept"
    radius: float = 0.1
    relative: bool = True
    norm: Literal["l2", "linf"] = "l2"
    space: Literal["input", "pixel"] = "input"
    unit: Tensor | None = None
    fractions: tuple[float, ...] = (0.01, 0.1)
    draws: int = 10
    search_steps: int = 8
    ig_steps: int = 16
    smooth_draws: int = 16
    smooth_noise: float = 0.15
    surrogate: float | None = None
    preset: PresetName | None = None
    observe: Callable[[Sheet], None] | None = None
