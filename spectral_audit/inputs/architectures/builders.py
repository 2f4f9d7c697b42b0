"""From the name of a builder to the function: `net.py:build`, `package.module:build`, or a built-in family."""

from __future__ import annotations

import contextlib
import hashlib
import importlib
import importlib.util
import inspect
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import nn

from spectral_audit.errors import AuditError, RefusedError, UsageError, nearest, quote
from spectral_audit.inputs.architectures.families import FAMILIES

Builder = Callable[..., Any]


def is_builtin(name: str) -> bool:
    """Whether a builder's name means one of the built-in families, which run no code of the user's."""
    return ":" not in name


def find_builder(
    name: str, folder: Path, *, returns: str = "the model", asked: str = "--arch or `model.builder`"
) -> Builder:
    """The function behind a builder's name; files and modules are looked up from `folder`, and imported.

    `returns` and `asked` tell errors what the function is for and who named it.

    Raises `UsageError` when there is no such thing, `RefusedError` when importing it fails.
    """
    if is_builtin(name):
        if name not in FAMILIES:
            raise UsageError(
                f"no built-in architecture is called `{name}`",
                expected="a built-in name, file.py:function or package.module:function",
                found=name,
                remedy=f"add the function: {name}:build."
                if name.endswith(".py")
                else f"correct the name; {nearest(name, FAMILIES)}.",
            )
        return FAMILIES[name]
    where, _, function = name.rpartition(":")
    module = (
        _file(Path(folder, where), f"{asked}: {name}", folder)
        if where.endswith(".py")
        else _module(where, name, folder)
    )
    builder = getattr(module, function, None)
    if not callable(builder):
        functions = [key for key, value in vars(module).items() if callable(value) and not key.startswith("_")]
        raise UsageError(
            f"{where}: holds no function `{function}`",
            expected=f"a function that returns {returns}",
            found="nothing of that name" if builder is None else f"a {type(builder).__name__}",
            remedy=f"correct the name; {nearest(function, functions)}." if functions else "define it there.",
        )
    return builder


def call_builder(builder: Builder, name: str, kwargs: dict[str, object], folder: Path) -> nn.Module:
    """The module a builder makes; its random draws are seeded and leave the caller's generators alone.

    Raises `UsageError` for arguments it does not take or a result that is no module, `RefusedError` when it fails.
    """
    _require_arguments(builder, name, kwargs)
    with importing(folder), torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        try:
            model = builder(**kwargs)
        except AuditError:
            raise
        except (Exception, SystemExit) as error:
            raise RefusedError(
                f"{name}: the builder failed",
                expected="a function that returns the model",
                found=quote(error),
                remedy="call it in Python with the same arguments, and correct it or the arguments.",
            ) from error
    if not isinstance(model, nn.Module):
        raise UsageError(
            f"{name}: the builder returned no model",
            expected="a torch.nn.Module",
            found=f"a {type(model).__name__}",
            remedy="return the module itself.",
        )
    return model


def call_on_meta(builder: Builder, name: str, kwargs: dict[str, object]) -> nn.Module:
    """The module of a built-in family without memory for its numbers: how large it would be."""
    with torch.device("meta"):
        return call_builder(builder, name, kwargs, Path())


def _require_arguments(builder: Builder, name: str, kwargs: dict[str, object]) -> None:
    try:
        signature = inspect.signature(builder)
    except (ValueError, TypeError):
        return  # written in C, or a callable that hides its arguments: calling it will tell
    try:
        signature.bind(**kwargs)
    except TypeError as error:
        known = [p.name for p in signature.parameters.values() if p.kind not in (p.VAR_KEYWORD, p.VAR_POSITIONAL)]
        strange = [key for key in kwargs if key not in known]
        advice = nearest(strange[0], known) if strange else f"known: {', '.join(known)}"
        raise UsageError(
            f"{name}: its arguments do not fit: {error}",
            expected=f"{name.rpartition(':')[2]}{signature}",
            found=", ".join(kwargs) or "no arguments",
            remedy=f"set `model.kwargs` or --arch-kwargs accordingly; {advice}.",
        ) from None


def _file(path: Path, asked: str, folder: Path) -> ModuleType:
    if not path.is_file():
        start = "the working directory" if folder == Path() else folder
        raise UsageError(
            f"{path}: no such file",
            expected="a Python file",
            found=asked,
            remedy=f"give an absolute path, or one relative to {start}.",
        )
    # The name carries the path, so that two files of one name do not share a place in sys.modules.
    key = f"_architecture_{hashlib.sha256(str(path.resolve()).encode()).hexdigest()[:16]}_{path.stem}"
    spec = importlib.util.spec_from_file_location(key, path)
    assert spec is not None and spec.loader is not None  # the name ends in .py
    module = importlib.util.module_from_spec(spec)
    sys.modules[key] = module
    with importing(path.parent):
        try:
            spec.loader.exec_module(module)
        except (Exception, SystemExit) as error:
            del sys.modules[key]
            raise _import_failed(str(path), error) from error
    return module


def _module(where: str, name: str, folder: Path) -> ModuleType:
    with importing(folder):
        try:
            return importlib.import_module(where)
        except ModuleNotFoundError as error:
            if error.name is None or not f"{where}.".startswith(f"{error.name}."):
                raise _import_failed(where, error) from error
            raise UsageError(
                f"{name}: there is no module `{where}`",
                expected="an installed module, or one in the folder it is looked up from",
                found=str(error),
                remedy="install it, or name a file: path/to/net.py:function.",
            ) from None
        except (Exception, SystemExit) as error:
            raise _import_failed(where, error) from error


def _import_failed(where: str, error: BaseException) -> RefusedError:
    return RefusedError(
        f"{where}: importing it failed",
        expected="a module that imports without errors",
        found=quote(error),
        remedy="run it with Python, and correct it.",
    )


@contextlib.contextmanager
def importing(folder: Path) -> Iterator[None]:
    """Let a builder import its neighbours, as a script run from that folder could."""
    entry = str(folder.resolve())
    sys.path.insert(0, entry)
    try:
        yield
    finally:
        with contextlib.suppress(ValueError):
            sys.path.remove(entry)
