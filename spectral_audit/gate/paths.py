"""A figure of the report by its path: `gmsi.typical`, `axes.input.worst.value`, `layers[conv1.weight].share`.

A path that ends at an estimate is that estimate; one that ends at a number has that number for its interval. Paths are
checked against the classes of the report, so that a part that was not measured is told from one that does not exist.
"""

from __future__ import annotations

import difflib
import re
import types
from collections.abc import Iterator
from dataclasses import dataclass, is_dataclass
from typing import Any, NoReturn, Union, get_args, get_origin, get_type_hints

from spectral_audit.errors import UsageError
from spectral_audit.results import Estimate, Report

_STEP = re.compile(r"\.?([^.\[\]]+)|\[([^\[\]]+)\]")
_REMEDY = "name a figure of the JSON report, such as gmsi.typical or axes.input.worst"


@dataclass(frozen=True)
class Figure:
    """A number with its interval (low = high = value where there is none), or `None` and the status that says why."""

    value: float | None
    low: float | None
    high: float | None
    status: str = "ok"
    estimated: bool = False


def find_figure(report: Report, path: str) -> Figure:
    """The figure of a report that a path names.

    Raises UsageError for a path that no report has, naming the nearest, and for one that ends at no number.
    """
    return _walk(report, path)


def check_path(path: str) -> None:
    """Raise UsageError, as `find_figure` does, for a path that no report has: before an audit, not after it."""
    _walk(None, path)


def _walk(report: Report | None, path: str) -> Figure:
    hint: Any = Report
    value: Any = report
    walked = ""
    for step, index in _steps(path):
        hint, value = _descend(hint, value, step, index, walked, path)
        walked += f"[{index}]" if index else f".{step}" if walked else step
    return _figure(hint, value, path)


def _steps(path: str) -> list[tuple[str, str]]:
    found = [(match[1] or "", match[2] or "") for match in _STEP.finditer(path)]
    if not found or "".join(match[0] for match in _STEP.finditer(path)) != path or path.startswith("."):
        raise UsageError(f"{path}: not a path", expected="names joined by dots", found=path, remedy=_REMEDY)
    return found


def _plain(hint: Any) -> Any:
    """A type hint without its `None`."""
    if get_origin(hint) in (Union, types.UnionType):
        return next(member for member in get_args(hint) if member is not type(None))
    return hint


def _descend(hint: Any, value: Any, step: str, index: str, walked: str, path: str) -> tuple[Any, Any]:
    """One step down, in the classes and in the report; below something unmeasured the value stays `None`."""
    origin = get_origin(hint)
    if origin is tuple:
        return _plain(get_args(hint)[0]), _item(hint, value, index or step, walked, path)
    if origin is dict:
        if value is not None and (step or index) not in value:
            _unknown(path, walked, list(value))
        return _plain(get_args(hint)[1]), None if value is None else value[step or index]
    known = get_type_hints(hint) if is_dataclass(hint) else {}
    if index or step not in known:
        _unknown(path, walked, list(known))
    return _plain(known[step]), None if value is None else getattr(value, step)


def _item(hint: Any, value: Any, index: str, walked: str, path: str) -> Any:
    """An item of a list: by its number, or by its name where the items have names."""
    if value is None:
        return None
    if index.isdecimal():
        return value[int(index)] if int(index) < len(value) else _unknown(path, walked, [f"[0] to [{len(value) - 1}]"])
    named = {item.name: item for item in value if hasattr(item, "name")}
    return named[index] if index in named else _unknown(path, walked, list(named) or [f"[0] to [{len(value) - 1}]"])


def _figure(hint: Any, value: Any, path: str) -> Figure:
    if hint is Estimate:
        if value is None:
            return Figure(None, None, None, "not measured", True)
        return Figure(value.value, value.low, value.high, value.status, True)
    if hint not in (float, int):
        below = [f"{path}.{name}" for name in _paths(hint)] if is_dataclass(hint) else []
        raise UsageError(
            f"{path}: not a figure",
            expected=", ".join(below[:8]) or "a path that ends at a number or an estimate",
            found="a group of figures" if below else "something that is no number",
            remedy=_REMEDY,
        )
    if value is None:
        return Figure(None, None, None, "undefined")
    return Figure(float(value), float(value), float(value))


def _paths(hint: Any) -> Iterator[str]:
    """Every path of a result class that ends at a number, below the given one."""
    for name, inner in get_type_hints(hint).items():
        plain = _plain(inner)
        if plain in (Estimate, float, int):
            yield name
        elif is_dataclass(plain):
            yield from (f"{name}.{rest}" for rest in _paths(plain))


def _unknown(path: str, walked: str, siblings: list[str]) -> NoReturn:
    close = difflib.get_close_matches(path, list(_paths(Report)), n=1, cutoff=0.6)
    hint = f"did you mean '{close[0]}'? " if close else ""
    where = f"below {walked}" if walked else "at the top"
    raise UsageError(
        f"{path}: no such figure in a report",
        expected=f"{hint}known {where}: {', '.join(siblings) or 'nothing'}",
        found=path,
        remedy=_REMEDY,
    )
