"""Second derivatives of every sample's loss along one direction in parameter space.

Two ways: forward mode twice (three forward passes for the whole probe set), or double backward sample by sample, which
is slower. Forward over forward is silently wrong for some of torch's operations (layer_norm and instance_norm, up to
torch 2.13), so it is used only where it agrees with double backward on the first two samples.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor
from torch.func import functional_call, jvp

from spectral_audit.lenses.space import ParameterSpace
from spectral_audit.losses import output_gradient, output_hessian
from spectral_audit.subject import Subject, outputs_2d

Directions = Mapping[str, Tensor]
Forms = tuple[Tensor, Tensor]


def quadratic_forms(space: ParameterSpace, direction: Tensor) -> Forms:
    """vᵀ∇²ℓ_i v for `direction` v (p,), split into its Gauss–Newton part and the remainder, each (n,) float64.

    With d1 = ∂f_i/∂t and d2 = ∂²f_i/∂t² along θ + tv, the parts are d1ᵀ S_i d1 and (∂ℓ_i/∂f)·d2.
    """
    subject, chosen = space.subject, space.parameters
    pieces = dict(zip(chosen, space.split(direction), strict=True))
    if _forward_is_right(subject, chosen, pieces):
        first, second = subject.over_samples(lambda where: _forward(subject, where, chosen, pieces))
    else:
        one = replace(subject, chunk=1)
        first, second = one.over_samples(lambda where: _double_backward(one, where, chosen, pieces))
    return first, second


def _forward_is_right(subject: Subject, parameters: Directions, pieces: Directions) -> bool:
    try:
        fast = _forward(subject, slice(0, 2), parameters, pieces)
    except (RuntimeError, NotImplementedError):
        return False
    sure = [_double_backward(subject, slice(i, i + 1), parameters, pieces) for i in range(2)]
    tolerance = 1e4 * torch.finfo(subject.x.dtype).eps
    scale = max(float(abs(a).max()) for part in (fast, *sure) for a in part)
    return all(float((fast[k][i] - sure[i][k][0]).abs()) <= tolerance * scale for i in range(2) for k in range(2))


def _forward(subject: Subject, where: slice, parameters: Directions, pieces: Directions) -> Forms:
    """Both parts for the samples in `where` by forward mode over forward mode."""
    values = {name: p.detach() for name, p in parameters.items()}
    tangents = dict(pieces)

    def along(p: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        return jvp(lambda q: outputs_2d(functional_call(subject.model, q, (subject.x[where],))), (p,), (tangents,))[:2]

    primal, tangent = jvp(along, (values,), (tangents,))[:2]
    f, d1, d2 = (t.detach().double() for t in (*primal, tangent[1]))
    return _gauss_newton(subject, f, d1), (output_gradient(subject.loss, f, _targets(subject, where)) * d2).sum(1)


def _double_backward(subject: Subject, where: slice, parameters: Directions, pieces: Directions) -> Forms:
    """Both parts for the one sample in `where`: vᵀHv from a Hessian product, d1 from the gradient's linearity in its
    cotangent u (the derivative of Jᵀu·v in u is Jv)."""
    chosen, v = list(parameters.values()), list(pieces.values())
    f = subject.forward(subject.x[where])
    u = torch.zeros_like(f, requires_grad=True)
    product = _inner(torch.autograd.grad(f, chosen, u, create_graph=True, allow_unused=True), v)
    d1 = torch.autograd.grad(product, u, materialize_grads=True)[0] if product.requires_grad else torch.zeros_like(f)
    slope = _inner(torch.autograd.grad(subject.losses(f, where).sum(), chosen, create_graph=True, allow_unused=True), v)
    curved = torch.autograd.grad(slope, chosen, allow_unused=True) if slope.requires_grad else ()
    total = _inner(curved, v).detach().double()
    first = _gauss_newton(subject, f.detach().double(), d1.detach().double())
    return first, total - first


def _inner(gradients: Sequence[Tensor | None], v: Sequence[Tensor]) -> Tensor:
    terms = [(g * part).sum() for g, part in zip(gradients, v, strict=False) if g is not None]
    return torch.stack(terms).sum() if terms else v[0].new_zeros(())


def _gauss_newton(subject: Subject, f: Tensor, d1: Tensor) -> Tensor:
    return (d1[:, None, :] @ output_hessian(subject.loss, f) @ d1[:, :, None])[:, 0, 0]


def _targets(subject: Subject, where: slice) -> Tensor:
    y = subject.y[where]
    return y.double() if y.is_floating_point() else y
