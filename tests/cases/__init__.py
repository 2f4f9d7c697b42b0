"""CASES: name → builder of (model, x, y, loss), seeded, tiny, trained for a moment so that margins are positive."""

from tests.cases import heads, layers, sequences  # each registers its cases
from tests.cases.registry import CASES, PIECEWISE_LINEAR, Problem

__all__ = ["CASES", "PIECEWISE_LINEAR", "Problem", "heads", "layers", "sequences"]
