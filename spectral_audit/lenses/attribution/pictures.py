"""A few samples as pictures of plain numbers, for whoever draws them."""

from __future__ import annotations

from torch import Tensor

from spectral_audit.explanations import Picture, Sheet, SheetRow
from spectral_audit.lenses.attribution.maps import Move, predictions
from spectral_audit.lenses.attribution.study import MethodStudy

_ROWS = 6


def sheet(study: MethodStudy, random: Move, worst: Move) -> Sheet:
    """Living samples, evenly spaced over the order of their worst drift: some that hold and some that do not."""
    alive = study.alive.nonzero()[:, 0]
    ordered = alive[worst.drift[alive].argsort()]
    count = min(_ROWS, len(ordered))
    places = [round(k * (len(ordered) - 1) / max(1, count - 1)) for k in range(count)]
    settings, x = study.map.settings, study.map.subject.x
    rows = [
        SheetRow(
            input=_picture(x[i]),
            attribution=_picture(study.map.base[i]),
            under_random=_picture(random.a[i]),
            under_worst=_picture(worst.a[i]),
            random=_picture(random.delta[i]),
            worst=_picture(worst.delta[i]),
            random_drift=float(random.drift[i]),
            worst_drift=float(worst.drift[i]),
            target=int(study.map.target[i]),
            flipped_random=_flips(study, random, i),
            flipped_worst=_flips(study, worst, i),
        )
        for i in (int(ordered[p]) for p in places)
    ]
    return Sheet(study.map.method, study.points[-1].radius, settings.norm, settings.space, tuple(rows))


def _flips(study: MethodStudy, move: Move, i: int) -> bool:
    return bool(predictions(move.outputs[i : i + 1]) != study.map.predicted[i : i + 1])


def _picture(t: Tensor) -> Picture:
    """Channels × rows × columns of one sample (C, H, W)."""
    return tuple(tuple(tuple(row) for row in channel) for channel in t.detach().double().cpu().tolist())
