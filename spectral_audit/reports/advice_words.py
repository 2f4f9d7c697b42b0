"""How a report gives advice: shared by the terminal and the Markdown writer."""

from __future__ import annotations

from spectral_audit.advice import Advice, StepLimits
from spectral_audit.reports.words import number, percent


def remedy_text(advice: Advice) -> str:
    """Which penalty acts on the binding axis, and which tensors carry it."""
    if advice.axis is None:
        return "No axis binds."
    calls = " or ".join(f"regularizers.{call}" for call in advice.penalties)
    carried = ", ".join(f"{carrier.name} {percent(carrier.share)}" for carrier in advice.carriers)
    return f"{calls} acts on the axis {advice.axis}" + (f"; carried by {carried}" if carried else "")


def step_text(steps: StepLimits) -> str:
    """The largest stable steps in one sentence, with what they rest on."""
    norm = f"‖∇L‖ {number(steps.gradient_norm)}"
    if steps.gradient_descent is None:
        return f"no limit known: the Hessian has no positive eigenvalue here; {norm}"
    loose = ", λmax not converged" if steps.status == "unconverged" else ""
    return (
        f"below 2/λmax = {number(steps.gradient_descent)}, with momentum {steps.momentum:g} below "
        f"{number(steps.heavy_ball)}{loose}, if the loss is quadratic and batches are full; {norm}"
    )


def adaptive_text(steps: StepLimits) -> str:
    """What is known for Adam, whose Hessian is another one."""
    return (
        f"Adam (β₁ = {steps.momentum:g}) at step η is stable while λmax of its preconditioned Hessian is below "
        f"{number(steps.adam)}/η; that eigenvalue is not measured."
    )


def assumption_text(steps: StepLimits) -> str:
    """When the steps hold."""
    return f"Steps assume that {'; that '.join(steps.assumes)}."
