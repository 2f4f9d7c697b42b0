"""What an audit finds about explanations, as frozen plain values: the attribution part of a report."""

from __future__ import annotations

from dataclasses import dataclass

from .estimates import Estimate, Status

SCORE_DEFINITION = "attribution-score/1"
METHODS = ("gradient", "input_x_gradient", "integrated_gradients", "smoothgrad")


@dataclass(frozen=True)
class Drift:
    """How far an attribution moved, over the samples: relative L2 ‖a(x+δ)−a(x)‖/‖a(x)‖, direction and ranking.

    `mean` carries its interval; `spearman` is taken over two draws; `flips` is the share of perturbations that
    changed the predicted class as well, and `same_class` the mean drift over the others, `None` where there are none.
    """

    mean: Estimate
    p95: float | None
    maximum: float | None
    cosine: float | None
    spearman: float | None
    top_k_overlap: float | None
    flips: float
    same_class: float | None


@dataclass(frozen=True)
class Sensitivity:
    """Sampled measures from the literature, over the random draws at the main radius; means over samples.

    `max_sensitivity` is the largest and `avg_sensitivity` the mean ‖a(x+δ)−a(x)‖/‖a(x)‖ of a sample's draws;
    `lipschitz` the largest ‖a(x+δ)−a(x)‖/‖δ‖. The relative stabilities are medians over samples, in log10, over draws
    that keep the predicted class; `None` where no draw does.
    """

    max_sensitivity: Estimate
    avg_sensitivity: Estimate
    lipschitz: Estimate
    relative_input_stability: Estimate | None
    relative_output_stability: Estimate | None


@dataclass(frozen=True)
class CurvePoint:
    """Drift at one radius: root mean squares over samples, and the first-order predictions beside them.

    `radius` is relative to the input scale, `None` where the spec gave an absolute one. `random_predicted` is
    ‖A‖_F r/(√d‖a‖) and `worst_predicted` ‖A‖₂r/‖a‖; `None` where A was not measured or does not predict them.
    """

    radius: float | None
    radius_absolute: float
    random: float | None
    random_predicted: float | None
    worst: float | None
    worst_predicted: float | None


@dataclass(frozen=True)
class Curvature:
    """The input Hessian A of the explained output: medians over samples, with intervals.

    `spectral` is ‖A‖₂ and `frobenius` ‖A‖_F; `condition_worst` is ‖A‖₂X/‖a‖, `condition_typical` ‖A‖_F X/(√d‖a‖);
    `stable_rank` is ‖A‖_F²/‖A‖₂². `entropy` is that of p_k = |λ_k|/Σ|λ|, in nats, a mean over `entropy_samples`
    samples by quadrature. `residual` is the largest relative residual of ‖A‖₂ over the samples, `frobenius_stderr` the
    median relative standard error of ‖A‖_F.
    """

    spectral: Estimate
    frobenius: Estimate
    condition_worst: Estimate
    condition_typical: Estimate
    stable_rank: Estimate
    entropy: Estimate
    entropy_samples: int
    residual: float
    frobenius_stderr: float
    status: Status = "ok"


@dataclass(frozen=True)
class Surrogate:
    """Condition numbers of the model with every ReLU replaced by softplus_β: a smoother model, not the audited one."""

    beta: float
    condition_worst: Estimate
    condition_typical: Estimate


@dataclass(frozen=True)
class Piecewise:
    """What takes the place of curvature in a piecewise-linear model, on its first `samples` samples.

    `gates` are the switches of one sample (signs at rectifiers, positions in max pooling); `flips_random` and
    `flips_worst` the shares of them that differ at the end of the random and the worst perturbation.
    """

    samples: int
    gates: int
    flips_random: float | None
    flips_worst: float | None
    surrogate: Surrogate | None


@dataclass(frozen=True)
class Link:
    """A proven inequality with both sides evaluated at the sample where they come closest.

    `assumes` says what the bound takes for granted, '' where it is certified; `holds` whether bound ≥ measured on all
    `samples`, within rounding and three times the standard error `stderr` of what was measured.
    """

    name: str
    bound: float
    measured: float
    stderr: float
    holds: bool
    samples: int
    assumes: str


@dataclass(frozen=True)
class PresetReading:
    """`max_sensitivity` by another library's definition, norm, radius and draws: a mean over samples."""

    name: str
    max_sensitivity: Estimate
    radius: float
    draws: int
    explanation: str


@dataclass(frozen=True)
class Explanation:
    """The stability of one attribution method.

    `score` is in [0, 1], 1 for an explanation that does not move, under random perturbations; `score_worst` under the
    worst ones found. `score_radius` is the relative radius where `score` is lowest, 0 for the first-order limit.
    `worst` is the larger of the random and the searched drift, sample by sample. `excluded` samples have a zero
    attribution.
    """

    method: str
    score: Estimate
    score_worst: Estimate
    score_radius: float | None
    random: Drift
    worst: Drift
    sensitivity: Sensitivity
    curve: tuple[CurvePoint, ...]
    excluded: int
    gradients: int


@dataclass(frozen=True)
class Attribution:
    """How stable the explanation is: the figures of the first method at the top, those of all under `methods`.

    `radius` is relative to the input scale, `radius_absolute` in model-input units of the stated space and norm.
    `curvature` is `None` where it is zero almost everywhere (`piecewise_linear`) or no Jacobian of this method's map:
    that is not stability, and the drifts at finite radii say more. `parts_at` is the smallest absolute radius of the
    curve where first order is off by more than a tenth. `gradients` counts per-sample gradients of all methods.
    """

    method: str
    target: str
    sign: str
    channels: str
    norm: str
    space: str
    radius: float | None
    radius_absolute: float
    top_k: int
    draws: int
    search_steps: int
    restarts: int
    gradients: int
    excluded: int
    piecewise_linear: bool
    score_definition: str
    score: Estimate
    score_worst: Estimate
    score_radius: float | None
    random: Drift
    worst: Drift
    sensitivity: Sensitivity
    curve: tuple[CurvePoint, ...]
    parts_at: float | None
    curvature: Curvature | None
    piecewise: Piecewise | None
    links: tuple[Link, ...]
    preset: PresetReading | None
    methods: dict[str, Explanation]


Picture = tuple[tuple[tuple[float, ...], ...], ...]


@dataclass(frozen=True)
class SheetRow:
    """One sample in pictures of plain numbers, channels × rows × columns; attributions share one scale."""

    input: Picture
    attribution: Picture
    under_random: Picture
    under_worst: Picture
    random: Picture
    worst: Picture
    random_drift: float
    worst_drift: float
    target: int
    flipped_random: bool
    flipped_worst: bool


@dataclass(frozen=True)
class Sheet:
    """A few samples of image data, with what the random and the worst perturbation do to their attributions."""

    method: str
    radius_absolute: float
    norm: str
    space: str
    rows: tuple[SheetRow, ...]
