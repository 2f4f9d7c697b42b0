"""Why claims fail or hold: the same correlations by level and by kind of model."""

from __future__ import annotations

from studies.validity.table import Table


def why(table: Table) -> list[str]:
    """Blocks of the page."""
    return []
