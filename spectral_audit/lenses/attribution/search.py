"""The search for the perturbation that moves an attribution most, for all samples at once.

Power steps on the secant map δ ↦ a(x+δ) − a(x) = Ā(δ)δ, with Ā the Jacobian of the attribution averaged along the
segment: first gradients only, so that it also works where the Jacobian is zero almost everywhere. Ā is symmetric for
the gradient and for SmoothGrad; for other methods a step is a guess, and the result a lower bound as it always is.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from spectral_audit.lenses.attribution.draws import Ball
from spectral_audit.lenses.attribution.maps import AttributionMap, Move


def search(attribution_map: AttributionMap, ball: Ball, best: Move, starts: Sequence[Tensor], steps: int) -> Move:
    """The worst of `best` and of `steps` steps from every start, sample by sample.

    `starts` are directions (n, *shape). In the L2 ball every step is a power step. In the cube, ‖Āδ‖ grows by
    δ ← r·sign(Āᵀ(Āδ)): odd steps multiply with Ā alone.
    """
    for start in starts:
        direction = start.expand_as(best.delta)
        for k in range(steps):
            delta = ball.steepest(direction) if k % 2 == 0 else _second(ball, direction)
            move = attribution_map.move(delta)
            best = worse(best, move)
            direction = change(attribution_map, move)
    return best


def _second(ball: Ball, direction: Tensor) -> Tensor:
    return ball.along(direction) if ball.is_cube else ball.steepest(direction)


def worse(best: Move, move: Move) -> Move:
    """Sample by sample the move with the larger drift."""
    return best.where(move.drift > best.drift, move)


def change(attribution_map: AttributionMap, move: Move) -> Tensor:
    """a(x+δ) − a(x) as a direction in input space (n, *shape): pooled channels share theirs."""
    return (move.a - attribution_map.base).expand_as(move.delta)
