"""max-sensitivity by captum and Quantus: |∇f_c|, uniform draws in the cube of captum's default radius."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from benchmarks.core import Outcome, Problem, Run

RADIUS, DRAWS = 0.02, 10
SEED = 1000  # added to the round: the nets' weights come from seed 0, and noise must not repeat them


def _targets(p: Problem) -> torch.Tensor:
    with torch.no_grad():
        return p.model(p.x).argmax(1)


def captum_sensitivity(p: Problem, batch: int) -> Run:
    """`sensitivity_max` for `batch` samples at a time, all draws of them in one pass."""
    from captum.attr import Saliency
    from captum.metrics import sensitivity_max

    target = _targets(p)
    attribute = Saliency(p.model).attribute

    def run() -> Any:
        torch.manual_seed(SEED + p.seed)
        found = torch.cat(
            [
                sensitivity_max(attribute, x, target=c, perturb_radius=RADIUS, n_perturb_samples=DRAWS)
                for x, c in zip(p.x.split(batch), target.split(batch), strict=True)
            ]
        )
        return lambda: Outcome(found.detach().double())

    return run


def quantus_sensitivity(p: Problem, batch: int) -> Run:
    """`MaxSensitivity` of the same attribution, its channels kept."""
    import quantus

    target = _targets(p).numpy()
    metric = quantus.MaxSensitivity(nr_samples=DRAWS, lower_bound=RADIUS, disable_warnings=True)
    explain = {"method": "Saliency", "reduce_axes": ()}

    def run() -> Any:
        np.random.seed(SEED + p.seed)
        found = metric(
            model=p.model,
            x_batch=p.x.numpy(),
            y_batch=target,
            explain_func=quantus.explain,
            explain_func_kwargs=explain,
            device="cpu",
            batch_size=batch,
        )
        return lambda: Outcome(torch.as_tensor(np.asarray(found)).double())

    return run
