"""Whole messages beside what brings them about: a table of functions that do something wrong in a folder."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from spectral_audit.errors import AuditError, RefusedError, UsageError

Deed = Callable[[Path], object]


@dataclass(frozen=True)
class Wrong:
    """Something wrong to do in a folder, the error it ends in, and the whole text of that.

    In the text DIR stands for the folder, and `vary` names what differs from one release of a library to the next.
    """

    deed: Deed
    kind: type[AuditError]
    text: str
    vary: Mapping[str, str] = field(default_factory=dict)


def text(message: str, expected: str, found: str, remedy: str) -> str:
    """A whole message as it is printed."""
    return f"{message}\n  expected  {expected}\n  found     {found}\n  remedy    {remedy}"


class Table(dict[str, Wrong]):
    """Deeds by name: `@table.refused(message, expected, found, remedy)` adds the function below it."""

    def refused(
        self, message: str, expected: str, found: str, remedy: str, vary: Mapping[str, str] | None = None
    ) -> Callable[[Deed], Deed]:
        return self._adding(RefusedError, text(message, expected, found, remedy), vary or {})

    def misused(
        self, message: str, expected: str, found: str, remedy: str, vary: Mapping[str, str] | None = None
    ) -> Callable[[Deed], Deed]:
        return self._adding(UsageError, text(message, expected, found, remedy), vary or {})

    def _adding(self, kind: type[AuditError], said: str, vary: Mapping[str, str]) -> Callable[[Deed], Deed]:
        def add(deed: Deed) -> Deed:
            assert deed.__name__ not in self
            self[deed.__name__] = Wrong(deed, kind, said, vary)
            return deed

        return add


def said(folder: Path, deed: Deed, kind: type[AuditError] = RefusedError) -> str:
    """The whole text of the error that something ends in."""
    with pytest.raises(AuditError) as caught:
        deed(folder)
    assert type(caught.value) is kind
    return str(caught.value).replace(str(folder), "DIR")


def check(wrong: Wrong, folder: Path) -> None:
    found = said(folder, wrong.deed, wrong.kind)
    for varying, name in wrong.vary.items():
        found = re.sub(varying, name, found)
    assert found == wrong.text
