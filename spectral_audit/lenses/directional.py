"""Second derivatives of every sample's loss along one direction in parameter space.

Three ways. Forward mode twice takes about three forward passes for all samples of a chunk, but torch loads its compiler
for it, which takes a second, and not every operation has it. Double backward twice takes about twice as long, and loads
nothing. For some of torch's operations both are silently wrong: they are used only where they agree on the first two
samples with the third way, double backward of one sample after the other, which is nothing but a Hessian product.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import torch
from torch import Tensor
from torch.func import functional_call, jvp

from spectral_audit.lenses.space import ParameterSpace
from spectral_audit.losses import output_gradient, output_hessian
from spectral_audit.passes.norms import NormsWrittenOut
from spectral_audit.passes.pairing import paired
from spectral_audit.subject import Subject, outputs_2d

Forms = tuple[Tensor, Tensor]
Way = Callable[[ParameterSpace, slice, Sequence[Tensor]], Forms]

# The graph of double backward twice, in what a forward pass saves.
_GRAPHS = 8
# From how much work on forward mode is tried first: numbers that forward passes save, or an equivalent of their
# products with the parameters.
_MUCH = 80_000_000
_PRODUCTS = 16


class QuadraticForms:
    """vᵀ∇²ℓ_i v for `direction` v (p,), split into its Gauss–Newton part and the remainder, each (n,) float64.

    With d1 = ∂f_i/∂t and d2 = ∂²f_i/∂t² along θ + tv, the parts are d1ᵀ S_i d1 and (∂ℓ_i/∂f)·d2. The first direction
    decides on the way, and so does how many `directions` are to be expected.
    """

    def __init__(self, space: ParameterSpace, directions: int) -> None:
        self.space = space
        self._directions = directions
        self._way: Way | None = None

    def __call__(self, direction: Tensor) -> Forms:
        """Both parts, each (n,) float64."""
        space, pieces = self.space, self.space.split(direction)
        way = self._way = self._way or first_right(space, pieces, self._preferred())
        subject = space.subject
        if way is twice_backward:
            subject = subject.fitting(_GRAPHS)
        elif way is one_sample:
            subject = replace(subject, chunk=1)
        first, second = subject.over_samples(lambda where: way(space, where, pieces))
        return first, second

    def _preferred(self) -> tuple[Way, Way]:
        subject = self.space.subject
        work = subject.n * (subject.saved // subject.x.element_size() + self.space.size // _PRODUCTS)
        much = work * self._directions > _MUCH
        return (twice_forward, twice_backward) if much else (twice_backward, twice_forward)


def first_right(space: ParameterSpace, pieces: Sequence[Tensor], ways: Sequence[Way]) -> Way:
    """The first of `ways` that is right along `pieces` of a direction, one for each parameter; else `one_sample`."""
    some = [slice(i, i + 1) for i in range(min(2, space.subject.n))]
    sure = [torch.cat(part) for part in zip(*(one_sample(space, one, pieces) for one in some), strict=True)]
    scale = max(float(part.abs().max()) for part in sure)
    tolerance = 1e4 * torch.finfo(space.subject.x.dtype).eps * scale
    for way in ways:
        try:
            found = way(space, slice(0, len(some)), pieces)
        except RuntimeError:  # an operation of the model has no such derivative: the next way may do without it
            continue
        if all(float((a - b).abs().max()) <= tolerance for a, b in zip(found, sure, strict=True)):
            return way
    return one_sample


def twice_forward(space: ParameterSpace, where: slice, pieces: Sequence[Tensor]) -> Forms:
    """Both parts for the samples in `where` by forward mode over forward mode."""
    subject = space.subject
    values = {name: p.detach() for name, p in space.parameters.items()}
    tangents = dict(zip(values, pieces, strict=True))

    def along(p: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        return jvp(lambda q: outputs_2d(functional_call(subject.model, q, (subject.x[where],))), (p,), (tangents,))[:2]

    with NormsWrittenOut():
        primal, tangent = jvp(along, (values,), (tangents,))[:2]
    return _forms(subject, where, primal[0], tangent[0], tangent[1])


def twice_backward(space: ParameterSpace, where: slice, pieces: Sequence[Tensor]) -> Forms:
    """Both parts for the samples in `where` by double backward of what double backward gives."""
    subject = space.subject
    with NormsWrittenOut():
        f = subject.forward(subject.x[where])
    d1 = _derivative(f, space, pieces)
    return _forms(subject, where, f, d1, _derivative(d1, space, pieces))


def one_sample(space: ParameterSpace, where: slice, pieces: Sequence[Tensor]) -> Forms:
    """Both parts for the one sample in `where`: vᵀHv from a Hessian product, less the Gauss–Newton part."""
    subject, chosen = space.subject, list(space.parameters.values())
    f = subject.forward(subject.x[where])
    d1 = _derivative(f, space, pieces)
    slope = _inner(
        torch.autograd.grad(subject.losses(f, where).sum(), chosen, create_graph=True, allow_unused=True), pieces
    )
    curved = torch.autograd.grad(slope, chosen, allow_unused=True) if slope.requires_grad else ()
    total = _inner(curved, pieces).detach().double()
    first, _ = _forms(subject, where, f, d1, torch.zeros_like(f))
    return first, total - first


def _derivative(f: Tensor, space: ParameterSpace, pieces: Sequence[Tensor]) -> Tensor:
    """∂f/∂θ·v (m, C), differentiable: Gᵀu is linear in the cotangent u, and the derivative of Gᵀu·v in u is G v."""
    if not f.requires_grad:
        return torch.zeros_like(f)
    u = torch.zeros_like(f, requires_grad=True)
    gradients = torch.autograd.grad(
        paired([f], [u]), list(space.parameters.values()), create_graph=True, allow_unused=True
    )
    slope = _inner(gradients, pieces)
    if not slope.requires_grad:
        return torch.zeros_like(f)
    return torch.autograd.grad(slope, u, create_graph=True, materialize_grads=True)[0]


def _inner(gradients: Sequence[Tensor | None], v: Sequence[Tensor]) -> Tensor:
    terms = [(g * part).sum() for g, part in zip(gradients, v, strict=False) if g is not None]
    return torch.stack(terms).sum() if terms else v[0].new_zeros(())


def _forms(subject: Subject, where: slice, outputs: Tensor, first: Tensor, second: Tensor) -> Forms:
    """Both parts from f and its derivatives d1 and d2 along the direction, each (m, C)."""
    f, d1, d2 = (t.detach().double() for t in (outputs, first, second))
    gauss_newton = (d1[:, None, :] @ output_hessian(subject.loss, f) @ d1[:, :, None])[:, 0, 0]
    y = subject.y[where]
    slope = output_gradient(subject.loss, f, y.double() if y.is_floating_point() else y)
    return gauss_newton, (slope * d2).sum(1)
