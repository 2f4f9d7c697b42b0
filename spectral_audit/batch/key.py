"""What a result depends on, as one hash: weights, data bytes, resolved settings, the code of a builder, the tool."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, is_dataclass
from pathlib import Path
from typing import Any

from spectral_audit import __version__
from spectral_audit.batch.jobs import Job
from spectral_audit.errors import AuditError
from spectral_audit.inputs.checkpoints.archive import sha256_of
from spectral_audit.inputs.spec import AuditSpec, DataSpec, data_at, find_spec, load_spec
from spectral_audit.results import DEFINITION, SCHEMA

# What changes how long an audit takes, and not what it finds.
_IRRELEVANT = ("path", "spec", "memory")


class Hashes:
    """Content hashes of files and folders, each read once as long as its size and time stay the same."""

    def __init__(self) -> None:
        self._known: dict[tuple[str, int, int], str] = {}

    def of(self, path: Path) -> str:
        """The hash of a file's bytes, or of a folder's names and bytes; `missing` where there is neither."""
        try:
            if path.is_dir():
                inner = sorted(one for one in path.rglob("*") if one.is_file())
                return _digest([[str(one.relative_to(path)), self.of(one)] for one in inner])
            stat = path.stat()
            key = (str(path), stat.st_size, stat.st_mtime_ns)
            if key not in self._known:
                self._known[key] = sha256_of(path)
            return self._known[key]
        except OSError as error:
            return f"missing: {type(error).__name__}"


def key_of(job: Job, hashes: Hashes) -> str:
    """The key under which a job's result is kept; the same key means the same figures.

    A job that cannot be run (no spec, no data) has a key too, which changes as soon as what is missing is there.
    """
    checkpoint = Path(job.path)
    spec_path = Path(job.spec) if job.spec else find_spec(checkpoint)
    settings = {name: value for name, value in asdict(job).items() if name not in _IRRELEVANT}
    return _digest(
        {
            "tool": [__version__, SCHEMA, DEFINITION],
            "weights": [hashes.of(checkpoint), *_shards(checkpoint, hashes)],
            "settings": settings,
            "code": [_code(name, Path(), hashes) for name in (job.arch, *job.attribution)],
            "data": _resolved(data_at(DataSpec(Path()), job.data, Path()), hashes) if job.data else "the spec's",
            "spec": _spec(spec_path, hashes),
        }
    )


def _shards(checkpoint: Path, hashes: Hashes) -> list[str]:
    """The files that an index of shards names."""
    if not checkpoint.name.endswith(".index.json"):
        return []
    try:
        names = set(json.loads(checkpoint.read_text(encoding="utf-8"))["weight_map"].values())
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return []
    return [hashes.of(checkpoint.parent / str(name)) for name in sorted(names)]


def _spec(path: Path | None, hashes: Hashes) -> Any:
    if path is None:
        return "none"
    try:
        spec = load_spec(path)
    except AuditError:
        return hashes.of(path)
    functions = (spec.model.builder, *spec.attribution.methods)
    return [_resolved(spec, hashes), *(_code(name, path.parent, hashes) for name in functions)]


def _resolved(value: Any, hashes: Hashes) -> Any:
    """A spec with its defaults filled in; files stand for their contents, wherever they lie."""
    if isinstance(value, DataSpec):
        # Its folder is only where names are looked up: its contents are not the data.
        named = {name: _resolved(part, hashes) for name, part in vars(value).items() if name not in ("folder", "path")}
        if value.source != "path":
            return [named, str(value.path), _code(str(value.path), value.folder, hashes)]
        return [named, hashes.of(value.path)]
    if isinstance(value, AuditSpec):
        return {name: _resolved(part, hashes) for name, part in vars(value).items() if name != "source"}
    if is_dataclass(value):
        return {name: _resolved(part, hashes) for name, part in vars(value).items()}
    if isinstance(value, Path):
        return hashes.of(value)
    return value


def _code(function: str | None, folder: Path, hashes: Hashes) -> str:
    """The contents of the file that a function stands in, where it is one."""
    file = (function or "").rpartition(":")[0]
    return hashes.of(folder / file) if file.endswith(".py") else ""


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode("utf-8", "surrogatepass")).hexdigest()
