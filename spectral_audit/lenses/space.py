"""The space of a model's parameters as flat vectors, and products with the loss Hessian in it."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from spectral_audit.linalg.vectors import norm
from spectral_audit.memory import vectors_within
from spectral_audit.passes.pairing import paired
from spectral_audit.subject import Subject, exact_arithmetic
from spectral_audit.sweep import relative_scale

# Parts of the memory budget: for retained graphs of the gradient, and for Lanczos vectors.
_GRAPH_SHARE, _BASIS_SHARE = 3, 4
# Random numbers drawn at a time, in float64 whatever the dtype of the vector.
_DRAWN = 2**22

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

    def sum(self, terms: Iterable[Sequence[Tensor]]) -> Tensor:
        """The sum (p,), over all processes, of vectors given as pieces, one for each parameter; of several terms in
        float64."""
        coming = iter(terms)
        first = torch.cat([piece.detach().flatten() for piece in next(coming)])
        total: Tensor | None = None
        for pieces in coming:
            total = first.double() if total is None else total
            for part, piece in zip(total.split(self._sizes), pieces, strict=True):
                part.add_(piece.detach().flatten())
        if self.subject.ranks.size > 1:
            total = self.subject.ranks.sum(first.double() if total is None else total)
        return first if total is None else total.to(first.dtype)

    def random_vector(self, generator: torch.Generator) -> Tensor:
        """A standard normal vector (p,)."""
        v = self.subject.x.new_empty(self.size)
        for part in v.split(_DRAWN):
            part.copy_(torch.randn(len(part), generator=generator, dtype=torch.float64))
        return v

    def random_signs(self, generator: torch.Generator) -> Tensor:
        """A Rademacher vector (p,)."""
        v = self.subject.x.new_empty(self.size)
        for part in v.split(_DRAWN):
            part.copy_(torch.randint(0, 2, (len(part),), generator=generator))
        return v.mul_(2).sub_(1)

    def worst_scale(self) -> Tensor:
        """T as a vector (p,): ‖θ_l‖_F for every entry of a tensor with two or more axes, 0 elsewhere."""
        return self._scale(relative_scale)

    def typical_scale(self) -> Tensor:
        """τ as a vector (p,): T_l/√(entries of θ_l)."""
        return self._scale(lambda p: relative_scale(p) / math.sqrt(p.numel()))

    def pull_back(self, cotangent: Tensor) -> Tensor:
        """Gᵀc = Σ_i ∂(c_i·f_i)/∂θ (p,) for `cotangent` (n, C)."""

        def term(where: slice) -> Sequence[Tensor]:
            f = (self.subject.forward_fused(self.subject.x[where]) * cotangent[where].to(self.subject.x)).sum()
            return torch.autograd.grad(f, list(self.parameters.values()), materialize_grads=True)

        return self.sum(map(term, self.subject.chunks()))

    def push_forward(self, v: Tensor) -> Tensor:
        """G v = ∂f_i/∂θ·v (n, C) for `v` (p,): the derivative in u of the gradient Gᵀu, along v."""
        pieces, chosen = self.split(v), list(self.parameters.values())

        def rows(where: slice) -> Sequence[Tensor]:
            f = self.subject.forward_fused(self.subject.x[where])
            u = torch.zeros_like(f, requires_grad=True)
            gradients = torch.autograd.grad(paired([f], [u]), chosen, create_graph=True, materialize_grads=True)
            pairs = [(g, part) for g, part in zip(gradients, pieces, strict=True) if g.requires_grad]
            return torch.autograd.grad(paired([g for g, _ in pairs], [part for _, part in pairs]), u)

        return self.subject.over_samples(rows)[0]

    def _scale(self, of: Callable[[Tensor], float]) -> Tensor:
        return torch.cat([self.subject.x.new_full((p.numel(),), of(p)) for p in self.parameters.values()])


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
        self._graphs: list[list[Tensor]] | None = []
        self.gradient_norm = norm(space.sum(self._first_pass()))
        self.loss = float(space.subject.ranks.sum(torch.tensor(self.loss, dtype=torch.float64)))

    def __call__(self, v: Tensor) -> Tensor:
        """H v for `v` (p,)."""
        graphs = self._graphs if self._graphs is not None else self._recomputed()
        pieces = self._space.split(v)
        product = self._space.sum(self._product(gradients, pieces) for gradients in graphs)
        self.count += 1
        self._advance(1)
        return product

    def _product(self, gradients: Sequence[Tensor], pieces: Sequence[Tensor]) -> Sequence[Tensor]:
        inner = [(g, part) for g, part in zip(gradients, pieces, strict=True) if g.requires_grad]
        if not inner:
            return [torch.zeros_like(p) for p in self._chosen]
        slope = paired([g for g, _ in inner], [part for _, part in inner])
        return torch.autograd.grad(slope, self._chosen, retain_graph=self._graphs is not None, materialize_grads=True)

    def _first_pass(self) -> Iterator[list[Tensor]]:
        """The gradients of every chunk; their graphs are kept where those of all chunks fit into memory."""
        subject = self._space.subject
        own = subject.shard
        for where in subject.chunks():
            loss, gradients, held = self._graph(where)
            self.loss += loss
            if self._graphs is not None:
                self._graphs.append(gradients)
            chunks = math.ceil((own.stop - own.start) / subject.chunk)
            if where.start == own.start and held * chunks > subject.memory // _GRAPH_SHARE:
                self._graphs = None
            yield gradients

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
            loss = subject.losses(subject.forward_fused(subject.x[where]), where).sum() / subject.n
            gradients = torch.autograd.grad(loss, self._chosen, create_graph=True, materialize_grads=True)
        return float(loss.detach()), list(gradients), sum(held.values())
