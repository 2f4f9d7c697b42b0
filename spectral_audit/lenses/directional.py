"""First and second derivatives of every sample's outputs along one direction in parameter space."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.func import functional_call, jvp

from ..losses import output_gradient, output_hessian
from ..subject import Subject, outputs_2d

Directions = Mapping[str, Tensor]


def quadratic_forms(
    subject: Subject, names: Sequence[str], parameters: dict[str, nn.Parameter], direction: Tensor
) -> tuple[Tensor, Tensor]:
    """vᵀ∇²ℓ_i v split into its Gauss–Newton part and the remainder, each (n,) float64.

    With d1 = ∂f_i/∂t and d2 = ∂²f_i/∂t² along θ + tv, the parts are d1ᵀ S_i d1 and (∂ℓ_i/∂f)·d2. `direction` v (p,) is
    split over `names` in order; `parameters` must require gradients.
    """
    chosen = {name: parameters[name] for name in names}
    sizes = [p.numel() for p in chosen.values()]
    pieces = {name: v.view_as(chosen[name]) for name, v in zip(names, direction.split(sizes), strict=True)}
    first, second = [], []
    for where in subject.chunks():
        f, d1, d2 = (t.detach().double() for t in _derivatives(subject, subject.x[where], chosen, pieces))
        y = subject.y[where]
        y = y.double() if y.is_floating_point() else y
        s = output_hessian(subject.loss, f)
        first.append((d1[:, None, :] @ s @ d1[:, :, None])[:, 0, 0])
        second.append((output_gradient(subject.loss, f, y) * d2).sum(1))
    return torch.cat(first), torch.cat(second)


def _derivatives(subject: Subject, x: Tensor, parameters: Directions, pieces: Directions) -> tuple[Tensor, Tensor, Tensor]:
    """f, ∂f/∂t and ∂²f/∂t² (m, C): forward mode twice, or four nested backward passes where an operation lacks it."""
    try:
        return _forward(subject, x, parameters, pieces)
    except (RuntimeError, NotImplementedError):
        return _reverse(subject, x, parameters, pieces)


def _forward(subject: Subject, x: Tensor, parameters: Directions, pieces: Directions) -> tuple[Tensor, Tensor, Tensor]:
    values = {name: p.detach() for name, p in parameters.items()}

    def once(p: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        along: tuple[Tensor, Tensor] = jvp(
            lambda q: outputs_2d(functional_call(subject.model, q, (x,))), (p,), (dict(pieces),)
        )
        return along

    (f, d1), (_, d2) = jvp(once, (values,), (dict(pieces),))
    return f, d1, d2


def _reverse(subject: Subject, x: Tensor, parameters: Directions, pieces: Directions) -> tuple[Tensor, Tensor, Tensor]:
    f = subject.forward(x)
    d1 = _along(f, parameters, pieces, create_graph=True)
    d2 = _along(d1, parameters, pieces, create_graph=False) if d1.requires_grad else torch.zeros_like(d1)
    return f, d1, d2


def _along(f: Tensor, parameters: Directions, pieces: Directions, *, create_graph: bool) -> Tensor:
    """∂f/∂θ·v by two backward passes: the gradient is linear in its cotangent u, and its derivative in u along v is Jv."""
    u = torch.zeros_like(f, requires_grad=True)
    gradients = torch.autograd.grad(f, list(parameters.values()), u, create_graph=True, allow_unused=True)
    terms = [(g * v).sum() for g, v in zip(gradients, pieces.values(), strict=True) if g is not None]
    product = torch.stack(terms).sum() if terms else f.new_zeros(())
    if not product.requires_grad:
        return torch.zeros_like(f)
    (along,) = torch.autograd.grad(product, u, create_graph=create_graph, materialize_grads=True)
    return along
