"""Gradient rows of one parameter over the whole probe set, filled chunk by chunk, in the smaller of two forms."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from spectral_audit.linalg.gram import GramSum, dense_cost, pair_cost, widths
from spectral_audit.ranks import Ranks

from .rules import Contribution, Pair


@dataclass
class RowStore:
    """Rows of `samples` n samples: a `Pair` of factors, or dense (n, C, p_t). Rows that never come are zero.

    Where several processes share an audit, those of one of them until all have been handed to one.
    """

    samples: int
    rows: Contribution | None = None

    def put(self, where: slice, part: Contribution) -> None:
        """Keep the rows of the samples in `where`; memory for all samples is taken at the first call."""
        if self.rows is None:
            self.rows = _room(part, self.samples)
        if isinstance(self.rows, Pair) and not (isinstance(part, Pair) and _same_kind(self.rows, part)):
            self.rows = self.rows.rows()  # another number of positions than before
        if isinstance(self.rows, Pair):
            assert isinstance(part, Pair)
            self.rows.a[where] = part.a
            self.rows.g[where] = part.g
        else:
            self.rows[where] = part.rows() if isinstance(part, Pair) else part.flatten(2)

    @property
    def kind(self) -> tuple[object, ...]:
        """What two stores must have in common to be of one form."""
        if not isinstance(self.rows, Pair):
            return ("rows",)
        return ("pair", self.rows.a.shape[1:], self.rows.g.shape[1:], self.rows.order is not None)

    def cost(self, samples: int) -> float:
        """Multiply-adds of the Gram matrix of the rows of all `samples`."""
        assert self.rows is not None, "filled before it is contracted"
        if not isinstance(self.rows, Pair):
            _, c, entries = self.rows.shape
            return entries * (samples * c) ** 2 / 2
        _, c, groups, s, out = self.rows.g.shape
        shape = (samples, c, s, groups, self.rows.a.shape[3], out)
        return float(min(pair_cost(*shape), dense_cost(*shape)))

    def hand_over(self, owner: int, ranks: Ranks, samples: int, *, alike: bool) -> None:
        """Bring the rows of all `samples` to the process `owner`; as dense rows where they are not `alike`."""
        assert self.rows is not None, "filled before it is contracted"
        if isinstance(self.rows, Pair) and alike:
            a, g = (ranks.rows_to(owner, t, samples) for t in (self.rows.a, self.rows.g))
            self.rows = Pair(a, g, self.rows.order)
        else:
            rows = self.rows.rows() if isinstance(self.rows, Pair) else self.rows
            self.rows = ranks.rows_to(owner, rows, samples)

    def contract(self, sums: GramSum, coefficients: tuple[float, ...], buffer: Tensor) -> tuple[Tensor, str]:
        """Add the Gram matrix by the cheaper contraction; returns its diagonal (n, C) and the contraction's name.

        `buffer` (any length) holds the dense rows that are formed, as many columns at a time as fit.
        """
        assert self.rows is not None, "filled before it is contracted"
        if not isinstance(self.rows, Pair):
            return sums.add_dense(self.rows, coefficients), "rows"
        a, g = self.rows.a, self.rows.g
        n, c, groups, s, out = g.shape
        memory = buffer.numel() * buffer.element_size()
        if pair_cost(n, c, s, groups, a.shape[3], out) <= dense_cost(n, c, s, groups, a.shape[3], out):
            terms = [sums.add_pairs(a[:, k], g[:, :, k], coefficients, memory=memory) for k in range(groups)]
            return torch.stack(terms).sum(0), "pairs"
        if groups > 1:
            each = n * c * a.shape[3] * out * a.element_size()
            parts = (Pair(a[:, w], g[:, :, w]).rows() for w in widths(groups, each, memory))
        else:
            each = n * c * a.shape[3] * a.element_size()
            parts = (_rows_into(self.rows, w, buffer) for w in widths(out, each, memory))
        return torch.stack([sums.add_dense(rows, coefficients) for rows in parts]).sum(0), "rows"


def _room(part: Contribution, samples: int) -> Contribution:
    """Zeros for all samples, as a pair only where that takes less memory than the rows it stands for."""
    if not isinstance(part, Pair):
        return part.new_zeros(samples, part.shape[1], part[0, 0].numel())
    a, g = part.a, part.g
    _, c, groups, _, out = g.shape
    entries = len(g) * c * groups * out * a.shape[3]
    if a.numel() + g.numel() < entries:
        return Pair(a.new_zeros(samples, *a.shape[1:]), g.new_zeros(samples, *g.shape[1:]), part.order)
    return a.new_zeros(samples, c, entries // (len(g) * c))


def _same_kind(one: Pair, other: Pair) -> bool:
    same = one.a.shape[1:] == other.a.shape[1:] and one.g.shape[1:] == other.g.shape[1:]
    return same and one.same_order(other)


def _rows_into(pair: Pair, columns: slice, buffer: Tensor) -> Tensor:
    """The rows (n, C, w·in) of the outputs in `columns` of an ungrouped pair, written into `buffer`."""
    a, g = pair.a[:, 0], pair.g[:, :, 0, :, columns]
    n, c, s, w = g.shape
    size = n * c * w * a.shape[2]
    room = buffer[:size] if size <= len(buffer) else buffer.new_empty(size)
    torch.bmm(g.transpose(2, 3).reshape(n, c * w, s), a, out=room.view(n, c * w, a.shape[2]))
    return room.view(n, c, -1)
