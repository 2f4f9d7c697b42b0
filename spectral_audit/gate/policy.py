"""Policies: rules that stand in a file, in pyproject.toml, or in a preset; the more specific one has the last word."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from spectral_audit.errors import UsageError, nearest
from spectral_audit.gate.rules import MaxIncrease, Rule, parse_increase, parse_level, parse_rule
from spectral_audit.gate.verdict import OnInconclusive

# A typical figure of s means: a random perturbation of 1/s of its own size reaches the decision boundary, to first
# order. The presets ask that 10, 20 and 50 % do not.
PRESETS: dict[str, dict[str, str]] = {
    "lenient": {"gmsi.typical<=10": "error", "axes.input.typical<=5": "warn"},
    "standard": {"gmsi.typical<=5": "error", "axes.input.typical<=2": "error", "gmsi.worst<=200": "warn"},
    "strict": {"gmsi.typical<=2": "error", "axes.input.typical<=1": "error", "gmsi.worst<=50": "error"},
}
_KEYS = ("version", "preset", "require", "max-increase", "baseline", "inconclusive")
_ON_INCONCLUSIVE = ("report", "pass", "fail")


@dataclass(frozen=True)
class Policy:
    """What is asked of a report: rules, limits of growth over a baseline, and what to make of an inconclusive rule."""

    rules: tuple[Rule, ...] = ()
    increases: tuple[MaxIncrease, ...] = ()
    baseline: Path | None = None
    on_inconclusive: OnInconclusive | None = None
    sources: tuple[str, ...] = field(default=())

    def over(self, below: Policy) -> Policy:
        """Both policies; where they speak of the same rule, this one decides."""
        rules = {(rule.path, rule.operator): rule for rule in (*below.rules, *self.rules)}
        increases = {(rule.path, rule.relative): rule for rule in (*below.increases, *self.increases)}
        return Policy(
            tuple(rules.values()),
            tuple(increases.values()),
            self.baseline or below.baseline,
            self.on_inconclusive or below.on_inconclusive,
            (*below.sources, *self.sources),
        )


def preset(name: str, source: str = "--preset") -> Policy:
    """The rules of a preset; raises UsageError for an unknown name."""
    if name not in PRESETS:
        raise UsageError(
            f"{source}: no such preset",
            expected=nearest(name, PRESETS),
            found=name,
            remedy="choose a known preset, or write the rules out",
        )
    rules = tuple(parse_rule(text, parse_level(level, source), source) for text, level in PRESETS[name].items())
    return Policy(rules, sources=(f"preset {name}",))


def load_policy(path: Path) -> Policy:
    """The policy in a YAML file; raises UsageError for one that cannot be read or holds an unknown key."""
    import yaml

    try:
        document = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        found = getattr(error, "strerror", None) or "bytes that are not UTF-8"
        raise UsageError(
            f"{path}: cannot be read", expected="a policy in YAML", found=found, remedy="name another file"
        ) from None
    except (yaml.YAMLError, RecursionError) as error:
        first = (str(error).splitlines() or ["nothing"])[0]
        raise UsageError(
            f"{path}: not valid YAML", expected="a policy in YAML", found=first, remedy="correct it"
        ) from None
    return _policy(document, str(path), path.parent)


def find_policy(start: Path) -> Policy:
    """What the nearest pyproject.toml at or above a folder says under `[tool.spectral-audit.gate]`, if anything."""
    for folder in (start, *start.parents):
        path = folder / "pyproject.toml"
        if path.is_file():
            found = _toml(path).get("tool", {}).get("spectral-audit", {})
            found = found.get("gate") if isinstance(found, dict) else found
            return Policy() if found is None else _policy(found, f"{path}: [tool.spectral-audit.gate]", folder)
    return Policy()


def _toml(path: Path) -> dict[str, Any]:
    if sys.version_info >= (3, 11):
        import tomllib
    else:
        import tomli as tomllib
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UsageError(
            f"{path}: cannot be read", expected="valid TOML", found=str(error), remedy="correct it, or give --policy"
        ) from None


def _policy(document: object, source: str, folder: Path) -> Policy:
    if not isinstance(document, Mapping):
        raise _wrong(source, "", f"a mapping with {', '.join(_KEYS)}", document)
    for key in document:
        if key not in _KEYS:
            raise _wrong(source, "", nearest(str(key), _KEYS), key)
    if document.get("version", 1) != 1:
        raise _wrong(source, "version", "1", document["version"])
    on_inconclusive = document.get("inconclusive")
    if on_inconclusive not in (None, *_ON_INCONCLUSIVE):
        raise _wrong(source, "inconclusive", " or ".join(_ON_INCONCLUSIVE), on_inconclusive)
    baseline = document.get("baseline")
    if baseline is not None and not isinstance(baseline, str):
        raise _wrong(source, "baseline", "the path of a saved report", baseline)
    require, increase = (_mapping(document, key, source) for key in ("require", "max-increase"))
    own = Policy(
        tuple(parse_rule(text, parse_level(level, source), source) for text, level in require.items()),
        tuple(parse_increase(text, parse_level(level, source), source) for text, level in increase.items()),
        folder / baseline if baseline else None,
        cast("OnInconclusive | None", on_inconclusive),
        (source,),
    )
    return own.over(preset(str(document["preset"]), source)) if document.get("preset") is not None else own


def _mapping(document: Mapping[str, Any], key: str, source: str) -> dict[str, object]:
    """Rules with their levels; a plain list has the level `error`."""
    found = document.get(key) or {}
    if isinstance(found, list) and all(isinstance(item, str) for item in found):
        return dict.fromkeys(found, "error")
    if not isinstance(found, Mapping) or not all(isinstance(item, str) for item in found):
        raise _wrong(source, key, "rules with their levels, or a list of rules", found)
    return dict(found)


def _wrong(source: str, key: str, expected: str, found: object) -> UsageError:
    place = f"{source}: `{key}`" if key else source
    return UsageError(f"{place} is not valid", expected=expected, found=str(found)[:60], remedy="correct it there")
