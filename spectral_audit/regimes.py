"""Exact or Krylov: by what either would cost and hold."""

from __future__ import annotations

from typing import Literal

from .errors import UsageError
from .results import Regime
from .subject import Subject
from .sweep import Study, exact_needs

RegimeChoice = Literal["auto", "exact", "krylov"]

# Rows nC that the exact kernels may have: their eigenvalues cost (nC)³.
MAX_ROWS = 5120
# Bytes that are always there: torch itself takes as many.
_LEAST_MEMORY = 256 * 2**20
# Passes over all samples that the Krylov regime takes, in forward passes: 140 vjps and jvps, each about three.
_KRYLOV_PASSES = 420
# Multiply-adds, some minutes, up to which the exact regime is taken even where it costs more: it leaves nothing out.
_AFFORDABLE = 2e13


def choose_regime(subject: Subject, plan: Study, asked: RegimeChoice) -> Regime:
    """The regime asked for, or for `auto` the exact one unless it does not fit or costs far more.

    Raises UsageError where the exact regime is asked for and is too large.
    """
    rows = subject.n * subject.outputs
    if asked == "krylov" or (asked == "auto" and rows > MAX_ROWS):
        return "krylov"
    if rows > MAX_ROWS:
        raise UsageError(
            "the kernel is too large for the exact regime",
            expected=f"samples × outputs of at most {MAX_ROWS}",
            found=f"{subject.n} × {subject.outputs} = {rows}",
            remedy=f"set sample.n to {MAX_ROWS // subject.outputs} or less (or pass --n)"
            if subject.outputs <= MAX_ROWS // 2
            else "leave out --regime exact",
        )
    needs = exact_needs(subject, plan)
    fits = needs.memory <= max(subject.memory, _LEAST_MEMORY)
    if asked == "exact" and not fits:
        raise UsageError(
            "the exact regime does not fit into the memory that may be used",
            expected=f"at most {subject.memory / 1e9:.3g} GB",
            found=f"{needs.memory / 1e9:.3g} GB for the rows and kernels of {rows} samples × outputs",
            remedy="lower --n, raise --memory, or leave out --regime exact",
        )
    cheap = needs.operations <= max(_AFFORDABLE, _KRYLOV_PASSES * needs.forward)
    return "exact" if asked == "exact" or (fits and cheap) else "krylov"
