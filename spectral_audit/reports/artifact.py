"""Reports as JSON and YAML, and back: driven by the type hints of the result classes, exact to the last bit."""

from __future__ import annotations

import json
import math
import re
import types
from collections.abc import Callable
from dataclasses import MISSING, fields, is_dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeVar, Union, get_args, get_origin, get_type_hints

import yaml

from spectral_audit.errors import RefusedError, UsageError, nearest
from spectral_audit.results import SCHEMA, Report

T = TypeVar("T")

_REMEDY = "audit the model again, or read the report with the version that wrote it"
_NAMES = {"object": "an object", "list": "a list", "map": "an object", "float": "a finite number"}
_NAMES |= {"int": "an integer", "str": "a string", "bool": "true or false", "choice": "a known name"}


@cache
def fields_of(kind: type) -> dict[str, Any]:
    """The fields of a result class with their resolved type hints, in order of definition."""
    return get_type_hints(kind)


def unwrap(hint: Any) -> tuple[Any, bool]:
    """A type hint without its `None`, and whether it had one."""
    if get_origin(hint) not in (Union, types.UnionType):
        return hint, False
    (inner,) = [member for member in get_args(hint) if member is not type(None)]
    return inner, True


def kind_of(hint: Any) -> str:
    """Which of the eight shapes a hint has: object, list, map, choice, float, int, str or bool."""
    if is_dataclass(hint):
        return "object"
    names: dict[Any, str] = {tuple: "list", dict: "map", Literal: "choice"}
    return names.get(get_origin(hint)) or str(hint.__name__)


def _is_scalar(kind: str, value: object) -> bool:
    """Whether a value may stand for a float, int, str or bool; a bool is no number, an int is a float."""
    if isinstance(value, bool):
        return kind == "bool"
    accepted: dict[str, tuple[type, ...]] = {"float": (int, float), "int": (int,), "str": (str,)}
    return isinstance(value, accepted.get(kind, ()))


def encode(value: object) -> dict[str, Any]:
    """A result object as plain dicts, lists and scalars, keys in order of definition.

    Raises TypeError or ValueError, naming the key, for a field that breaks its own type hint or is not finite.
    """
    if not is_dataclass(value) or isinstance(value, type):
        raise TypeError(f"only result objects can be encoded, not {type(value).__name__}")
    return _encode_object(type(value), value, "")


def _encode_object(kind: type, value: object, where: str) -> dict[str, Any]:
    if not isinstance(value, kind):
        raise TypeError(f"{where or kind.__name__}: expected {kind.__name__}, found {value!r}")
    return {name: _encode(hint, getattr(value, name), _join(where, name)) for name, hint in fields_of(kind).items()}


def _encode(hint: Any, value: Any, where: str) -> Any:
    inner, nullable = unwrap(hint)
    if value is None and nullable:
        return None
    kind = kind_of(inner)
    if kind == "object":
        return _encode_object(inner, value, where)
    if kind == "list" and isinstance(value, tuple):
        return [_encode(get_args(inner)[0], item, f"{where}[{index}]") for index, item in enumerate(value)]
    if kind == "map" and isinstance(value, dict):
        return {str(key): _encode(get_args(inner)[1], item, _join(where, key)) for key, item in value.items()}
    return _encode_scalar(inner, kind, value, where)


def _encode_scalar(hint: Any, kind: str, value: Any, where: str) -> Any:
    if kind == "choice" and value in get_args(hint):
        return value
    if not _is_scalar(kind, value):
        raise TypeError(f"{where}: expected {_NAMES[kind]}, found {value!r}")
    # Subclasses (NumPy's float64 is one of float) become the plain type: YAML knows no other.
    plain = hint(value)
    if kind == "float" and not math.isfinite(plain):
        raise ValueError(f"{where}: {plain} is not finite; a figure that does not exist is None")
    return plain


class _At(NamedTuple):
    """Where in which document the decoder stands."""

    source: str
    key: str = ""

    def child(self, name: object) -> _At:
        return _At(self.source, _join(self.key, name))

    def item(self, index: int) -> _At:
        return _At(self.source, f"{self.key}[{index}]")

    def refuse(self, problem: str, *, expected: str, found: str) -> RefusedError:
        place = f"{self.source}: `{self.key}`" if self.key else f"{self.source}: the document"
        return RefusedError(f"{place} {problem}", expected=expected, found=found, remedy=_REMEDY)


def decode(document: object, *, source: str = "report") -> Report:
    """The report in a plain document.

    `source` names the file in errors. Raises RefusedError for another schema version, a missing or unknown key, or a
    value of the wrong type.
    """
    found = document.get("schema") if isinstance(document, dict) else None
    if isinstance(document, dict) and found != SCHEMA:
        raise _At(source, "schema").refuse("is not one this version reads", expected=SCHEMA, found=_show(found))
    return decode_as(Report, document, source=source)


def decode_as(kind: type[T], document: object, *, source: str = "document") -> T:
    """One result object of the given class from a plain document; raises RefusedError as `decode` does."""
    return _decode_object(kind, document, _At(source))


def _decode(hint: Any, value: Any, at: _At) -> Any:
    inner, nullable = unwrap(hint)
    if value is None and nullable:
        return None
    return _DECODERS.get(kind_of(inner), _decode_scalar)(inner, value, at)


def _decode_object(kind: Any, value: Any, at: _At) -> Any:
    hints, optional = fields_of(kind), _optional(kind)
    if not isinstance(value, dict):
        raise at.refuse("has the wrong type", expected=f"an object with {', '.join(hints)}", found=_show(value))
    for key in value:
        if key not in hints:
            raise at.child(key).refuse("is unknown", expected=nearest(str(key), hints), found=_show(value[key]))
    for key in hints:
        if key not in value and key not in optional:
            raise at.child(key).refuse("is missing", expected=_NAMES[kind_of(unwrap(hints[key])[0])], found="nothing")
    return kind(**{key: _decode(hint, value[key], at.child(key)) for key, hint in hints.items() if key in value})


@cache
def _optional(kind: type) -> frozenset[str]:
    """The fields with defaults: reports written before there were such fields lack them."""
    return frozenset(f.name for f in fields(kind) if f.default is not MISSING or f.default_factory is not MISSING)


def _decode_list(hint: Any, value: Any, at: _At) -> tuple[Any, ...]:
    if not isinstance(value, list):
        raise at.refuse("has the wrong type", expected=_NAMES["list"], found=_show(value))
    inner = get_args(hint)[0]
    if inner is float and all(type(item) is float and math.isfinite(item) for item in value):
        return tuple(value)  # most of a report, which a gate reads before it can answer
    return tuple(_decode(inner, item, at.item(index)) for index, item in enumerate(value))


def _decode_map(hint: Any, value: Any, at: _At) -> dict[str, Any]:
    if not isinstance(value, dict) or not all(isinstance(key, str) for key in value):
        raise at.refuse("has the wrong type", expected="an object with string keys", found=_show(value))
    return {key: _decode(get_args(hint)[1], item, at.child(key)) for key, item in value.items()}


def _decode_choice(hint: Any, value: Any, at: _At) -> str:
    known = [str(name) for name in get_args(hint)]
    if not isinstance(value, str) or value not in known:
        raise at.refuse("is not a known name", expected=nearest(str(value), known), found=_show(value))
    return value


def _decode_scalar(hint: Any, value: Any, at: _At) -> Any:
    kind = kind_of(hint)
    if not _is_scalar(kind, value):
        raise at.refuse("has the wrong type", expected=_NAMES[kind], found=_show(value))
    try:
        plain = hint(value)
    except OverflowError:  # an integer too large for a float
        plain = math.inf
    if kind == "float" and not math.isfinite(plain):
        raise at.refuse(
            "is not finite", expected="a finite number, or null where it may be undefined", found=str(plain)
        )
    return plain


_DECODERS: dict[str, Callable[[Any, Any, _At], Any]] = {
    "object": _decode_object,
    "list": _decode_list,
    "map": _decode_map,
    "choice": _decode_choice,
}


def _join(where: str, name: object) -> str:
    return f"{where}.{name}" if where else str(name)


def _show(value: object) -> str:
    names = {dict: "an object", list: "a list", type(None): "null"}
    text = names.get(type(value)) or repr(value)
    return text if len(text) <= 60 else f"{text[:59]}…"


def to_json(value: object) -> str:
    """A result object as strict JSON: objects one key to a line, lists of scalars on one line."""
    text = _layout(encode(value), "") + "\n"
    # A path that is not valid UTF-8 reaches us as lone surrogates, which a UTF-8 file cannot hold.
    return re.sub("[\ud800-\udfff]", lambda match: f"\\u{ord(match[0]):04x}", text)


def _layout(value: Any, indent: str) -> str:
    deeper = indent + "  "
    if isinstance(value, dict) and value:
        items = [f"{deeper}{_dump(key)}: {_layout(item, deeper)}" for key, item in value.items()]
        return "{\n" + ",\n".join(items) + "\n" + indent + "}"
    if isinstance(value, list) and any(isinstance(item, (dict, list)) for item in value):
        return "[\n" + ",\n".join(deeper + _layout(item, deeper) for item in value) + "\n" + indent + "]"
    return _dump(value)


def _dump(value: Any) -> str:
    return json.dumps(value, allow_nan=False, ensure_ascii=False)


def from_json(text: str, *, source: str = "report") -> Report:
    """The report in a JSON text; raises RefusedError, naming `source`, when it is not one."""
    try:
        document = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise _unreadable("JSON", source, error) from error
    return decode(document, source=source)


class _Dumper(yaml.SafeDumper):
    """PyYAML's dumper, with unprintable characters escaped: it would write some, such as U+0085, as line breaks."""


def _represent_text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=None if text.isprintable() else '"')


_Dumper.add_representer(str, _represent_text)


def to_yaml(value: object) -> str:
    """A result object as YAML, small objects and lists of scalars in flow style."""
    document = encode(value)
    return yaml.dump(document, Dumper=_Dumper, sort_keys=False, allow_unicode=True, default_flow_style=None, width=120)


def from_yaml(text: str, *, source: str = "report") -> Report:
    """The report in a YAML text; raises RefusedError, naming `source`, when it is not one."""
    # libyaml is fast, but rejects the lone surrogates of a path that is not valid UTF-8.
    surrogates = re.search(r"\\u[dD][89a-fA-F]", text) is not None
    try:
        document = yaml.load(
            text, Loader=yaml.SafeLoader if surrogates else getattr(yaml, "CSafeLoader", yaml.SafeLoader)
        )
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise _unreadable("YAML", source, error) from error
    return decode(document, source=source)


def _unreadable(language: str, source: str, error: Exception) -> RefusedError:
    first = (str(error).splitlines() or [type(error).__name__])[0]
    return RefusedError(f"{source}: not valid {language}", expected="a saved report", found=first, remedy=_REMEDY)


_READERS = {".json": from_json, ".yaml": from_yaml, ".yml": from_yaml}


def load_report(path: Path) -> Report:
    """The report saved in a .json, .yaml or .yml file.

    Raises UsageError for another suffix and RefusedError for a file that cannot be read or holds no report.
    """
    reader = _READERS.get(path.suffix.lower())
    if reader is None:
        remedy = "name the report.json or report.yaml of an audit"
        raise UsageError(f"{path}: not a saved report", expected=", ".join(_READERS), found=path.suffix, remedy=remedy)
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        found = getattr(error, "strerror", None) or "bytes that are not UTF-8"
        remedy = "name the report.json or report.yaml of an audit"
        raise RefusedError(f"{path}: cannot be read", expected="a saved report", found=found, remedy=remedy) from error
    return reader(text, source=str(path))
