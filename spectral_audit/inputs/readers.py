"""Readers of YAML values: one value in, one plain value out, or a `UsageError` that names the file and the key."""

from __future__ import annotations

import contextlib
import datetime
import math
import re
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from spectral_audit.errors import UsageError, nearest


@dataclass(frozen=True)
class Place:
    """Where a value stands: the file, and the keys that lead to it."""

    file: Path
    key: str = ""

    def at(self, key: str) -> Place:
        """The place one key deeper."""
        return Place(self.file, f"{self.key}.{key}" if self.key else key)

    def wrong(self, expected: str, value: object, remedy: str = "") -> UsageError:
        """The error for a value that is not what the key takes."""
        remedy = remedy or (f"change `{self.key}` in that file." if self.key else "rewrite that file.")
        subject = f"`{self.key}`" if self.key else "the document"
        return UsageError(f"{self.file}: {subject} is not valid", expected=expected, found=_show(value), remedy=remedy)


Reader = Callable[[Any, Place], Any]

_NUMBER = r"[+-]?(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d+)?"
_FRACTION = re.compile(rf"\s*({_NUMBER})\s*(?:/\s*({_NUMBER})\s*)?", re.ASCII)


def _show(value: object) -> str:
    """A value in a few words; collections by size only, because YAML aliases can make their text enormous."""
    if isinstance(value, Mapping):
        return f"a mapping of {len(value)}"
    if isinstance(value, (list, tuple, set)):
        return f"a list of {len(value)}"
    if value is None:
        return "nothing (null)"
    text = value if isinstance(value, str) else str(value)
    text = text if len(text) <= 60 else text[:57] + "..."
    return f"{text!r} (text)" if isinstance(value, str) else f"{text} ({type(value).__name__})"


def number(*, above: float = -math.inf) -> Reader:
    """A finite number or a fraction such as `8/255`, greater than `above`."""
    limit = "" if above == -math.inf else f", greater than {above:g}"

    def read(value: Any, place: Place) -> float:
        error = place.wrong(f"a finite number or a fraction such as 8/255{limit}", value)
        if isinstance(value, bool) or not isinstance(value, (int, float, str)):
            raise error
        try:
            number = _quotient(value) if isinstance(value, str) else float(value)
        except (ValueError, ZeroDivisionError, OverflowError):
            raise error from None
        if not (math.isfinite(number) and number > above):
            raise error
        return number

    return read


def _quotient(text: str) -> float:
    """The value of `a` or `a/b`; YAML 1.1 reads 1e-3 as text, so plain numbers pass through here too."""
    match = _FRACTION.fullmatch(text)
    if match is None:
        raise ValueError(text)
    return float(match[1]) / float(match[2] or 1)


def whole(least: int) -> Reader:
    """A whole number of at least `least` that fits 64 bits."""

    def read(value: Any, place: Place) -> int:
        # Seeds and sizes end up in 64-bit generators and indices.
        if isinstance(value, bool) or not isinstance(value, int) or not least <= value < 2**63:
            raise place.wrong(f"a whole number, at least {least}", value)
        return value

    return read


def text(value: Any, place: Place) -> str:
    """Text that is not empty."""
    if not isinstance(value, str) or not value:
        raise place.wrong("text that is not empty", value)
    return value


def optional(read: Reader) -> Reader:
    """Whatever `read` takes, or null."""
    return lambda value, place: None if value is None else read(value, place)


def one_of(*names: str) -> Reader:
    """One of these names."""

    def read(value: Any, place: Place) -> str:
        if value not in names:
            hint = nearest(value, names) if isinstance(value, str) else ""
            remedy = f"change `{place.key}` in that file; {hint}." if "did you mean" in hint else ""
            raise place.wrong(" or ".join(names), value, remedy)
        return str(value)

    return read


def numbers(*, above: float = -math.inf) -> Reader:
    """One number, or a list of them: one per channel."""
    one = number(above=above)

    def read(value: Any, place: Place) -> tuple[float, ...]:
        if not isinstance(value, list):
            return (one(value, place),)
        if not value:
            raise place.wrong("one number, or a list with one per channel", value)
        return tuple(one(item, place.at(str(i))) for i, item in enumerate(value))

    return read


def wholes(least: int) -> Reader:
    """One whole number, or a list of them."""
    one = whole(least)

    def read(value: Any, place: Place) -> tuple[int, ...]:
        if not isinstance(value, list):
            return (one(value, place),)
        if not value:
            raise place.wrong("a whole number, or a list of them", value)
        return tuple(one(item, place.at(str(i))) for i, item in enumerate(value))

    return read


def class_numbers(value: Any, place: Place) -> dict[str, int]:
    """Class numbers by label: a mapping, or a list of labels in the order of their numbers."""
    if isinstance(value, list):
        found: dict[str, int] = {}
        for i, name in enumerate(names(value, place)):
            if name in found:
                raise place.at(str(i)).wrong("a label that the list does not hold yet", name)
            found[name] = i
        return found
    if not isinstance(value, dict) or not value:
        raise place.wrong("a mapping from labels to class numbers, or a list of labels", value)
    return {str(label): whole(0)(number, place.at(str(label))) for label, number in value.items()}


def names(value: Any, place: Place) -> tuple[str, ...]:
    """A list of names; digits such as the classes of MNIST may be written without quotes."""
    if not isinstance(value, list):
        raise place.wrong("a list of names", value)
    for i, item in enumerate(value):
        if isinstance(item, bool) or not isinstance(item, (str, int)):
            raise place.at(str(i)).wrong("a name (quote it)", item)
    return tuple(str(item) for item in value)


def free(value: Any, place: Place) -> dict[str, object]:
    """A mapping passed on as it is: the keyword arguments of a builder."""
    if value is None:
        return {}
    if not isinstance(value, dict) or not all(isinstance(key, str) for key in value):
        raise place.wrong("a mapping from argument names to values", value)
    return dict(value)


def table(keys: Mapping[str, Reader], required: tuple[str, ...] = ()) -> Reader:
    """A mapping with these keys and no others; gives the values that are present."""

    def read(value: Any, place: Place) -> dict[str, Any]:
        if value is None and not required:
            return {}
        if not isinstance(value, dict):
            raise place.wrong("a mapping with " + ", ".join(keys), value)
        for key in value:
            if key not in keys:
                raise UsageError(
                    f"{place.file}: unknown key `{place.at(str(key)).key}`",
                    expected=f"one of: {', '.join(sorted(keys))}",
                    found=repr(str(key)[:60]),
                    remedy=f"remove it or correct it; {nearest(str(key), keys)}.",
                )
        for key in required:
            if key not in value:
                raise UsageError(
                    f"{place.file}: `{place.at(key).key}` is missing",
                    expected="that key, which has no default",
                    found=f"keys {', '.join(map(str, value)) or '(none)'}",
                    remedy=f"add `{place.at(key).key}` to that file.",
                )
        return {key: keys[key](item, place.at(key)) for key, item in value.items()}

    return read


class _Loader(yaml.SafeLoader):
    """YAML's safe loader, made to refuse equal keys (it would keep the last) and numbers too long to print.

    What cannot be a number or a date is told with its place, as all that YAML itself refuses.
    """

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                continue
            if (key.tag, key.value) in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key {key.value!r} appears twice", key.start_mark
                )
            seen.add((key.tag, key.value))
        return super().construct_mapping(node, deep)

    def construct_whole(self, node: yaml.ScalarNode) -> int:
        """An integer, unless Python would refuse to print it: hexadecimal ones may be of any length."""
        with contextlib.suppress(ValueError):
            value = int(super().construct_yaml_int(node))
            if value.bit_length() <= 1024:
                return value
        raise yaml.constructor.ConstructorError(None, None, "no integer of up to 1024 bits", node.start_mark)

    def construct_date(self, node: yaml.ScalarNode) -> datetime.date:
        """A date that the calendar has."""
        try:
            return super().construct_yaml_timestamp(node)
        except ValueError:
            raise yaml.constructor.ConstructorError(None, None, "no date of the calendar", node.start_mark) from None


_Loader.add_constructor("tag:yaml.org,2002:int", _Loader.construct_whole)
_Loader.add_constructor("tag:yaml.org,2002:timestamp", _Loader.construct_date)


def parse(path: Path) -> Any:
    """The YAML document in a file as plain values."""
    try:
        blob = path.read_bytes()
    except FileNotFoundError:
        raise UsageError(
            f"{path}: no such spec file",
            expected="a YAML file",
            found="nothing of that name",
            remedy="check the path given to --spec.",
        ) from None
    except OSError as error:
        raise UsageError(
            f"{path}: cannot be read",
            expected="a YAML file",
            found=error.strerror or str(error),
            remedy="give a readable file with --spec.",
        ) from None
    return parse_text(blob, path)


def parse_text(blob: bytes | str, path: Path) -> Any:
    """The YAML document in a text that came from `path`, as plain values."""
    try:
        text = blob if isinstance(blob, str) else blob.decode("utf-8-sig")
        loader = _Loader(text)
        loader.name = path.name  # it is named beside the line
        return loader.get_single_data()
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        deep = isinstance(error, RecursionError)
        found = "lists or mappings nested too deeply" if deep else " ".join(str(error).split())
        raise UsageError(
            f"{path}: not readable as YAML",
            expected="one YAML document in UTF-8, every key once",
            found=found[:300],
            remedy="correct that place.",
        ) from None
