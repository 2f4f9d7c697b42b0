"""What every kind of data is read into, and the refusals that all kinds share."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from torch import nn

from spectral_audit.errors import RefusedError, nearest, quote
from spectral_audit.inputs.checkpoints.archive import sha256_of
from spectral_audit.inputs.spec import AuditSpec
from spectral_audit.results import Finding

Array = npt.NDArray[Any]
Indices = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Source:
    """What a kind is recognised by: what the spec names, the path, its first bytes, and whether it is a folder."""

    spec: AuditSpec
    path: Path
    start: bytes
    folder: bool


@dataclass(frozen=True)
class Ask:
    """What a reader gets: the spec, whether code may run, and the model where there is one."""

    spec: AuditSpec
    consent: bool = False
    model: nn.Module | None = None

    @property
    def path(self) -> Path:
        """Where the data is."""
        return self.spec.data.path


@dataclass(frozen=True)
class Stored:
    """A data set as stored: `samples` of them, and the inputs (m, *shape) of those with given indices by `take`.

    `y` holds numbers or text. `x_name` and `y_name` are what messages call the two. `layout` is known where the kind
    implies it; `names` are class names in the order of the class numbers in `y`, where the data itself has them.
    """

    samples: int
    take: Callable[[Indices], Array]
    y: Array | None
    sha256: str
    x_name: str = "array `x`"
    y_name: str = "array `y`"
    layout: str | None = None
    names: tuple[str, ...] = ()
    findings: tuple[Finding, ...] = ()


def whole(path: Path, x: Array, y: Array | None, sha256: str, x_name: str, y_name: str) -> Stored:
    """Arrays that are in memory already; all inputs are checked, drawn or not."""
    require_numbers(path, x_name, x)
    return Stored(len(x), x.__getitem__, y, sha256, x_name, y_name)


def require_numbers(path: Path, name: str, x: Array) -> None:
    """Inputs must be a stack of at least one sample of finite real numbers."""
    if x.dtype.kind not in "biuf":
        raise bad(path, name, "numbers", f"dtype {x.dtype}", "save it as integers or floats.")
    if x.ndim < 2:
        remedy = "reshape it: the first axis counts the samples."
        raise bad(path, name, "samples along the first axis, inputs along the others", shape(x), remedy)
    if x.size == 0:
        remedy = "save a data set with samples in it."
        raise bad(path, name, "at least one sample of at least one number", shape(x), remedy)
    require_finite(path, name, x)


def require_finite(path: Path, name: str, values: Array) -> None:
    """Refuse NaN and infinities, naming the first."""
    wrong = ~np.isfinite(values)
    if wrong.any():
        first = tuple(int(i) for i in np.unravel_index(int(wrong.argmax()), wrong.shape))
        found = f"{int(wrong.sum())} NaN or infinite of {wrong.size}, the first at index {first}"
        raise bad(path, name, "finite numbers", found, "remove or repair those samples.")


def bad(path: Path, name: str, expected: str, found: str, remedy: str) -> RefusedError:
    """The refusal of an array or column."""
    return RefusedError(f"{path}: {name} cannot be used", expected=expected, found=found, remedy=remedy)


def shape(x: Array) -> str:
    """A shape in words."""
    return f"shape {x.shape}"


def damaged(path: Path, what: str, expected: str, found: BaseException | str) -> RefusedError:
    """The refusal of a file that its library cannot read, or in which something else was found."""
    return RefusedError(
        f"{path}: {what} is cut short or damaged",
        expected=expected,
        found=found if isinstance(found, str) else quote(found),
        remedy="copy or download the file again.",
    )


def absent(path: Path, what: str, name: str, key: str, known: Iterable[str]) -> RefusedError:
    """The refusal of a name that the file does not hold."""
    known = list(known)
    without = " With no labels, set `data.y: null`." if key == "y" else ""
    listed = ", ".join(known[:12]) + (f" and {len(known) - 12} more" if len(known) > 12 else "")
    return RefusedError(
        f"{path}: holds no {what} `{name}`",
        expected=f"the {what} named by `data.{key}`",
        found=f"{what}s {listed or '(none)'}",
        remedy=f"correct `data.{key}`; {nearest(name, known[:50])}.{without}" if known else f"save {what}s in it.",
    )


def missing_extra(path: Path, library: str, extra: str) -> RefusedError:
    """The refusal for want of a library."""
    return RefusedError(
        f"{path}: reading it needs {library}",
        expected=f"{library} installed beside spectral-audit",
        found="no such package",
        remedy=f"pip install 'spectral-audit[{extra}]'",
    )


def one_name(ask: Ask) -> str:
    """`data.x` where it can only be one name."""
    name = ask.spec.data.x
    if isinstance(name, str):
        return name
    raise RefusedError(
        f"{ask.path}: `data.x` lists columns, and this is no table",
        expected="the name of one array",
        found=", ".join(name[:8]),
        remedy="name one array in `data.x`.",
    )


def digest_of(paths: Iterable[Path]) -> str:
    """One SHA-256 for several files: that of the list of theirs."""
    return hashlib.sha256("".join(sha256_of(path) for path in paths).encode()).hexdigest()
