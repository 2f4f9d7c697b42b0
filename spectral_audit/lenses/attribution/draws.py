"""Perturbations of a given size: random ones, and those that point where the attribution changes most."""

from __future__ import annotations

import torch
from torch import Tensor

from spectral_audit.lenses.attribution.settings import AttributionSettings


class Ball:
    """Perturbations of norm `radius` in the stated space, given in model-input units."""

    def __init__(self, x: Tensor, settings: AttributionSettings, radius: float) -> None:
        unit = settings.unit if settings.space == "pixel" and settings.unit is not None else torch.ones(())
        self._unit = unit.to(x)
        self._norm, self._x = settings.norm, x
        self.radius = radius

    @property
    def is_cube(self) -> bool:
        """Whether it is a ball of the largest coordinate."""
        return self._norm == "linf"

    def draw(self, generator: torch.Generator) -> Tensor:
        """Uniform on the sphere (l2) or in the cube (linf), (n, *shape)."""
        if self._norm == "linf":
            delta = torch.rand(self._x.shape, generator=generator, dtype=torch.float64) * 2 - 1
            return delta.to(self._x) * self.radius * self._unit
        return self._scaled(torch.randn(self._x.shape, generator=generator, dtype=torch.float64).to(self._x))

    def steepest(self, ascent: Tensor) -> Tensor:
        """The perturbation on the boundary that has the largest inner product with `ascent` (n, *shape)."""
        inner = ascent * self._unit
        return inner.sign() * self.radius * self._unit if self._norm == "linf" else self._scaled(inner)

    def along(self, direction: Tensor) -> Tensor:
        """The perturbation on the boundary that is a multiple of `direction` (n, *shape)."""
        inner = direction / self._unit
        if self._norm == "l2":
            return self._scaled(inner)
        size = inner.flatten(1).abs().amax(1).clamp_min(torch.finfo(inner.dtype).tiny)
        return direction / size.view(-1, *[1] * (direction.ndim - 1)) * self.radius

    def input_radius(self) -> float | None:
        """The radius of this ball in model-input units; `None` where it is no L2 ball there."""
        if self._norm != "l2" or not bool((self._unit == self._unit.flatten()[0]).all()):
            return None
        return self.radius * float(self._unit.flatten()[0])

    def _scaled(self, direction: Tensor) -> Tensor:
        norm = direction.flatten(1).norm(dim=1).clamp_min(torch.finfo(direction.dtype).tiny)
        return direction / norm.view(-1, *[1] * (direction.ndim - 1)) * self.radius * self._unit
