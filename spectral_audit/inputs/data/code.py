"""Data from a function of the user's: `python:loader.py:function` or `python:package.module:function`."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import torch

from spectral_audit.errors import AuditError, RefusedError, quote
from spectral_audit.inputs.architectures.builders import find_builder
from spectral_audit.inputs.checkpoints.archive import sha256_of
from spectral_audit.inputs.data.stored import Array, Ask, Source, Stored, whole

_EXPECTED = "(x, y): inputs and labels as arrays or tensors; y may be None"


def is_function(source: Source) -> bool:
    """The spec says so."""
    return source.spec.data.source == "function"


def read_function(ask: Ask) -> Stored:
    """What the function returns, called without arguments and with torch's and NumPy's global generators seeded."""
    data, name = ask.spec.data, str(ask.path)
    if not (ask.consent or data.consent):
        raise RefusedError(
            f"{ask.spec.source or name}: its data comes from a function, which runs Python code",
            expected="your consent: the spec may have come with the checkpoint",
            found=f"`data.path: python:{name}` and --trust none",
            remedy=f"read that code, then add --trust code, or name it yourself: --data python:{name}.",
        )
    if ":" not in name:
        raise RefusedError(
            f"python:{name}: names no function",
            expected="python:file.py:function or python:package.module:function",
            found=f"python:{name}",
            remedy=f"add the function: python:{name}:load.",
        )
    returned = _call(name, data.folder)
    if not isinstance(returned, tuple) or len(returned) != 2:
        found = f"a tuple of {len(returned)}" if isinstance(returned, tuple) else f"a {type(returned).__name__}"
        raise _returned(name, found)
    x, y = _array(name, "x", returned[0]), None if returned[1] is None else _array(name, "y", returned[1])
    if ask.spec.data.y is None:
        y = None
    file = Path(data.folder, name.rpartition(":")[0])
    sha256 = sha256_of(file) if file.is_file() else hashlib.sha256(name.encode()).hexdigest()
    return whole(ask.path, x, y, sha256, "x of what it returns", "y of what it returns")


def _call(name: str, folder: Path) -> Any:
    function = find_builder(name, folder, returns="a pair of arrays", asked="`data.path`")
    state = np.random.get_state()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        np.random.seed(0)
        try:
            return function()
        except AuditError:
            raise
        except (Exception, SystemExit) as error:
            raise RefusedError(
                f"python:{name}: the function failed",
                expected=_EXPECTED,
                found=quote(error),
                remedy="call it in Python without arguments, and correct it.",
            ) from error
        finally:
            np.random.set_state(state)


def _array(name: str, which: str, value: Any) -> Array:
    if isinstance(value, torch.Tensor):
        value = value.detach().cpu()
        value = (value.float() if value.is_floating_point() and value.itemsize < 4 else value).numpy()
    try:
        array = np.asarray(value)
    except Exception as error:  # noqa: BLE001 (an object of the user's may raise anything)
        raise _returned(name, f"{which}: {type(error).__name__}") from None
    if array.dtype == object:
        raise _returned(name, f"{which} is a {type(value).__name__} of Python objects")
    return array


def _returned(name: str, found: str) -> RefusedError:
    return RefusedError(
        f"python:{name}: the function does not return a data set",
        expected=_EXPECTED,
        found=found,
        remedy="return a pair of arrays from it.",
    )
