"""Rules as people write them: `gmsi.typical<=2.5` about one report, `gmsi.typical:5%` about its change."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Literal, cast, get_args

from spectral_audit.errors import UsageError, nearest

Level = Literal["error", "warn", "off"]
Operator = Literal["<=", "<", ">=", ">"]
LEVELS: tuple[Level, ...] = get_args(Level)

_NUMBER = r"[+-]?(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d+)?"
_REQUIRE = re.compile(rf"\s*([^\s<>=](?:[^<>=]*[^\s<>=])?)\s*(<=|>=|<|>)\s*({_NUMBER})\s*", re.ASCII)
_INCREASE = re.compile(rf"\s*(\S.*?)\s*:\s*({_NUMBER})\s*(%?)\s*", re.ASCII)


@dataclass(frozen=True)
class Rule:
    """What a figure must be: `path operator limit`."""

    path: str
    operator: Operator
    limit: float
    level: Level = "error"

    def __str__(self) -> str:
        return f"{self.path}{self.operator}{self.limit:g}"


@dataclass(frozen=True)
class MaxIncrease:
    """How much a figure may grow over the baseline: by `limit` itself, or by that share of it when `relative`."""

    path: str
    limit: float
    relative: bool
    level: Level = "error"

    def __str__(self) -> str:
        return f"{self.path}:{100 * self.limit:g}%" if self.relative else f"{self.path}:{self.limit:g}"


def parse_rule(text: str, level: Level = "error", source: str = "--require") -> Rule:
    """`gmsi.typical<=2.5` as a rule; `source` names where it stands. Raises UsageError."""
    match = _REQUIRE.fullmatch(text)
    if match is None:
        raise UsageError(
            f"{source}: not a rule",
            expected="PATH<=LIMIT, with <=, <, >= or > and a plain number",
            found=text or "nothing",
            remedy="write it as in 'gmsi.typical<=2.5'",
        )
    return Rule(match[1], cast(Operator, match[2]), _finite(match[3], text, source), level)


def parse_increase(text: str, level: Level = "error", source: str = "--max-increase") -> MaxIncrease:
    """`gmsi.typical:5%` or `gmsi.typical:0.2` as a limit of growth. Raises UsageError."""
    match = _INCREASE.fullmatch(text)
    if match is None:
        raise UsageError(
            f"{source}: not a limit of growth",
            expected="PATH:SHARE% or PATH:AMOUNT",
            found=text or "nothing",
            remedy="write it as in 'gmsi.typical:5%'",
        )
    relative = match[3] == "%"
    limit = _finite(match[2], text, source)
    return MaxIncrease(match[1], limit / 100 if relative else limit, relative, level)


def parse_level(value: object, source: str) -> Level:
    """`error`, `warn` or `off`. YAML reads a bare `off` as false, which means the same here. Raises UsageError."""
    if value is False:
        return "off"
    if value not in LEVELS:
        raise UsageError(
            f"{source}: not a level",
            expected=nearest(str(value), LEVELS),
            found=str(value),
            remedy="choose error, warn or off",
        )
    return value


def _finite(number: str, text: str, source: str) -> float:
    value = float(number)
    if not math.isfinite(value):
        raise UsageError(
            f"{source}: the limit is too large", expected="a finite number", found=text, remedy="lower the limit"
        )
    return value
