"""Where a model stands among others, in one sentence."""

from __future__ import annotations

from spectral_audit.results import AXES, Reference, Standing


def standing_line(reference: Reference | None) -> str:
    """The typical figures and the attribution score among those of the population; '' where nobody asked."""
    if reference is None:
        return ""
    if reference.reason:
        return f"Not comparable with {reference.population}: {reference.reason}."
    names: dict[str, str] = {axis: f"{axis}.typical" for axis in AXES}
    names |= {"GMSI": "gmsi.typical", "explanations": "attribution.score"}
    known = [(label, reference.standings[name]) for label, name in names.items() if name in reference.standings]
    shown = [f"{label} {_place(s)}" for label, s in known if s.place not in ("undefined", "not comparable")]
    if not shown:
        return f"Not comparable with {reference.population}: no figure was measured in the same way."
    other = [text for text in reference.differs if not text.startswith("n ")]
    about = ", ".join([f"{reference.models} models", f"n {reference.n}", *other])
    return f"Less stable than, in {reference.population}: typical {', '.join(shown)} ({about})."


def _place(standing: Standing) -> str:
    if standing.share is None:
        return f"{standing.place} {standing.models}"
    return f"{100 * standing.share:.0f} %"
