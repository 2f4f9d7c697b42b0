"""Whether two reports may be compared: different samples, sizes, definitions or precisions give different figures."""

from __future__ import annotations

from operator import attrgetter

from spectral_audit.comparison.changes import Difference
from spectral_audit.errors import RefusedError
from spectral_audit.results import Report

_FIELDS = (
    *("data.probe_sha256", "data.n", "gmsi.definition", "gmsi.aggregation", "gmsi.weights"),
    *("task.loss", "scales.output_kind", "engine.dtype"),
)
_EXPLANATION = ("method", "target", "sign", "channels", "norm", "space", "radius", "top_k", "score_definition")


def differences(old: Report, new: Report, *, attribution: bool = False) -> tuple[Difference, ...]:
    """The fields that would have to agree; those of the explanation where `attribution` figures are compared."""
    found = [(name, str(attrgetter(name)(old)), str(attrgetter(name)(new))) for name in _FIELDS]
    if attribution and old.attribution is not None and new.attribution is not None:
        for name in _EXPLANATION:
            ends = [str(getattr(report.attribution, name)) for report in (old, new)]
            found.append((f"attribution.{name}", ends[0], ends[1]))
    return tuple(Difference(*entry) for entry in found if entry[1] != entry[2])


def require_comparable(
    old: Report, new: Report, names: tuple[str, str], *, attribution: bool = False, force: bool = False
) -> tuple[Difference, ...]:
    """The differences between two reports; raises RefusedError, naming the fields, unless they are `force`d."""
    found = differences(old, new, attribution=attribution)
    if found and not force:
        raise RefusedError(
            f"{names[0]} and {names[1]} are not comparable",
            expected=f"the same {', '.join(item.field for item in found)}",
            found="; ".join(f"{item.field} {_short(item.old)} and {_short(item.new)}" for item in found),
            remedy="audit both on the same samples with the same settings, or add --force",
        )
    return found


def _short(text: str) -> str:
    return text if len(text) <= 40 else f"{text[:12]}…"
