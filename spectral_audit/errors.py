"""Every way an audit can end, and errors that finish the conversation."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from enum import IntEnum


class ExitCode(IntEnum):
    """What the process tells its caller."""

    OK = 0
    GATE_FAILED = 1
    USAGE = 2
    REFUSED = 3
    INCONCLUSIVE = 4
    INTERNAL = 101
    INTERRUPTED = 130


class AuditError(Exception):
    """A problem the user can act on: what is wrong, what was expected, what was found, and the remedy.

    `message` names the file or setting it is about. `found` and `expected` are short; `remedy` is one imperative
    sentence. Subclasses carry the exit code.
    """

    exit_code = ExitCode.INTERNAL

    def __init__(self, message: str, *, expected: str = "", found: str = "", remedy: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.expected = expected
        self.found = found
        self.remedy = remedy

    def __str__(self) -> str:
        parts = [("expected", self.expected), ("found", self.found), ("remedy", self.remedy)]
        lines = [f"  {label:<9} {text.replace(chr(10), chr(10) + ' ' * 12)}" for label, text in parts if text]
        return "\n".join([self.message, *lines])


class UsageError(AuditError):
    """The command line or the spec asks for something that does not exist."""

    exit_code = ExitCode.USAGE


class RefusedError(AuditError):
    """The checkpoint or the data cannot be read, does not fit, or may not be trusted."""

    exit_code = ExitCode.REFUSED


class InconclusiveError(AuditError):
    """The figures could not be computed to a conclusion: they overflow, or an algorithm does not converge."""

    exit_code = ExitCode.INCONCLUSIVE


def nearest(name: str, known: Iterable[str]) -> str:
    """A clause that lists the known names and points at the nearest: `did you mean 'mean'? known: layout, mean`."""
    names = sorted(known)
    close = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    hint = f"did you mean '{close[0]}'? " if close else ""
    return f"{hint}known: {', '.join(names)}"


def quote(error: BaseException) -> str:
    """What an error of another library says, on one line: `KeyError: 'the depth'`, or its name alone."""
    said = " ".join(str(error).split())[:300]
    return f"{type(error).__name__}: {said}" if said else type(error).__name__
