"""What a gate decided, as frozen plain values."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from spectral_audit.gate.rules import Level

SCHEMA = "spectral-audit/verdict/1"

Outcome = Literal["pass", "fail", "inconclusive", "off"]
# What an inconclusive rule makes of the verdict: an exit code of its own, a pass, or a failure.
OnInconclusive = Literal["report", "pass", "fail"]


@dataclass(frozen=True)
class Judgement:
    """One rule, what was found, and what follows.

    `low` and `high` are the 95 % interval of the figure, or of its change over the baseline where the rule is about
    that; `relative` changes are shares of the baseline. `reason` is empty where the figures say it all.
    """

    rule: str
    path: str
    kind: Literal["require", "max-increase"]
    operator: str
    limit: float
    relative: bool
    level: Level
    value: float | None
    low: float | None
    high: float | None
    outcome: Outcome
    reason: str = ""


@dataclass(frozen=True)
class Verdict:
    """The rules of one gate on one model, and the exit code they add up to.

    `caps` are the reasons for which nothing here can be decided, whatever the figures say. `level` is that of the
    intervals; an adaptive gate says at how many samples it looked.
    """

    schema: str
    model: str
    sha256: str
    baseline: str | None
    outcome: Literal["pass", "fail", "inconclusive"]
    exit_code: int
    on_inconclusive: OnInconclusive
    caps: tuple[str, ...]
    judgements: tuple[Judgement, ...]
    level: float = 0.95
    looks: tuple[int, ...] = ()
