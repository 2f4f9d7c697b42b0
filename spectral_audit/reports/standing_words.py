"""Where a model stands among others, in one sentence."""

from __future__ import annotations

from spectral_audit.results import AXES, Reference, Standing


def standing_line(reference: Reference | None) -> str:
    """The typical figures and the attribution score among those of the population; '' where nobody asked."""
    if reference is None:
        return ""
    if reference.reason:
        return f"Not comparable with {reference.population}: {reference.reason}."
    names: list[tuple[str, str]] = [(axis, f"{axis}.typical") for axis in AXES]
    names += [("GMSI", "gmsi.typical"), ("explanations", "attribution.score")]
    known = [(label, reference.standings[name]) for label, name in names if name in reference.standings]
    shown = [f"{label} {_place(s)}" for label, s in known if s.place not in ("undefined", "not comparable")]
    if not shown:
        return f"Not comparable with {reference.population}: no figure was measured in the same way."
    caveat = f" ({'; '.join(reference.differs)})" if reference.differs else ""
    return (
        f"More sensitive, typically, than this share of the {reference.models} models of {reference.population}: "
        f"{', '.join(shown)}{caveat}."
    )


def _place(standing: Standing) -> str:
    if standing.share is None:
        return f"{standing.place} {standing.models}"
    return f"{100 * standing.share:.0f} %"
