"""A report's figures among those of a population."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from dataclasses import replace
from pathlib import PurePath

from spectral_audit.population.model import FIGURES, SCORE_FIGURES, Conditions, Population, conditions_of, figures_of
from spectral_audit.results import Reference, Report, Standing


def placed(report: Report, population: Population) -> Report:
    """The report with its place in the population: shares where they may be compared, a status where not."""
    own, theirs = conditions_of(report), population.conditions
    reason = _reason(own, theirs)
    figures = figures_of(report)
    standings = {}
    for name in FIGURES:
        values = population.figures.get(name, ())
        if not values or reason or not _same(name, own, theirs):
            standings[name] = Standing(None, len(values), "not comparable")
        else:
            standings[name] = standing(figures[name], values, falling=name in SCORE_FIGURES)
    found = Reference(
        population=population.name,
        models=population.models,
        n=population.n,
        data=population.data,
        differs=() if reason else _differs(report, population),
        reason=reason,
        standings=standings,
    )
    return replace(report, reference=found)


def standing(value: float | None, values: tuple[float, ...], *, falling: bool) -> Standing:
    """The place of a figure among ascending `values`; `falling` says that less is more sensitive."""
    if value is None:
        return Standing(None, len(values), "undefined")
    below, above = bisect_left(values, value), len(values) - bisect_right(values, value)
    beaten = above if falling else below
    if value < values[0] or value > values[-1]:
        return Standing(None, len(values), "above all" if beaten else "below all")
    return Standing(beaten / len(values), len(values), "ok")


def _reason(own: Conditions, theirs: Conditions) -> str:
    """Why nothing may be compared, '' where something may."""
    for name in ("definition", "task"):
        mine, other = getattr(own, name), getattr(theirs, name)
        if mine != other:
            return f"the {name} is {mine}, theirs {other}"
    return ""


def _same(name: str, own: Conditions, theirs: Conditions) -> bool:
    if name in SCORE_FIGURES:
        return own.explained == theirs.explained
    return own.index == theirs.index or not name.startswith("gmsi.")


def _differs(report: Report, population: Population) -> tuple[str, ...]:
    """What is not the same, though it may be compared."""
    found = []
    if report.data.n != population.n:
        found.append(f"n {report.data.n}, theirs {population.n}")
    if PurePath(report.data.path).name not in population.data:
        found.append("other data")
    if report.data.synthetic:
        found.append("noise in place of data")
    return tuple(found)
