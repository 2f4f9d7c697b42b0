"""Gradient rows kept as sums of outer products, and how they move from a rearranged parameter to the parameter."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor


@dataclass(frozen=True)
class Pair:
    """Gradient rows as sums of outer products: grad[i,k,γ] = Σ_s g[i,k,γ,s,:] ⊗ a[i,γ,s,:].

    `a` (n, Γ, S, in) and `g` (n, C, Γ, S, out), with Γ the groups and S the positions. `order` (Γ·out·in) is the entry
    of the parameter that each entry of (Γ, out, in) belongs to, a permutation; `None` where they come in its own order.
    """

    a: Tensor
    g: Tensor
    order: Tensor | None = None

    def rows(self) -> Tensor:
        """The gradients themselves, (n, C, Γ·out·in), in the order of the parameter's entries."""
        n, c, groups, s, out = self.g.shape
        g = self.g.permute(0, 2, 1, 4, 3).reshape(n * groups, c * out, s)
        rows = torch.bmm(g, self.a.reshape(n * groups, s, -1)).view(n, groups, c, -1)
        return self.in_order(rows.transpose(1, 2).reshape(n, c, -1))

    def in_order(self, rows: Tensor) -> Tensor:
        """Rows (..., Γ·out·in) with their entries brought from the order of the factors into the parameter's."""
        return rows if self.order is None else torch.empty_like(rows).index_copy_(-1, self.order, rows)

    def same_order(self, other: Pair) -> bool:
        """Whether the entries of both come in one order."""
        if self.order is None or other.order is None:
            return self.order is other.order
        return self.order is other.order or torch.equal(self.order, other.order)


Contribution = Pair | Tensor


@dataclass(frozen=True)
class Place:
    """Which of a parameter's `size` entries each entry of a tensor made of them is."""

    index: Tensor
    size: int


def placed(found: Contribution, place: Place) -> Contribution:
    """The rows of the parameter from those of a tensor made of its entries."""
    index = place.index.flatten()
    if isinstance(found, Pair) and len(index) == place.size and _is_permutation(index):
        return replace(found, order=index if found.order is None else index[found.order])
    if isinstance(found, Pair) and _is_smaller(found):
        columns = _whole_columns(found, place)
        if columns is not None:
            g = found.g.new_zeros(*found.g.shape[:-1], place.size // found.a.shape[-1])
            return Pair(found.a, g.index_add_(4, columns, found.g))
    rows = _rows(found)
    return rows.new_zeros(*rows.shape[:2], place.size).index_add_(2, index, rows)


def _is_permutation(index: Tensor) -> bool:
    return bool((index.bincount(minlength=len(index)) == 1).all())


def _is_smaller(pair: Pair) -> bool:
    """Whether few positions make a pair smaller than its rows, even with the outputs of a whole parameter."""
    return pair.order is None and pair.g.shape[2] == 1 and pair.g.shape[3] < pair.a.shape[3]


def _whole_columns(pair: Pair, place: Place) -> Tensor | None:
    """The outputs (out,) of the whole parameter, as a matrix with the same inputs, that a slice of it holds."""
    width = pair.a.shape[-1]
    index = place.index.reshape(-1, width)
    first = index[:, 0]
    whole = (index == first[:, None] + torch.arange(width, device=index.device)).all() and (first % width == 0).all()
    return first // width if place.size % width == 0 and whole else None


def merged(pieces: Sequence[Contribution]) -> Contribution:
    """Several calls of one parameter: positions of equal kind are concatenated, anything else is added up as rows."""
    if len(pieces) == 1:
        return pieces[0]
    pairs = [p for p in pieces if isinstance(p, Pair)]
    if len(pairs) == len(pieces) and all(_alike(p, pairs[0]) for p in pairs):
        return replace(pairs[0], a=torch.cat([p.a for p in pairs], 2), g=torch.cat([p.g for p in pairs], 3))
    total = _rows(pieces[0]).clone()
    for piece in pieces[1:]:
        total += _rows(piece)
    return total


def _alike(one: Pair, other: Pair) -> bool:
    same = (one.g.shape[2], one.g.shape[4], one.a.shape[3]) == (other.g.shape[2], other.g.shape[4], other.a.shape[3])
    return same and one.same_order(other)


def _rows(piece: Contribution) -> Tensor:
    return piece.rows() if isinstance(piece, Pair) else piece.flatten(2)
