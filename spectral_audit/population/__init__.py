"""Populations of audited models: where a report's figures stand among those of others.

The package ships one, `reference/1`, the zoo of `docs/validity.md`; `calibrate` makes another from a user's reports.
"""

from spectral_audit.population.calibrating import calibrate
from spectral_audit.population.model import FIGURES, Conditions, Population, load_population, shipped
from spectral_audit.population.placing import placed

__all__ = ["FIGURES", "Conditions", "Population", "calibrate", "load_population", "placed", "shipped"]
