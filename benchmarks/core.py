"""The words of every benchmark: a problem, a contender that solves it, an outcome, and a work that compares them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Any

from torch import Tensor, nn

from benchmarks.nets import problem

OURS = "spectral-audit"
CLASSES = 10


@dataclass(frozen=True)
class Problem:
    """A net in eval mode with its probe set; `seed` is the round, so that random starts differ between rounds."""

    net: str
    model: nn.Module
    x: Tensor
    y: Tensor
    seed: int

    @classmethod
    def of(cls, net: str, samples: int, seed: int = 0) -> Problem:
        return cls(net, *problem(net, samples), seed)

    def batches(self, size: int) -> list[tuple[Tensor, Tensor]]:
        """The probe set as a list of (inputs, labels), `size` samples each: what peers take for a data loader."""
        return list(zip(self.x.split(size), self.y.split(size), strict=True))


@dataclass(frozen=True)
class Outcome:
    """What a contender found, and numbers it tells about the way there (`products`, for instance)."""

    value: Any
    facts: dict[str, float] = field(default_factory=dict)


# What is timed; the function it returns is called after the clock has stopped, and shapes what was found.
Run = Callable[[], Callable[[], Outcome]]


@dataclass(frozen=True)
class Contender:
    """One line of a table (`family`) in one setting (`variant`); `prepare` does what comes before the clock starts.

    `note` says what a reader must know about this contender.
    """

    family: str
    variant: str
    prepare: Callable[[Problem], Run]
    note: str = ""

    @property
    def key(self) -> str:
        return f"{self.family} | {self.variant}" if self.variant else self.family


# The first round's run of every contender that finished, by key.
Runs = Mapping[str, Mapping[str, Any]]
Errors = dict[str, float]


@dataclass(frozen=True)
class Work:
    """One comparison: the same question, on the same nets, to every contender.

    `references(net)` compute the truth, each in a process of its own; `errors(value, truths)` compare an outcome with
    them, and `choose(contenders, runs)` picks the variant of each family that goes on after the first round.
    With `every_variant` all go on, and the choice is made from medians: where one run says little about the error.
    `extra(net, records)` are lines below the table, from the net's records of all works; `hidden` families are for it.
    """

    name: str
    title: str
    text: str
    nets: Sequence[str]
    samples: int
    contenders: Callable[[str], list[Contender]]
    references: Callable[[str], dict[str, Callable[[Problem], Any]]]
    errors: Callable[[Any, dict[str, Any]], Errors]
    choose: Callable[[list[Contender], Runs], dict[str, str]]
    columns: Sequence[str]
    facts: Sequence[str] = ()
    extra: Callable[[str, dict[str, Any]], list[str]] = lambda net, records: []
    hidden: Sequence[str] = ()
    every_variant: bool = False


def families(contenders: list[Contender], runs: Runs) -> dict[str, list[str]]:
    """Keys of the variants that finished, by family, in the contenders' order."""
    out: dict[str, list[str]] = {}
    for c in contenders:
        if c.key in runs:
            out.setdefault(c.family, []).append(c.key)
    return out


def fastest(contenders: list[Contender], runs: Runs) -> dict[str, str]:
    """The fastest variant of each family."""
    return {f: min(keys, key=lambda k: runs[k]["seconds"]) for f, keys in families(contenders, runs).items()}


def fastest_within(error: str, limit: float) -> Callable[[list[Contender], Runs], dict[str, str]]:
    """The fastest variant whose `error` is at most `limit`; where none is, the one that comes nearest to it."""

    def choose(contenders: list[Contender], runs: Runs) -> dict[str, str]:
        out = {}
        for family, keys in families(contenders, runs).items():
            good = [k for k in keys if runs[k]["errors"][error] <= limit]
            nearest = min(keys, key=lambda k: runs[k]["errors"][error])
            out[family] = min(good, key=lambda k: runs[k]["seconds"]) if good else nearest
        return out

    return choose


def middle(runs: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Median seconds and errors of some runs."""
    errors = {name: median(r["errors"][name] for r in runs) for name in runs[0]["errors"]}
    return {"seconds": median(r["seconds"] for r in runs), "errors": errors}
