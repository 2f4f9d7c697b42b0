"""The space of a model's parameters as flat vectors, and products with the loss Hessian in it."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from spectral_audit.memory import vectors_within
from spectral_audit.subject import Subject, exact_arithmetic
from spectral_audit.sweep import relative_scale

# Parts of the memory budget: for retained graphs of the gradient, and for Lanczos vectors.
_GRAPH_SHARE, _BASIS_SHARE = 3, 4

Advance = Callable[[int], None]


class ParameterSpace:
    """The parameters `names` of a subject while they require gradients; vectors v (p,) list their entries in order."""

    def __init__(self, subject: Subject, parameters: dict[str, nn.Parameter]) -> None:
        self.subject = subject
        self.parameters = parameters
        self._sizes = [p.numel() for p in parameters.values()]
        self.size = sum(self._sizes)

    def max_basis(self, least: int) -> int:
        """Vectors of this space that fit into memory, at least `least`."""
        share = self.subject.memory // _BASIS_SHARE
        return max(least, vectors_within(share, self.size, self.subject.x.element_size()))

    def split(self, v: Tensor) -> list[Tensor]:
        """The pieces of `v` (p,), each shaped like its parameter."""
        parts = torch.split(v, self._sizes)
        return [part.view_as(p) for part, p in zip(parts, self.parameters.values(), strict=True)]

    def random_vector(self, generator: torch.Generator) -> Tensor:
        """A standard normal vector (p,)."""
        return torch.randn(self.size, generator=generator, dtype=torch.float64).to(self.subject.x)

    def random_signs(self, generator: torch.Generator) -> Tensor:
        """A Rademacher vector (p,)."""
        return torch.randint(0, 2, (self.size,), generator=generator).to(self.subject.x) * 2 - 1

    def worst_scale(self) -> Tensor:
        """T as a vector (p,): ‖θ_l‖_F for every entry of a tensor with two or more axes, 0 elsewhere."""
        return self._scale(relative_scale)

    def typical_scale(self) -> Tensor:
        """τ as a vector (p,): T_l/√(entries of θ_l)."""
        return self._scale(lambda p: relative_scale(p) / math.sqrt(p.numel()))

    def pull_back(self, cotangent: Tensor) -> Tensor:
        """Gᵀc = Σ_i ∂(c_i·f_i)/∂θ (p,) for `cotangent` (n, C)."""
        total = torch.zeros(self.size, dtype=torch.float64, device=cotangent.device)
        for where in self.subject.chunks():
            f = (self.subject.forward(self.subject.x[where]) * cotangent[where].to(self.subject.x)).sum()
            gradients = torch.autograd.grad(f, list(self.parameters.values()), materialize_grads=True)
            total += torch.cat([g.flatten() for g in gradients])
        return total.to(self.subject.x)

    def push_forward(self, v: Tensor) -> Tensor:
        """G v = ∂f_i/∂θ·v (n, C) for `v` (p,): the derivative in u of the gradient Gᵀu, along v."""
        pieces, chosen = self.split(v), list(self.parameters.values())
        parts = []
        for where in self.subject.chunks():
            f = self.subject.forward(self.subject.x[where])
            u = torch.zeros_like(f, requires_grad=True)
            gradients = torch.autograd.grad(f, chosen, u, create_graph=True, materialize_grads=True)
            pairs = [(g, part) for g, part in zip(gradients, pieces, strict=True) if g.requires_grad]
            (along,) = torch.autograd.grad([g for g, _ in pairs], u, [part for _, part in pairs])
            parts.append(along)
        return torch.cat(parts)

    def _scale(self, of: Callable[[Tensor], float]) -> Tensor:
        parts = [torch.full((p.numel(),), of(p), dtype=torch.float64) for p in self.parameters.values()]
        return torch.cat(parts).to(self.subject.x)


@contextmanager
def parameter_space(subject: Subject, names: Sequence[str]) -> Iterator[ParameterSpace]:
    """The space of the parameters `names`, which require gradients until it is left."""
    with exact_arithmetic(), subject.trainable() as parameters:
        yield ParameterSpace(subject, {name: parameters[name] for name in names})


class HessianProducts:
    """v ↦ H v by double backward, over one retained graph per chunk where memory allows, else recomputed each time.

    H = (1/n) Σ ∇²ℓ_i; vectors are (p,) in the model's dtype, and sums run in float64. `loss` and `gradient_norm` are L
    and ‖∇L‖, which the first pass gives; `count` is the number of products so far, and `advance` hears of each.
    """

    def __init__(self, space: ParameterSpace, advance: Advance = lambda products: None) -> None:
        self._space = space
        self._chosen = list(space.parameters.values())
        self._advance = advance
        self.count = 0
        self.loss = 0.0
        subject = space.subject
        total = torch.zeros(space.size, dtype=torch.float64, device=subject.x.device)
        self._graphs: list[list[Tensor]] | None = []
        for where in subject.chunks():
            loss, gradients, held = self._graph(where)
            self.loss += loss
            total += torch.cat([g.detach().flatten() for g in gradients])
            if self._graphs is not None:
                self._graphs.append(gradients)
            if where.start == 0 and held * math.ceil(subject.n / subject.chunk) > subject.memory // _GRAPH_SHARE:
                self._graphs = None
        self.gradient_norm = float(total.norm())

    def __call__(self, v: Tensor) -> Tensor:
        """H v for `v` (p,)."""
        pieces = self._space.split(v)
        total = torch.zeros(self._space.size, dtype=torch.float64, device=v.device)
        for gradients in self._graphs if self._graphs is not None else self._recomputed():
            inner = [(g, part) for g, part in zip(gradients, pieces, strict=True) if g.requires_grad]
            if inner:
                products = torch.autograd.grad(
                    [g for g, _ in inner],
                    self._chosen,
                    [part for _, part in inner],
                    retain_graph=self._graphs is not None,
                    materialize_grads=True,
                )
                total += torch.cat([h.flatten() for h in products])
        self.count += 1
        self._advance(1)
        return total.to(v.dtype)

    def _recomputed(self) -> Iterator[list[Tensor]]:
        for where in self._space.subject.chunks():
            yield self._graph(where)[1]

    def _graph(self, where: slice) -> tuple[float, list[Tensor], int]:
        """A chunk's part of the loss, its gradients with their graph, and the bytes that graph holds."""
        subject = self._space.subject
        held: dict[int, int] = {}

        def note(t: Tensor) -> Tensor:
            held[t.untyped_storage().data_ptr()] = t.untyped_storage().nbytes()
            return t

        with torch.autograd.graph.saved_tensors_hooks(note, lambda t: t):
            loss = subject.losses(subject.forward(subject.x[where]), where).sum() / subject.n
            gradients = torch.autograd.grad(loss, self._chosen, create_graph=True, materialize_grads=True)
        return float(loss.detach()), list(gradients), sum(held.values())
