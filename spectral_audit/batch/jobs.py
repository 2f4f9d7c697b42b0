"""Which models a batch is about: files, folders, patterns, and manifests with settings of their own."""

from __future__ import annotations

import glob
from collections.abc import Iterable
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from spectral_audit.errors import UsageError, nearest

CHECKPOINTS = (".pt", ".pth", ".ckpt", ".bin", ".safetensors", ".pt2")
_MANIFESTS = (".yaml", ".yml")


@dataclass(frozen=True)
class Job:
    """One model to audit and how: `audit.Request` in plain values, so that it can be hashed and sent elsewhere."""

    path: str
    spec: str | None = None
    data: str | None = None
    arch: str | None = None
    arch_kwargs: dict[str, Any] = field(default_factory=dict)
    weights: str | None = None
    trust: str = "none"
    allow_partial: bool = False
    n: int | None = None
    seed: int | None = None
    device: str = "auto"
    dtype: str = "float32"
    chunk: int | None = None
    memory: str | None = None
    aggregation: str = "rss"
    attribution: tuple[str, ...] = ()
    regime: str = "auto"


_KEYS = {entry.name: entry.type for entry in fields(Job)}


def find_jobs(targets: Iterable[str], common: Job) -> list[Job]:
    """The jobs that files, folders, patterns (`ckpts/**/*.pt`) and manifests name, each path once, in order of path.

    `common` holds the settings of the command line; a manifest's own settings come first. Raises UsageError for a
    target that names nothing.
    """
    found: dict[str, Job] = {}
    for target in targets:
        path = Path(target)
        if path.suffix.lower() in _MANIFESTS and path.is_file():
            listed = _manifest(path, common)
        else:
            listed = [replace(common, path=str(one)) for one in _expand(target)]
        if not listed:
            raise UsageError(
                f"{target}: no checkpoint there",
                expected=f"a file, a folder with {', '.join(CHECKPOINTS)}, a pattern, or a manifest in YAML",
                found="nothing",
                remedy="correct the path, and quote patterns",
            )
        # Absolute, but not resolved: a link is the name that people know a model by.
        found |= {str(Path(job.path).absolute()): job for job in listed}
    return [replace(found[path], path=path) for path in sorted(found)]


def _expand(target: str) -> list[Path]:
    path = Path(target)
    if path.is_dir():
        return [one for one in path.rglob("*") if one.suffix.lower() in CHECKPOINTS and one.is_file()]
    if path.exists():
        return [path]
    found = glob.glob(target, recursive=True)  # noqa: PTH207 (Path.glob takes no absolute patterns)
    return [one for one in map(Path, found) if one.is_file()]


def _manifest(path: Path, common: Job) -> list[Job]:
    """`{defaults: {...}, models: [{path: ..., spec: ...}]}`; paths are relative to the manifest."""
    import yaml

    try:
        document = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        first = (str(error).splitlines() or [""])[0]
        raise UsageError(
            f"{path}: cannot be read", expected="a manifest in YAML", found=first, remedy="correct it"
        ) from None
    models = document.get("models") if isinstance(document, dict) else None
    if not isinstance(models, list) or set(document) - {"version", "defaults", "models"}:
        raise _wrong(path, "a mapping with `models`, and perhaps `defaults` and `version`", document)
    defaults = document.get("defaults") or {}
    jobs = []
    for listed in models:
        entry = {"path": listed} if isinstance(listed, str) else listed
        if not isinstance(entry, dict) or not isinstance(entry.get("path"), str):
            raise _wrong(path, "models with a `path`", entry)
        settings = {**defaults, **entry}
        for key in settings:
            if key not in _KEYS:
                raise _wrong(path, nearest(str(key), _KEYS), key)
        for key in ("path", "spec"):
            if settings.get(key):
                settings[key] = str(path.parent / settings[key])
        jobs.append(replace(common, **settings))
    return jobs


def _wrong(path: Path, expected: str, found: object) -> UsageError:
    return UsageError(f"{path}: not a manifest", expected=expected, found=str(found)[:60], remedy="correct it there")
