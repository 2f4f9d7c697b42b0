"""The words that options take."""

from __future__ import annotations

from enum import Enum


class Format(str, Enum):
    """What goes to standard output."""

    rich = "rich"
    json = "json"
    yaml = "yaml"
    md = "md"


class TextFormat(str, Enum):
    """What a command without report files prints."""

    rich = "rich"
    json = "json"


class TrustLevel(str, Enum):
    """What a file may do: nothing, run programs and builders from a spec, or unpickle anything."""

    none = "none"
    code = "code"
    pickle = "pickle"


class EngineName(str, Enum):
    """Where the audits of a batch run: in processes of this machine, or on a Ray cluster."""

    local = "local"
    ray = "ray"


class Device(str, Enum):
    """Where to compute."""

    auto = "auto"
    cpu = "cpu"
    cuda = "cuda"
    mps = "mps"


class DType(str, Enum):
    """Precision of the passes through the model; sums over samples are float64 in any case."""

    float32 = "float32"
    float64 = "float64"


class Aggregation(str, Enum):
    """How the four axes become one index: root of the sum of squares, the largest, or the sum."""

    rss = "rss"
    max = "max"
    sum = "sum"


class Regime(str, Enum):
    """Kernels formed and solved exactly, or only multiplied with; chosen by their size."""

    auto = "auto"
    exact = "exact"
    krylov = "krylov"


class ComparisonFormat(str, Enum):
    """What a comparison prints."""

    rich = "rich"
    json = "json"
    md = "md"


class VerdictFormat(str, Enum):
    """What a gate prints."""

    rich = "rich"
    json = "json"
    md = "md"
    junit = "junit"
    sarif = "sarif"


class Inconclusive(str, Enum):
    """What an inconclusive rule makes of the verdict: exit code 4, a pass, or a failure."""

    report = "report"
    passes = "pass"
    fail = "fail"
