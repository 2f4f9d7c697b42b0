"""Where a model stands among others, as frozen plain values: the reference part of a report."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Place = Literal["ok", "above all", "below all", "undefined", "not comparable"]


@dataclass(frozen=True)
class Standing:
    """One figure among those of a population.

    `share` is the share of the `models` that have the figure than which this model is more sensitive. Outside of the
    population it is `None` and `place` says on which side: nothing is extrapolated. It is `None` too where the figure
    is undefined, or measured otherwise than the population's.
    """

    share: float | None
    models: int
    place: Place


@dataclass(frozen=True)
class Reference:
    """A report's figures among those of a population of models.

    `population` names it, `n` and `data` say what its models were audited on. `differs` lists what does not forbid the
    comparison but has to be known; `reason` says why there is none, '' where there is one.
    """

    population: str
    models: int
    n: int
    data: tuple[str, ...]
    differs: tuple[str, ...]
    reason: str
    standings: dict[str, Standing]
