"""Kernels as operators on output cotangents, without forming them: for many outputs and long probe sets.

A vector of this space is u (n, C), one cotangent a sample. Everything here is double backward, which holds for every
model that can be audited at all: the gradient Jᵀu is linear in u, and its derivative in u along v is Jv.
"""

from __future__ import annotations

import torch
from torch import Tensor

from spectral_audit.lenses.space import ParameterSpace
from spectral_audit.losses import Loss
from spectral_audit.passes.pairing import paired


class OutputFactor:
    """A factor B of the loss's output Hessian, S = BᵀB, applied to rows f (n, C) without forming S.

    Softmax: B = diag(√p)(I − 1pᵀ); logistic: √(p(1 − p)); squared error: √(2/C).
    """

    def __init__(self, loss: Loss, outputs: Tensor) -> None:
        self._loss = loss
        if loss == "cross_entropy":
            self._p = outputs.softmax(1)
        elif loss == "bce":
            self._p = (outputs.sigmoid() * (1 - outputs.sigmoid())).sqrt()
        else:
            self._p = torch.full_like(outputs, (2 / outputs.shape[1]) ** 0.5)

    def __call__(self, v: Tensor) -> Tensor:
        """B v."""
        p = self._p.to(v)
        return p.sqrt() * (v - (p * v).sum(1, keepdim=True)) if self._loss == "cross_entropy" else p * v

    def transposed(self, w: Tensor) -> Tensor:
        """Bᵀ w."""
        p = self._p.to(w)
        return p.sqrt() * w - p * (p.sqrt() * w).sum(1, keepdim=True) if self._loss == "cross_entropy" else p * w


class KernelProducts:
    """u ↦ G D² Gᵀ u / n for flat vectors u of a basis of the outputs; `scale` D (p,) and `factor` B are optional.

    In the basis W (C, r), or with B in its place, the operator is [W_iᵀ G_i D² G_jᵀ W_j]/n. `count` counts products.
    """

    def __init__(
        self, space: ParameterSpace, basis: Tensor, *, scale: Tensor | None = None, factor: OutputFactor | None = None
    ) -> None:
        self._space, self._basis, self._scale, self._factor = space, basis, scale, factor
        self.width = basis.shape[1] if factor is None else basis.shape[0]
        self.count = 0

    def __call__(self, u: Tensor) -> Tensor:
        """The product (n·r,) with `u` (n·r,)."""
        n = self._space.subject.n
        rows = u.view(n, self.width)
        cotangent = rows @ self._basis.T if self._factor is None else self._factor.transposed(rows)
        v = self._space.pull_back(cotangent)
        along = self._space.push_forward(v if self._scale is None else v * self._scale.square())
        self.count += 1
        return (along @ self._basis if self._factor is None else self._factor(along)).flatten() / n

    def random_vector(self, generator: torch.Generator) -> Tensor:
        """A standard normal vector (n·r,)."""
        size = self._space.subject.n * self.width
        return torch.randn(size, generator=generator, dtype=torch.float64).to(self._space.subject.x)


class InputProducts:
    """u_i ↦ J_i J_iᵀ u_i for the samples `where`, in the basis of the outputs, over one retained graph."""

    def __init__(self, space: ParameterSpace, where: slice, basis: Tensor) -> None:
        subject = space.subject
        self._basis = basis
        self._x = subject.leaf(subject.x[where])
        self._f = subject.forward_fused(self._x)
        self._u = torch.zeros_like(self._f, requires_grad=True)
        slope = paired([self._f], [self._u])
        (self._g,) = torch.autograd.grad(slope, self._x, create_graph=True, materialize_grads=True)

    def __call__(self, u: Tensor) -> Tensor:
        """Rows (m, r) for rows `u` (m, r)."""
        cotangent = u @ self._basis.T
        slope = paired([self._f], [cotangent])
        (v,) = torch.autograd.grad(slope, self._x, retain_graph=True, materialize_grads=True)
        if not self._g.requires_grad:
            return torch.zeros_like(u)
        slope = paired([self._g], [v])
        (along,) = torch.autograd.grad(slope, self._u, retain_graph=True, materialize_grads=True)
        return along @ self._basis


class WeightProducts:
    """u ↦ G_i T² G_iᵀ u for one sample i, in the basis of the outputs, over one retained graph; rows are (1, r)."""

    def __init__(self, space: ParameterSpace, sample: int, basis: Tensor, scale: Tensor) -> None:
        subject = space.subject
        self._basis, self._pieces = basis, [s.square() for s in space.split(scale)]
        self._parameters = list(space.parameters.values())
        self._f = subject.forward_fused(subject.x[sample : sample + 1])
        self._u = torch.zeros_like(self._f, requires_grad=True)
        slope = paired([self._f], [self._u])
        self._g = torch.autograd.grad(slope, self._parameters, create_graph=True, materialize_grads=True)

    def __call__(self, u: Tensor) -> Tensor:
        """The row (1, r) for a row `u` (1, r)."""
        cotangent = u @ self._basis.T
        slope = paired([self._f], [cotangent])
        v = torch.autograd.grad(slope, self._parameters, retain_graph=True, materialize_grads=True)
        pairs = [(g, part * s) for g, part, s in zip(self._g, v, self._pieces, strict=True) if g.requires_grad]
        slope = paired([g for g, _ in pairs], [part for _, part in pairs])
        (along,) = torch.autograd.grad(slope, self._u, retain_graph=True, materialize_grads=True)
        return along @ self._basis
