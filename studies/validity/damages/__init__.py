"""Real damage: what happens to the decisions and explanations of a trained model, counted on other samples.

One file for each thing that is perturbed. All of them return plain figures by name, seeded, the same draws for every
model of a data set.
"""

from __future__ import annotations

from torch import nn

from studies.validity.damages.explanations import attacked, drifts
from studies.validity.damages.inputs import adversarial, corruptions, noise
from studies.validity.damages.tuning import largest_stable_step
from studies.validity.damages.weights import pruned, rounded, shaken
from studies.validity.samples import Samples


def damage(model: nn.Module, s: Samples) -> dict[str, float | None]:
    """Every damage of one model by name; `None` where it does not exist for this data set."""
    out: dict[str, float | None] = {}
    for part in (noise, adversarial, corruptions, shaken, rounded, pruned, largest_stable_step, drifts, attacked):
        out |= part(model, s)
    return out
