"""How stable explanations are: drifts random and searched, their curve over radii, curvature, gates, and a score."""

from spectral_audit.lenses.attribution.maps import AttributionMap
from spectral_audit.lenses.attribution.presets import max_sensitivity
from spectral_audit.lenses.attribution.reading import read_attribution
from spectral_audit.lenses.attribution.settings import AttributionSettings, Callback

__all__ = ["AttributionMap", "AttributionSettings", "Callback", "max_sensitivity", "read_attribution"]
