"""Loading what an audit needs, once, before the first one."""

from __future__ import annotations

import gc
from functools import cache


@cache
def load_engine() -> None:
    """Import torch and the whole engine, the first time, while the garbage collector rests.

    It would go through hundreds of thousands of objects several times, none of them garbage: a fifth of a second each
    time it is started. They are set aside for good, so that later collections do not go through them either.
    """
    resting = not gc.isenabled()
    gc.disable()
    try:
        from spectral_audit import audit  # noqa: F401 — loading it is what this is for
    finally:
        gc.freeze()
        if not resting:
            gc.enable()
