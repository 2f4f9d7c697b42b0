"""What can be done about the binding axis, and how large a training step can be: plain values of the report."""

from __future__ import annotations

from dataclasses import dataclass

from .estimates import AxisName, Status


@dataclass(frozen=True)
class Carrier:
    """A parameter tensor and its share of the kernel's trace in the worst-case scaling."""

    name: str
    share: float


@dataclass(frozen=True)
class StepLimits:
    """The steps above which training diverges, by the quadratic model of the loss at these weights.

    With λ = `sharpness`, the upper end λmax + residual of the Hessian's largest eigenvalue: `gradient_descent` 2/λ and
    `heavy_ball` 2(1 + β)/λ at β = `momentum`. Adam at step η is stable while λmax of its *preconditioned* Hessian is
    below `adam`/η, (2 + 2β₁)/(1 − β₁) at β₁ = `momentum` (Cohen et al. 2022, arXiv 2207.14484); that eigenvalue is not
    measured here. `assumes` says when this holds. Without a positive λ there is no limit, and the status says so;
    `unconverged` is λmax's.
    """

    status: Status
    sharpness: float | None
    gradient_descent: float | None
    heavy_ball: float | None
    adam: float
    momentum: float
    gradient_norm: float
    assumes: tuple[str, ...]


@dataclass(frozen=True)
class Advice:
    """The functions of `spectral_audit.regularizers` that act on the binding axis, what carries it, and step sizes.

    `carriers` are the fewest tensors, three at most, that hold 90 % of the kernel's trace in the worst-case scaling;
    for the axis `curvature` they stand in for shares of the Hessian's. The axis `input` has none: an input Jacobian is
    no sum over tensors.
    """

    axis: AxisName | None
    penalties: tuple[str, ...]
    carriers: tuple[Carrier, ...]
    steps: StepLimits
