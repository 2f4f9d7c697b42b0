"""The stages of a measurement: timed, reported to whoever listens, and tried again when memory runs out."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import TypeVar

import torch

from .memory import give_back_freed_memory, halving
from .subject import Subject

Progress = Callable[[str, int, "int | None"], None]
Advance = Callable[[int], None]

_Result = TypeVar("_Result")

# Of the budget: a process that holds more gives back what it does not need before a stage, which needs other blocks.
_KEPT_SHARE = 4


class Stages:
    """Seconds per stage, progress for whoever listens, and second attempts when memory runs out."""

    def __init__(self, progress: Progress) -> None:
        self.seconds: dict[str, float] = {}
        self._progress = progress
        self._done = 0

    @contextmanager
    def stage(self, name: str, total: int | None = None) -> Iterator[Advance]:
        """Time a stage; the yielded function reports units done."""
        start = time.perf_counter()
        self._done = 0
        self._progress(name, 0, total)

        def advance(units: int) -> None:
            self._done += units
            self._progress(name, self._done, total)

        yield advance
        self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - start

    def run(
        self,
        name: str,
        subject: Subject,
        generator: torch.Generator,
        work: Callable[[Subject, Advance], _Result],
        total: int | None = None,
    ) -> tuple[_Result, Subject]:
        """A stage's result, and the subject with the chunk it was found with: half or less when memory ran out.

        Every attempt starts from the same state of `generator`: the figures are those of a run with that chunk. Where
        several processes share the audit there is one attempt.
        """
        give_back_freed_memory(subject.memory // _KEPT_SHARE)
        state = generator.get_state()

        def attempt(chunk: int) -> _Result:
            generator.set_state(state)
            self._done = 0
            return work(replace(subject, chunk=chunk), advance)

        with self.stage(name, total) as advance:
            # A process that starts again would leave the others waiting for what it has sent already.
            found, chunk = halving(subject.chunk, attempt, least=1 if subject.ranks.size == 1 else subject.chunk)
        return found, replace(subject, chunk=chunk)
