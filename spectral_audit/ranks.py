"""The processes that share one audit: each differentiates its own samples; sums and rows are of all samples in all.

Every process holds the model and the whole probe set, draws the same random numbers and takes the same decisions, which
it takes from numbers that all processes have. Only passes through the model are shared out, and what comes of them goes
through here: sums over samples by all-reduce, rows of samples one process after the other.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from .errors import AuditError, RefusedError, UsageError

_Value = TypeVar("_Value")

# Outputs of one model on one probe set that differ by more than this do not come from one model and one probe set.
_SAME = 1e-3


@dataclass(frozen=True)
class Ranks:
    """Process number `rank` of the `size` that torch.distributed has joined, of which `sharing` share one device.

    Alone, every method returns what it is given. `device` is where the process group takes its tensors.
    """

    rank: int = 0
    size: int = 1
    sharing: int = 1
    device: str = "cpu"

    def shard(self, n: int, rank: int | None = None) -> slice:
        """The samples of `n` that a process (this one) differentiates: consecutive, and as many for each as for all."""
        rank = self.rank if rank is None else rank
        return slice(n * rank // self.size, n * (rank + 1) // self.size)

    def sum(self, part: Tensor) -> Tensor:
        """The sum over processes of equally shaped tensors."""
        if self.size == 1:
            return part
        whole = part.detach().to(self.device, copy=True)
        with _collective():
            dist.all_reduce(whole)
        return whole.to(part.device)

    def sum_on_first(self, parts: list[Tensor]) -> None:
        """Add every tensor up in place on the first process; the others' are of no use afterwards."""
        for part in parts if self.size > 1 else ():
            with _collective():
                dist.reduce(part, dst=0)

    def rows(self, part: Tensor, n: int) -> Tensor:
        """The rows (n, …) of all samples from those of this process's own (m, …)."""
        if self.size == 1:
            return part
        whole = torch.empty((n, *part.shape[1:]), dtype=part.dtype, device=self.device)
        for rank in range(self.size):
            piece = whole[self.shard(n, rank)]
            if rank == self.rank:
                piece.copy_(part.detach())
            with _collective():
                dist.broadcast(piece, src=rank)
        return whole.to(part.device)

    def rows_to(self, owner: int, part: Tensor, n: int) -> Tensor:
        """The same, on the process `owner` only; the others get nothing (0, …)."""
        if self.size == 1:
            return part
        part = part.contiguous()
        with _collective():
            if self.rank != owner:
                dist.send(part, dst=owner)
                return part[:0]
            whole = part.new_empty((n, *part.shape[1:]))
            for rank in range(self.size):
                if rank == owner:
                    whole[self.shard(n, rank)] = part
                else:
                    dist.recv(whole[self.shard(n, rank)], src=rank)
        return whole

    def everyone(self, value: _Value) -> list[_Value]:
        """A value of every process, in their order."""
        if self.size == 1:
            return [value]
        packed = [b""] * self.size
        with _collective():
            dist.all_gather_object(packed, _packed(value))
        return [self._unpacked(one) for one in packed]

    def once(self, work: Callable[[], _Value]) -> _Value:
        """What `work` gives on the first process, where alone it is done."""
        if self.size == 1:
            return work()
        box = [_packed(work()) if self.rank == 0 else b""]
        with _collective():
            dist.broadcast_object_list(box, src=0)
        return self._unpacked(box[0])

    def _unpacked(self, packed: bytes) -> Any:
        return torch.load(io.BytesIO(packed), map_location=self.device, weights_only=False)

    def require_enough(self, n: int) -> None:
        """Raise UsageError where there is not one sample for each process."""
        if n < self.size:
            raise UsageError(
                "there are fewer samples than processes",
                expected=f"at least {self.size} samples",
                found=str(n),
                remedy=f"start {n} processes or fewer, or give more samples",
            )

    def require_same(self, *parts: Tensor) -> None:
        """Raise RefusedError unless every process has (nearly) the same outputs and labels as the first."""
        if self.size == 1:
            return
        own = torch.cat([part.detach().double().flatten() for part in parts]).to(self.device)
        sizes = self.everyone(len(own))
        first = own.clone()
        if len(set(sizes)) == 1:
            with _collective():
                dist.broadcast(first, src=0)
        far = len(set(sizes)) > 1 or bool(((own - first).abs() > _SAME * first.abs().max()).any())
        different = [rank for rank, found in enumerate(self.everyone(far)) if found]
        if different:
            raise RefusedError(
                "the processes do not audit the same model on the same data",
                expected="the same outputs and labels in every process",
                found=f"others in process {', '.join(map(str, different))}",
                remedy="give all machines the same files, and leave nothing in the model or the data to chance",
            )


ALONE = Ranks()


def _packed(value: object) -> bytes:
    """A value of our own as bytes from which its tensors come back on the device of whoever reads them."""
    packed = io.BytesIO()
    torch.save(value, packed)
    return packed.getvalue()


@contextmanager
def _collective() -> Iterator[None]:
    """An exchange that fails means that another process is gone, which is not about the model or the data."""
    try:
        yield
    except RuntimeError as error:
        raise AuditError(
            "another process of this audit ended",
            expected="all of them to go on to the end",
            found=" ".join(str(error).split())[:160],
            remedy="see what that process said, and start again",
        ) from error
